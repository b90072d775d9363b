"""A long range in pieces: which are missing, and of what code a file speaks."""

import subprocess
import sys
from pathlib import Path

import pytest

from prsm.testnet.sim import progress
from prsm.testnet.sim.batch import Summary
from prsm.testnet.sim.plan import Wish
from prsm.testnet.sim.progress import OtherRun, Piece, Progress

_LOADS = """
import sys
from prsm.testnet.sim import batch
from prsm.testnet.sim.plan import Wish
batch.play(range(4), Wish())
batch.play(range(64), Wish(twins=True))
loaded = {name for name in sys.modules if name.split(".")[0] == "prsm"}
from prsm.testnet.sim import progress
print(sorted(loaded - set(progress.played_modules())), len(loaded))
"""


def play(seeds: range) -> Summary:
    return Summary(seeds=len(seeds), events=10 * len(seeds))


def test_pieces_that_are_missing() -> None:
    done = [Piece(4, 6, Summary()), Piece(10, 20, Summary())]
    found = Progress("", Wish(), done)
    assert found.missing(range(15), 3) == [range(3), range(3, 4), range(6, 9), range(9, 10)]
    assert found.missing(range(12, 30), 8) == [range(20, 28), range(28, 30)]


def test_range_is_taken_up_where_it_was_left(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert progress.run(path, range(10), Wish(), play, size=4).seeds == 10
    played: list[range] = []

    def noted(seeds: range) -> Summary:
        played.append(seeds)
        return play(seeds)

    total = progress.run(path, range(15), Wish(), noted, size=4)
    assert played == [range(10, 14), range(14, 15)]
    assert (total.seeds, total.events) == (15, 150)


def test_figures_of_two_versions_are_not_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    progress.run(path, range(2), Wish(), play, size=4)
    with pytest.raises(OtherRun, match="options"):
        progress.run(path, range(4), Wish(twins=True), play, size=4)
    monkeypatch.setattr(progress, "code_digest", lambda: "0123456789abcdef")
    with pytest.raises(OtherRun, match="code"):
        progress.run(path, range(4), Wish(), play, size=4)


def test_code_is_named_by_what_a_run_loads_and_nothing_else() -> None:
    """A mend of the daemon's store does not end a range of a million seeds; one of pbft does."""
    ran = subprocess.run([sys.executable, "-c", _LOADS], capture_output=True, text=True, check=True)
    missing, _, count = ran.stdout.strip().rpartition(" ")
    assert missing == "[]"
    names = set(progress.played_modules())
    assert int(count) == len(names)
    assert {"prsm.consensus.pbft.replica", "prsm.testnet.sim.world"} <= names
    assert not any(name.startswith("prsm.storage.store") for name in names)


def test_another_digest_after_any_change_of_a_played_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "wal.py"
    path.write_bytes(progress.played_modules()["prsm.storage.wal"].read_bytes())
    modules = progress.played_modules() | {"prsm.storage.wal": path}
    monkeypatch.setattr(progress, "played_modules", lambda: modules)
    before = progress.code_digest()
    path.write_bytes(path.read_bytes() + b"\n")
    assert progress.code_digest() != before
