"""Every reason that code can give has its remedy in docs/errors.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_reason_is_documented() -> None:
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs" / "errors.md").read_text("utf-8")))
    raised = {
        reason
        for path in (ROOT / "services").rglob("*.py")
        for reason in re.findall(r'reason="([A-Z0-9_]+)"', path.read_text("utf-8"))
    }
    assert len(raised) > 30
    assert raised - documented == set()
