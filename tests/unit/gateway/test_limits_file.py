from pathlib import Path

import pytest

from services.gateway.adapters.limits_file import read_limits
from services.kit.settings import SettingsError, shipped_config


def write(folder: Path, text: str) -> Path:
    (folder / "limits.yaml").write_text(text, encoding="utf-8")
    return folder


def test_the_shipped_file_is_read() -> None:
    assert read_limits(shipped_config()).key_defaults.input_tokens_per_request == 200_000


def test_zero_stays_zero(tmp_path: Path) -> None:
    folder = write(tmp_path, "defaults:\n  input_tokens_per_request: 0\n")
    assert read_limits(folder).key_defaults.input_tokens_per_request == 0


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("defaults:\n\n  input_tokens_per_request: -1\n", 3, "input_tokens_per_request"),
        ("defaults:\n  input_tokens_per_request: many\n", 2, "input_tokens_per_request"),
        ("defaults:\n  input_tokens_per_request: 1\n  colour: red\n", 3, "colour"),
        ("{}\n", 1, "defaults"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(SettingsError, match=rf"limits\.yaml:{line}: .*{said}"):
        read_limits(write(tmp_path, text))


def test_what_is_no_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"limits\.yaml:3"):
        read_limits(write(tmp_path, "defaults:\n  - [\n"))


def test_a_missing_file_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="QUARTET_CONFIG_DIR"):
        read_limits(tmp_path)
