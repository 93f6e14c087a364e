import json

from services.kit.errors import Unavailable
from tests.contract.cli.edge import KEY, QUOTE, TEXT, Edge

MISSING = "no OPENAI_API_KEY or OPENAI_BASE_URL is set"


def rows(text: str) -> list[list[str]]:
    """The cells of plain tables, whose columns stand two spaces apart."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines() if line]


async def test_explain_shows_the_decision_and_why_candidates_were_rejected(edge: Edge) -> None:
    result = await edge.run("explain", "def f(): pass")
    assert result.code == 0, result.err
    assert edge.generations[0].target.name == "auto"
    assert rows(result.out) == [
        ["route", "technical"],
        ["intent", "technical"],
        ["confidence", "1.00"],
        ["rule", "code_words"],
        ["handler", "local/extractive"],
        ["input", "9 tokens"],
        ["warning", "gpt-4o-mini was shut down: gpt-6-luna takes over"],
        ["candidate", "provider", "estimated cost", "outcome"],
        ["gpt-6-luna", "openai", "$0.00425", MISSING],
        ["local/extractive", "local", "$0.00", "chosen"],
    ]


async def test_explain_tells_what_becomes_of_a_session(edge: Edge) -> None:
    result = await edge.run("explain", "Thanks.", "--session", "s1")
    assert edge.generations[0].session == "s1"
    assert ["session", "stays on local/extractive"] in rows(result.out)


async def test_explain_bears_labels_as_the_request_would(edge: Edge) -> None:
    await edge.run("explain", "Thanks.", "--label", "team=search", "--label", "tier=a=b")
    assert dict(edge.generations[0].labels) == {"team": "search", "tier": "a=b"}
    refused = await edge.run("explain", "Thanks.", "--label", "team")
    assert (refused.code, len(edge.generations)) == (2, 1)
    assert "NAME=VALUE" in refused.err


async def test_explain_as_json_keeps_the_contracts_names(edge: Edge) -> None:
    result = await edge.run("explain", "Why?", "--json")
    explained = json.loads(result.out)
    assert explained["input_tokens"] == 9
    assert explained["decision"]["candidates"][0]["estimated_cost_micro_usd"] == 4250
    assert explained["decision"]["candidates"][0]["chosen"] is False


async def test_status_tells_each_part_the_models_and_the_collections(edge: Edge) -> None:
    result = await edge.run("status")
    assert result.code == 0, result.err
    told = rows(result.out)
    assert [row[:2] for row in told[2:6]] == [
        ["gateway", "up"],
        ["router", "up"],
        ["pipeline", "up"],
        ["orchestrator", "up"],
    ]
    assert "1 of 2 models can answer: local/extractive\n" in result.out
    assert f"  {MISSING}: gpt-6-luna\n" in result.out
    assert ["default", "12", "340", "local/minilm"] in told


async def test_status_names_the_part_that_is_down(edge: Edge) -> None:
    edge.failures["list_collections"] = Unavailable("the pipeline cannot be reached", reason="PIPELINE_DOWN")
    result = await edge.run("status")
    assert result.code == 1
    assert "the pipeline cannot be reached [PIPELINE_DOWN" in result.out
    assert "the suite is not up" in result.err
    assert "`make run`" in result.err


async def test_status_without_a_suite_says_how_to_start_one(edge: Edge, closed_port: int) -> None:
    environment = {"QUARTET_URL": f"http://127.0.0.1:{closed_port}"}
    result = await edge.run("status", environment=environment)
    assert result.code == 1
    assert "Connection refused" in result.out
    assert "`make run`" in result.err
    as_json = await edge.run("status", "--json", environment=environment)
    assert as_json.code == 1
    assert json.loads(as_json.out)["up"] is False


async def test_status_tells_a_wrong_key_from_a_suite_that_is_down(edge: Edge) -> None:
    result = await edge.run("status", environment={"QUARTET_API_KEY": "wrong"})
    assert result.code == 1
    assert [row[0] for row in rows(result.out)[2:]] == ["gateway", "key"]
    assert "The key that was sent is not valid" in result.err


async def test_models_lists_every_name(edge: Edge) -> None:
    result = await edge.run("models")
    assert rows(result.out)[1:] == [
        ["auto", "auto", "ready"],
        ["local/extractive", "local", "$0.00", "$0.00", "ready"],
        ["gpt-6-luna", "openai", "$1.25", "$10.00", "above 272,000: $2.50 in, $15.00 out", MISSING],
    ]


async def test_documents_are_listed_and_a_further_page_is_told(edge: Edge) -> None:
    result = await edge.run("documents", "list")
    assert rows(result.out)[1] == ["docs/architecture.md", "Architecture", "4", "doc-1"]
    assert result.err == "there is more: --page more-1\n"
    unknown = await edge.run("documents", "list", "-c", "other")
    assert (unknown.code, unknown.out) == (1, "")
    assert "there is no collection other [COLLECTION_NOT_FOUND" in unknown.err


async def test_collections_are_listed(edge: Edge) -> None:
    result = await edge.run("collections", "--json")
    assert json.loads(result.out)["collections"][0]["document_count"] == 12


async def test_search_shows_passages_and_where_they_stand(edge: Edge) -> None:
    result = await edge.run("search", "routing", "--top", "2")
    assert (
        result.out.splitlines()
        == [
            "0.710 Architecture (docs/architecture.md), characters 120-174",
            f"      routing: {QUOTE}",
        ]
        * 2
    )


async def test_a_run_is_listed_shown_followed_and_stopped(edge: Edge) -> None:
    listed = await edge.run("runs", "list")
    assert rows(listed.out)[1] == ["run-7", "succeeded", "max iterations", "8", "7", "$1.00007"]
    shown = await edge.run("runs", "show", "run-7")
    assert shown.out.splitlines()[2] == TEXT
    watched = await edge.run("runs", "watch", "run-7", "--from", "4")
    assert watched.code == 0, watched.err
    assert watched.out.splitlines()[0] == "replan 2: confidence 0.31 < 0.70"
    assert watched.out.endswith(shown.out)
    cancelled = await edge.run("runs", "cancel", "run-7")
    assert cancelled.code == 0
    assert edge.cancelled == ["run-7"]


async def test_a_run_that_is_not_there_is_said_to_be_unknown(edge: Edge) -> None:
    result = await edge.run("runs", "show", "run-8")
    assert result.code == 1
    assert "there is no run run-8 [RUN_NOT_FOUND" in result.err


async def test_the_key_is_never_written(edge: Edge) -> None:
    result = await edge.run("status", "--json")
    assert KEY not in result.out + result.err


async def test_pipes_get_no_control_codes(edge: Edge) -> None:
    for arguments in (("status",), ("ask", "Why?", "--agent"), ("explain", "Why?")):
        result = await edge.run(*arguments, environment={"TERM": "xterm-256color"})
        assert "\x1b" not in result.out + result.err
