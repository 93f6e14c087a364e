import os
from pathlib import Path

import pytest

from services.cli.stack.home import hold_home, keep_secret
from services.cli.stack.supervisor import StackError


def test_a_second_stack_in_the_same_home_is_told_who_holds_it(tmp_path: Path) -> None:
    complaint = rf"process {os.getpid()}\).*QUARTET_HOME"
    with hold_home(tmp_path), pytest.raises(StackError, match=complaint), hold_home(tmp_path):
        pass


def test_a_home_is_free_again_after_its_stack_ended(tmp_path: Path) -> None:
    with hold_home(tmp_path):
        pass
    with hold_home(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "redis.password"
    secret = keep_secret(path)
    assert len(secret) == 32
    assert keep_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_secret_whose_making_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "redis.new").write_text("half")
    assert keep_secret(tmp_path / "redis.password") != "half"
