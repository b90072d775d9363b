"""testnet down: the folder stays, or goes with --delete; never before the nodes have ended."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from prsm.testnet import cli, launch, stages


@pytest.mark.parametrize(("words", "stays"), [((), True), (("--delete",), False)])
def test_down_leaves_the_folder_unless_it_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], stays: bool
) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    ended: list[Path] = []
    nodes = [SimpleNamespace(is_running=lambda runs=runs: runs) for runs in (True, False, True)]
    monkeypatch.setattr(launch, "load", lambda _folder: SimpleNamespace(nodes=nodes))

    def down(where: Path) -> bool:
        assert where.exists()
        ended.append(where)
        return True

    monkeypatch.setattr(stages, "down", down)
    result = CliRunner().invoke(cli.main, ["down", "--dir", str(folder), "--json", *words])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"stopped": 2, "graceful": True}
    assert (folder.exists(), ended) == (stays, [folder])
