import os
from pathlib import Path

import pytest

from services.cli.settings import StackSettings
from services.cli.stack.cluster import Place, choose_place, ensure_cluster, find_binaries
from services.cli.stack.process import Account
from services.cli.stack.supervisor import StackError


def test_the_binaries_are_found_without_the_code_of_their_package() -> None:
    binaries = find_binaries()
    assert os.access(binaries / "postgres", os.X_OK)
    assert (binaries.parent / "lib" / "postgresql" / "vector.so").exists()


def test_a_cluster_of_an_older_major_version_is_refused(tmp_path: Path) -> None:
    place = Place(folder=tmp_path, account=None)
    place.data.mkdir()
    (place.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(
        StackError, match="made by PostgreSQL 16, this release runs 18: move that folder away"
    ):
        ensure_cluster(find_binaries(), place, "secret")


def test_a_cluster_of_another_account_is_refused(tmp_path: Path) -> None:
    place = Place(folder=tmp_path, account=Account(name="other", uid=os.geteuid() + 1, gid=0))
    place.data.mkdir()
    (place.data / "PG_VERSION").write_text("18\n")
    with pytest.raises(StackError, match="belongs to another account"):
        ensure_cluster(find_binaries(), place, "secret")


def test_the_place_of_a_cluster_is_chosen_once(tmp_path: Path) -> None:
    home, root = tmp_path / "home", tmp_path / "root"
    home.mkdir()
    (home / "postgres.path").write_text(f"{root}\n")
    assert choose_place(StackSettings.model_validate({"home": home})).folder == root


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_an_account_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    settings = StackSettings.model_validate({"home": tmp_path, "database_user": "no-such-account"})
    with pytest.raises(StackError, match="QUARTET_DATABASE_USER"):
        choose_place(settings)
