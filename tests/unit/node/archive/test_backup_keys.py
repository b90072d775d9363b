"""Backup: what nobody could restore is not made."""

import os
from pathlib import Path

import pytest

from prsm.node.archive.__main__ import main
from prsm.node.archive.backups import create_backup
from prsm.node.holder import DESTROY
from prsm.storage.errors import NotFound
from tests.tools.archives import make_home


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("away", ["keys", "keys/wallet", "config.toml"])
@pytest.mark.parametrize("is_running", [False, True])
async def test_backup_without_what_no_node_can_do_without_is_not_made(
    tmp_path: Path, away: str, *, is_running: bool
) -> None:
    """Keys lie on a stick that is away: what was sealed then could never be restored."""
    home = make_home(tmp_path / "home")
    (home.root / away).rename(tmp_path / "stick")
    (home.root / away).symlink_to(tmp_path / "elsewhere")
    home.check()
    with pytest.raises(NotFound, match="is not there"):
        await create_backup(home, tmp_path / "backup", password="word", is_running=is_running)
    assert names_in(tmp_path) == ["home", "stick"]


@pytest.mark.parametrize("away", ["keys/operator.key", "keys/wallet/savings.key"])
async def test_backup_leaves_out_no_key_whose_link_leads_nowhere(tmp_path: Path, away: str) -> None:
    """A node does without, but what lies under that key would be lost with it."""
    home = make_home(tmp_path / "home")
    (home.root / away).unlink(missing_ok=True)
    (home.root / away).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotFound, match=f"{away} is not there"):
        await create_backup(home, tmp_path / "backup", password="word", is_running=False)
    assert names_in(tmp_path) == ["home"]


def test_backup_of_a_folder_that_is_being_destroyed_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A node that runs is copied beside it; of this one a part may be gone."""
    home = make_home(tmp_path / "home")
    reader, writer = os.pipe()
    os.write(writer, b"word\n")
    os.close(writer)
    words = ["backup", str(tmp_path / "backup"), "--password-fd", str(reader)]
    with home.hold(DESTROY):
        assert main(["--home", str(home.root), *words]) == 1
    assert "(prsm destroy)" in capsys.readouterr().out
    assert names_in(tmp_path) == ["home"]
