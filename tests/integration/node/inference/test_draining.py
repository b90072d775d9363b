"""A worker that goes away in the middle of its work: what it does, what it keeps, what it owes."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock
from typing_extensions import override

from prsm.consensus.ledger.records import JobStatus
from prsm.consensus.ledger.view import View
from prsm.node.inference.capacity import ask_peer
from prsm.node.inference.claims import Claims
from prsm.node.inference.interface import MemoryReceipts
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import CallRefused, Incoming
from prsm.protocol.codec import decode
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.messages.serving import Draining
from prsm.protocol.messages.work import Finish, Result, ShownReceipt, WorkFailed
from prsm.protocol.receipts import WorkReceipt
from tests.tools.probe import JOB, PRICE, ROWS, Probe
from tests.tools.wires import Wire
from tests.tools.work import Node, given_rows, make_cluster
from tests.tools.work_chain import VERIFIER, MemoryChain

GRACE_S = 10.0


class Told(Probe):
    """A probe that hears what is said of draining."""

    said: list[int | None]

    def take_draining(self, incoming: Incoming) -> None:
        assert isinstance(incoming.message, Draining)
        self.said.append(incoming.message.left_ms)


@pytest.fixture
async def probe(nursery: trio.Nursery) -> Told:
    cluster = make_cluster()
    identity = ChainIdentity(
        chain=cluster.world.genesis.chain_id, genesis=cluster.world.genesis.digest
    )
    network = cluster.hub.network(b"p" * 32, identity)
    made = Told(cluster, network)
    made.said = []
    network.on_message(Result, made.take_result)
    network.on_message(WorkFailed, made.take_failure)
    network.on_message(Draining, made.take_draining)
    await cluster.start(nursery)
    await nursery.start(network.run)
    for node in cluster.nodes:
        await network.connect(cluster.hub.address(node.network.peer_id))
    return made


class SlowDisk(MemoryReceipts):
    """Takes half a second for a receipt."""

    @override
    async def keep(self, job: bytes, unit: int, receipt: bytes) -> None:
        await trio.sleep(0.5)
        await super().keep(job, unit, receipt)


async def over_after(worker: Node) -> float:
    began = trio.current_time()
    with trio.fail_after(3600):
        await worker.drain.wait_over()
    return trio.current_time() - began


async def opened(probe: Told, *, needed: int = 2) -> None:
    workers = probe.unit_workers if needed > 1 else (probe.worker.address,)
    await probe.lock(needed=needed, workers=workers)
    await probe.open()


async def test_what_is_held_is_finished_and_nothing_new_is_taken(
    probe: Told, autojump_clock: MockClock
) -> None:
    """A batch pushed before and one pushed after the word are answered; another peer is refused."""
    await opened(probe, needed=1)
    await probe.push(given_rows(4), batch=0)
    worker = probe.worker
    worker.drain.begin(GRACE_S)
    await probe.push(given_rows(4), batch=1)
    while len(probe.results) < 2:
        await probe.next_answer()
    assert probe.said == [10_000]
    links, peer = probe.cluster.requester.links, worker.network.peer_id
    capacity = await ask_peer(links.network, links.chain, VERIFIER, peer)
    assert capacity.slots_free == 0
    await probe.open()  # held already: the same requester may ask again
    shown = await probe.call(Finish(JOB, 0))
    assert isinstance(shown, ShownReceipt)
    assert await over_after(worker) < 1
    with pytest.raises(CallRefused) as refused:
        await probe.open()
    assert refused.value.refusal == "draining"
    assert refused.value.retry_after_ms >= 1000
    worker.drain.resume()
    capacity = await ask_peer(links.network, links.chain, VERIFIER, peer)
    assert capacity.slots_free > 0


async def test_a_requester_that_never_finishes_is_waited_for_until_the_hard_end(
    probe: Told, autojump_clock: MockClock
) -> None:
    """Then what was done is claimed: its receipt is on the ledger, though nobody asked for it."""
    await opened(probe)
    await probe.push(given_rows(4), batch=0)
    await probe.next_answer()
    worker = probe.worker
    worker.claims._store = SlowDisk()
    worker.drain.begin(GRACE_S)
    await trio.sleep(GRACE_S - 1)
    assert not worker.claims.unpaid
    assert await over_after(worker) < 2
    [receipt] = worker.claims.unpaid
    assert [batch.index for batch in receipt.batches] == [0]
    assert worker.chain.committed(JOB, 0, worker.address) is not None


async def test_draining_frees_nobody_of_what_is_bound(
    probe: Told, autojump_clock: MockClock
) -> None:
    """The receipt of a unit done alone is final and its bond is held after the drain as before."""
    await opened(probe, needed=1)
    worker, bond = probe.worker, 20 * PRICE * sum(ROWS)
    for batch, rows in enumerate(ROWS):
        await probe.push(given_rows(rows), batch=batch)
        await probe.next_answer()
    pledged = View(probe.cluster.world.state).pledge(worker.address)
    assert pledged.held == 0
    worker.drain.begin(0)
    await over_after(worker)
    shown = await probe.call(Finish(JOB, 0))
    assert isinstance(shown, ShownReceipt)
    receipt = decode(shown.receipt, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
    assert [batch.rows for batch in receipt.batches] == list(ROWS)
    assert View(probe.cluster.world.state).pledge(worker.address).held == bond
    worker.drain.resume()
    await trio.sleep(1)
    assert View(probe.cluster.world.state).pledge(worker.address).held == bond


@pytest.mark.parametrize("is_lost", [True, False])
async def test_bond_of_a_lost_receipt_is_free_again_without_the_requester(
    is_lost: bool, probe: Told, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The store is empty after the start; with its receipt the worker is paid instead."""
    await opened(probe, needed=1)
    for batch, rows in enumerate(ROWS):
        await probe.push(given_rows(rows), batch=batch)
        await probe.next_answer()
    await probe.call(Finish(JOB, 0))
    worker, world = probe.worker, probe.cluster.world
    assert View(world.state).pledge(worker.address).held > 0
    before, store = world.balance(worker.address), worker.claims._store
    worker.kill()
    chain = MemoryChain(world, 1)
    again = Claims(Wire(), chain, MemoryReceipts() if is_lost else store, VERIFIER)
    await nursery.start(again.run)
    with trio.fail_after(3600):
        while View(world.state).pledge(worker.address).held:
            await chain.wait_height(chain.height() + 1)
    assert (world.balance(worker.address) == before) is is_lost
    job = chain.job(JOB)
    assert job is not None
    assert job.status is (JobStatus.REFUNDED if is_lost else JobStatus.SETTLED)
