"""Backup: what nobody could restore is not made."""

from pathlib import Path

import pytest

from prsm.node.archive.backups import create_backup
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
