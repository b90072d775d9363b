"""The pool: order of asking, what counts as a fault and whose, what outlives a restart."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from prsm.protocol.errors import PrsmError
from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid, hash_block
from prsm.storage.errors import (
    BadCid,
    NotFound,
    SourceBroken,
    SourceCorrupt,
    SourceDown,
    SourceSlow,
    SourceUnfit,
)
from prsm.storage.interfaces import Leaf, Traits, traits_of
from prsm.storage.sources.health import FAULTS_OPEN, State
from prsm.storage.sources.pool import SILENT_MS, Pool, Tier, load_health, save_health

MIB = 1 << 20
ROOT = hash_block(b"root")
LEAF = Leaf(0, ROOT.digest, MIB)


@dataclass
class Playing:
    """A source that does what a test says."""

    name: str
    seconds: float = 0.1
    error: PrsmError | None = None
    traits: Traits = field(default_factory=Traits)
    calls: int = 0

    async def have(self, root: Cid) -> Have | None:
        del root
        await self._play()
        return None

    async def node(self, digest: bytes) -> bytes:
        del digest
        await self._play()
        return b"node"

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        del root
        await self._play()
        return [bytes(leaf.size) for leaf in wanted]

    async def _play(self) -> None:
        self.calls += 1
        await trio.sleep(self.seconds)
        if self.error is not None:
            raise self.error


def make_pool() -> Pool:
    return Pool(lambda: int(trio.current_time() * 1000), Random(1))


async def test_classes_come_in_order_and_the_faster_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert autojump_clock.rate == 0
    pool = make_pool()
    names = {
        "gate": Tier.GATEWAY,
        "daemon": Tier.DAEMON,
        "slow": Tier.PEER,
        "fast": Tier.PEER,
        "ipfs": Tier.BITSWAP,
    }
    for name, tier in names.items():
        seconds = 4.0 if name == "slow" else 0.1
        await pool.add(Playing(name, seconds), tier).fetch(ROOT, (LEAF,))
    assert [source.name for source in pool.choose()] == ["fast", "slow", "ipfs", "daemon", "gate"]


async def test_dead_source_is_left_out_then_probed_once_and_comes_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert autojump_clock.rate == 0
    pool, playing = make_pool(), Playing("one", 0.0, SourceDown("gone"))
    source = pool.add(playing, Tier.DAEMON)
    for _ in range(FAULTS_OPEN):
        with pytest.raises(SourceDown):
            await source.node(b"")
    [row] = pool.rows()
    assert (row.state, row.faults, row.last_error) == (State.OPEN, FAULTS_OPEN, "gone")
    if row.next_try_ms:
        assert pool.choose() == []
        with pytest.raises(SourceDown, match="asked again in"):
            await source.node(b"")
    assert playing.calls == FAULTS_OPEN
    await trio.sleep(60)
    playing.error, playing.seconds = None, 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.node, b"")
        await trio.testing.wait_all_tasks_blocked()
        assert pool.rows()[0].state is State.PROBING
        assert pool.choose() == []
        with pytest.raises(SourceDown):
            await source.node(b"")
    assert pool.rows()[0].state is State.OK
    assert [each.name for each in pool.choose()] == ["one"]


@pytest.mark.parametrize(
    ("error", "faults"),
    [
        (NotFound("not here"), 0),
        (BadCid("a fault of the caller"), 0),
        (SourceSlow("busy", retry_after_ms=100), 0),
        (SourceSlow("silent"), 1),
        (SourceBroken("cut"), 1),
        (SourceCorrupt("other bytes"), 1),
    ],
)
async def test_only_a_sources_own_faults_count(error: PrsmError, faults: int) -> None:
    pool = make_pool()
    source = pool.add(Playing("one", 0.0, error), Tier.PEER)
    with pytest.raises(type(error)):
        await source.have(ROOT)
    assert pool.rows()[0].faults == faults


@pytest.mark.parametrize(("seconds", "faults"), [(SILENT_MS / 1000, 1), (SILENT_MS / 2000, 0)])
async def test_call_given_up_counts_if_it_was_silent_for_long(
    seconds: float, faults: int, autojump_clock: trio.testing.MockClock
) -> None:
    assert autojump_clock.rate == 0
    pool = make_pool()
    source = pool.add(Playing("one", 99.0), Tier.PEER)
    with trio.move_on_after(seconds) as scope:
        await source.fetch(ROOT, (LEAF,))
    assert scope.cancelled_caught
    assert pool.rows()[0].faults == faults


async def test_unfit_source_is_left_out_for_an_hour(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert autojump_clock.rate == 0
    pool = make_pool()
    source = pool.add(Playing("gate", 0.0, SourceUnfit("html")), Tier.GATEWAY)
    with pytest.raises(SourceUnfit):
        await source.node(b"")
    assert pool.rows()[0].state is State.UNFIT
    await trio.sleep(3599)
    assert pool.choose() == []
    await trio.sleep(2)
    assert len(pool.choose()) == 1


async def test_restart_does_not_begin_with_the_dead_one(tmp_path: Path) -> None:
    pool = make_pool()
    dead = pool.add(Playing("a dead one", 0.0), Tier.DAEMON)
    pool.add(Playing("b alive", 0.0), Tier.DAEMON)
    assert [each.name for each in pool.choose()] == ["a dead one", "b alive"]
    await dead.node(b"")
    for _ in range(FAULTS_OPEN + 3):
        pool.blame(dead.name, SourceDown("gone"))
    path = tmp_path / "sources.json"
    save_health(path, pool.saved())
    save_health(path, pool.saved())  # over the first
    again = Pool(lambda: 0, Random(2), saved=load_health(path))
    for name in ("a dead one", "b alive"):
        again.add(Playing(name), Tier.DAEMON)
    first = again.rows()[0]
    assert (first.name, first.state, first.last_error) == ("a dead one", State.OPEN, "gone")
    assert [each.name for each in again.choose()][:1] == ["b alive"]


@pytest.mark.parametrize(
    "raw",
    [b"", b"junk", b'[{"name": 5}]', b"{}", b'[{"name": "\xff"}]', b'[{"x": ' + b"[" * 100_000],
)
def test_damaged_file_is_no_knowledge(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "sources.json").write_bytes(raw)
    assert list(load_health(tmp_path / "sources.json")) == []
    assert list(load_health(tmp_path / "absent")) == []


def test_removed_source_keeps_its_health_and_traits_pass_through() -> None:
    pool = Pool(lambda: 0, Random(1))
    traits = Traits(tier=Tier.BITSWAP, asks_max=2)
    source = pool.add(Playing("one", 0.0, SourceDown("gone"), traits), Tier.BITSWAP)
    assert traits_of(source) == traits
    for _ in range(FAULTS_OPEN):
        pool.blame("one", SourceDown("gone"))
    pool.remove("one")
    pool.remove("one")
    assert pool.rows() == []
    pool.add(Playing("one"), Tier.BITSWAP)
    assert pool.rows()[0].state is State.OPEN


async def test_pool_writes_at_its_end(tmp_path: Path) -> None:
    pool = make_pool()
    pool.add(Playing("one"), Tier.PEER)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run, tmp_path / "sources.json")
        nursery.cancel_scope.cancel()
    assert [each.name for each in load_health(tmp_path / "sources.json")] == ["one"]


async def test_disk_that_refuses_ends_nothing(tmp_path: Path) -> None:
    pool = make_pool()
    pool.add(Playing("one"), Tier.PEER)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run, tmp_path / "no folder" / "sources.json")
        nursery.cancel_scope.cancel()
    assert [row.name for row in pool.rows()] == ["one"]
