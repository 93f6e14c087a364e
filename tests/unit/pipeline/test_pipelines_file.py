from pathlib import Path

import pytest

from services.kit.config_file import ConfigFile
from services.kit.settings import SettingsError
from services.pipeline.domain.configuration import PipelinesFile
from services.pipeline.domain.embedding import Embedder
from services.pipeline.domain.pipeline import Pipeline
from services.pipeline.domain.stages.build import StageParts
from services.pipeline.settings import Settings
from services.pipeline.wiring import build_pipelines
from tests.doubles.router import FakeRouter

SHIPPED = (Settings().config_dir / "pipelines.yaml").read_text(encoding="utf-8")


class Nothing:
    """Stands for the parts that are only called when a pipeline runs."""


def read(folder: Path, text: str) -> dict[str, Pipeline]:
    path = folder / "pipelines.yaml"
    path.write_text(text, encoding="utf-8")
    source = ConfigFile(path)
    declared = source.read(PipelinesFile)
    router, nothing = FakeRouter(), Nothing()
    parts = StageParts(
        router=router,
        reader=nothing,  # type: ignore[arg-type]
        store=nothing,  # type: ignore[arg-type]
        embedder=Embedder(router, declared.embedders),
        templates=declared.templates,
        default_model="local/minilm",
    )
    return build_pipelines(source, declared, parts)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_the_shipped_file_declares_the_six_stages_with_their_settings(tmp_path: Path) -> None:
    (pipeline,) = read(tmp_path, SHIPPED).values()
    shown = pipeline.to_proto()
    assert shown.name == "rag_answer"
    assert [stage.name for stage in shown.stages] == [
        "chunk",
        "embed",
        "retrieve",
        "augment",
        "generate",
        "validate",
    ]
    assert '"max_tokens":2000' in shown.stages[4].settings_json
    assert '"top_k":5' in shown.stages[2].settings_json


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("top_k: 5", "top_kk: 5", "stages.2.top_kk: Extra inputs are not permitted"),
        ("top_k: 5", "top_k: 0", "stages.2.top_k: Input should be greater than or equal to 1"),
        ("kind: embed", "kind: embedd", "stages.1: "),
        ("threshold: 0.75", "threshold: 7.5", "threshold: Input should be less than or equal to 1"),
        ("template: answer", "template: other_answer", "template: there is no template 'other_answer"),
        ("route: technical", "model: x\n        route: y", "stages.4: set either `route` or `model`"),
        ("kind: augment", "kind: [augment", "expected ',' or ']'"),
    ],
)
def test_a_fault_is_told_with_its_line_and_reason(tmp_path: Path, old: str, new: str, fault: str) -> None:
    text = SHIPPED.replace(old, new, 1)
    with pytest.raises(SettingsError) as refusal:
        read(tmp_path, text)
    message = str(refusal.value)
    assert fault in message
    where = message.split(":")[1]
    assert abs(int(where) - line_of(text, new)) <= 1, message


def test_a_stage_whose_needs_no_earlier_stage_meets_is_refused(tmp_path: Path) -> None:
    text = SHIPPED.replace("      - kind: embed\n", "", 1)
    with pytest.raises(
        SettingsError, match="'retrieve' needs chunk_vectors, query_vector, which no earlier"
    ) as refusal:
        read(tmp_path, text)
    assert f":{line_of(text, '- kind: retrieve')}:" in str(refusal.value)


def test_a_stage_that_gives_what_is_there_is_refused(tmp_path: Path) -> None:
    text = SHIPPED.replace("      - kind: chunk\n", "      - kind: chunk\n      - kind: chunk\n", 1)
    with pytest.raises(SettingsError, match="'chunk' gives chunks, which an earlier stage gave"):
        read(tmp_path, text)


def test_a_pipeline_without_an_answer_is_refused(tmp_path: Path) -> None:
    text = SHIPPED[: SHIPPED.index("      # Either a route")]
    with pytest.raises(SettingsError, match="no stage gives an answer"):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: cannot be read: No such file"):
        ConfigFile(tmp_path / "none.yaml")
