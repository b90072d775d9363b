"""Batches handed over for checks: nobody waits for the disk but who binds himself to them."""

from collections.abc import Sequence

import trio
from trio.testing import wait_all_tasks_blocked

from prsm.node.inference.evidence import BEHIND_MAX, Evidence, Place
from prsm.protocol.messages.audit import Side
from prsm.protocol.receipts import Feed, WorkKind
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.protocol.transactions.payloads import Unit
from prsm.storage.errors import Full
from tests.tools.work_chain import MemoryChain, World

JOB, WORKER, ROOT = b"j" * 32, b"w" * 32, b"r" * 32
SPEC = Unit(WorkKind.GENERATE, b"m" * 36, 1, 0, 0, 256, 1, 0, None, (WORKER,))


class Disk:
    """Pieces in memory; each writing waits for a permit, and one of unit 9 is refused."""

    def __init__(self, permits: int = 0) -> None:
        self.kept: dict[tuple[bytes, int], dict[bytes, bytes]] = {}
        self.permits = trio.Semaphore(permits)

    def units(self) -> tuple[tuple[bytes, int], ...]:
        return ()

    def names(self, job: bytes, unit: int) -> tuple[bytes, ...]:
        return tuple(self.kept.get((job, unit), {}))

    async def keep_all(self, job: bytes, unit: int, pieces: Sequence[tuple[bytes, bytes]]) -> None:
        await self.permits.acquire()
        if unit == 9:
            raise Full("no room")
        self.kept.setdefault((job, unit), {}).update(pieces)

    async def read(
        self, job: bytes, unit: int, name: bytes, *, start: int = 0, size: int | None = None
    ) -> bytes | None:
        await trio.lowlevel.checkpoint()
        found = self.kept.get((job, unit), {}).get(name)
        return None if found is None else found[start : None if size is None else start + size]

    async def drop(self, job: bytes, unit: int) -> None:
        raise NotImplementedError

    @property
    def written(self) -> int:
        """Pieces on it: four of a batch."""
        return sum(map(len, self.kept.values()))


def make(permits: int = 0) -> tuple[Evidence, Disk]:
    disk = Disk(permits)
    return Evidence(disk, MemoryChain(World(), 0)), disk


async def give(evidence: Evidence, batch: int, *, unit: int = 0) -> None:
    one = Tensor(TensorHead("t", Dtype.U8, (1,)), bytes([batch % 256]))
    feed = Feed(JOB, unit, batch, ROOT, ROOT, bytes(64))
    await evidence.hand_over(Place(JOB, unit, batch, Side.IN, WORKER), SPEC, ((one,), (one,)), feed)


async def test_handing_over_does_not_wait_for_the_disk_but_a_receipt_and_a_reader_do(
    nursery: trio.Nursery,
) -> None:
    evidence, disk = make()
    await nursery.start(evidence.run)
    await wait_all_tasks_blocked()
    await give(evidence, 0)
    await give(evidence, 1)
    await evidence.wait_kept(JOB, 1)  # of another unit
    bound: list[tuple[int, ...]] = []
    chunks: list[bytes] = []

    async def bind() -> None:
        await evidence.wait_kept(JOB, 0)
        sides = [await evidence.chunk(Place(JOB, 0, n, Side.OUT, WORKER), 0) for n in range(3)]
        bound.append(tuple(n for n, side in enumerate(sides) if side is not None))

    async def read() -> None:
        found = await evidence.chunk(Place(JOB, 0, 1, Side.IN, WORKER), 0)
        assert found is not None
        chunks.append(found[1])

    nursery.start_soon(bind)
    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    disk.permits.release()
    await wait_all_tasks_blocked()
    assert (disk.written, bound, chunks) == (4, [], [])
    disk.permits.release()
    await wait_all_tasks_blocked()
    assert (disk.written, bound, chunks) == (8, [(0, 1)], [b"\1"])
    nursery.cancel_scope.cancel()


async def test_a_refused_batch_is_missed_by_nobody_who_waits(nursery: trio.Nursery) -> None:
    evidence, disk = make(permits=2)
    await nursery.start(evidence.run)
    await wait_all_tasks_blocked()
    await give(evidence, 0, unit=9)
    await give(evidence, 0)
    await evidence.wait_kept(JOB, 9)
    await evidence.wait_kept(JOB, 0)
    assert disk.written == 4
    nursery.cancel_scope.cancel()


async def test_who_is_far_ahead_of_the_disk_waits(nursery: trio.Nursery) -> None:
    evidence, disk = make()
    await nursery.start(evidence.run)
    await wait_all_tasks_blocked()
    given: list[int] = []

    async def go_on() -> None:
        for batch in range(BEHIND_MAX + 2):
            await give(evidence, batch)
            given.append(batch)

    nursery.start_soon(go_on)
    await wait_all_tasks_blocked()
    assert len(given) == BEHIND_MAX
    disk.permits.release()
    await wait_all_tasks_blocked()
    assert len(given) == BEHIND_MAX + 1
    nursery.cancel_scope.cancel()


async def test_what_was_handed_over_is_written_when_the_node_stops() -> None:
    evidence, disk = make()
    async with trio.open_nursery() as nursery:
        await nursery.start(evidence.run)
        await wait_all_tasks_blocked()
        await give(evidence, 0)
        await give(evidence, 1)
        disk.permits.release()
        disk.permits.release()
        nursery.cancel_scope.cancel()
    assert disk.written == 8
    disk.permits.release()
    await give(evidence, 2)  # nobody writes behind any more: it is written before this returns
    assert disk.written == 12
