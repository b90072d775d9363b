"""Options and verdicts of a rolling upgrade; the upgrade itself is an e2e test."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from prsm.node.home import Home
from prsm.protocol.errors import LocalError
from prsm.testnet.asking import Door
from prsm.testnet.rolling import GAP_MAX_MS, Gaps, Options, check_options, failures
from prsm.testnet.watch import Watch


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(source=Path("nowhere")), "no source"),
        (Options(rate=0), "transfers"),
        (Options(accounts=0), "accounts"),
        (Options(upgraded=5), "5 nodes"),
    ],
)
def test_options_nothing_can_be_made_of_are_refused(options: Options, words: str) -> None:
    with pytest.raises(LocalError, match=words):
        check_options(options)


def test_source_of_an_older_program_is_taken(tmp_path: Path) -> None:
    (tmp_path / "src" / "prsm" / "node").mkdir(parents=True)
    check_options(Options(source=tmp_path))


def test_failures_are_named() -> None:
    assert failures({"broken": [], "commit_gap_ms": float(GAP_MAX_MS)}) == []
    [gap, fork] = sorted(failures({"broken": ["a fork"], "commit_gap_ms": GAP_MAX_MS + 1.0}))
    assert (gap, fork) == ("a fork", "no block for 5001 ms, at most 5000")


async def test_gap_counts_from_the_last_block_anybody_showed(
    autojump_clock: MockClock,  # noqa: ARG001 - asked for by name
) -> None:
    """Two nodes: what one lacks the other shows; a gap that never ends counts too."""
    watches = [Watch(Door(Home(Path("a")))), Watch(Door(Home(Path("b"))))]
    gaps = Gaps(watches)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gaps.run)
        await trio.sleep(5)
        watches[0].height = 1
        await trio.sleep(1)
        watches[1].height = 2
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    [between] = gaps.between_ms
    assert between == pytest.approx(1_000, abs=30)
    assert gaps.longest_ms == pytest.approx(3_000, abs=30)
