import pytest
import typer
from typer.testing import CliRunner

from services.cli.__main__ import app
from services.cli.commands.ask import choose_target


@pytest.mark.parametrize(
    ("model", "collection", "agent", "target"),
    [
        ("", "", False, "rag/default"),
        ("", "handbook", False, "rag/handbook"),
        ("", "", True, "agent/default"),
        ("", "handbook", True, "agent/handbook"),
        ("auto", "", False, "auto"),
        ("route/technical", "", False, "route/technical"),
    ],
)
def test_the_options_name_who_answers(model: str, collection: str, agent: bool, target: str) -> None:
    assert choose_target(model, collection, agent=agent) == target


def test_a_default_holds_until_a_collection_is_named() -> None:
    assert choose_target("", "", agent=False, default="auto") == "auto"
    assert choose_target("", "handbook", agent=False, default="auto") == "rag/handbook"


@pytest.mark.parametrize(("collection", "agent"), [("handbook", False), ("", True)])
def test_a_model_names_its_collection_itself(collection: str, agent: bool) -> None:
    with pytest.raises(typer.BadParameter, match="rag/NAME"):
        choose_target("auto", collection, agent=agent)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ask", "Why?", "--agent", "--model", "auto"], "--model does not go with"),
        (["ask", "  "], "there is nothing in it"),
        (["explain", "-"], "stdin is empty"),
        (["ask"], "Missing argument"),
        (["ingest", "/nowhere"], "does not exist"),
        (["search", "x", "--top", "0"], "--top"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_wrong_setting_ends_with_2_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_URL", "localhost:8080")
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: QUARTET_URL: ")
