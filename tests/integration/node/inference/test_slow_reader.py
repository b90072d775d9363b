"""A requester that pushes and does not read: what waits for it is inside credit and reserve."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference import executor
from prsm.node.inference.lease import Lease
from prsm.node.inference.transfer import Chunk, cut
from prsm.node.net.interface import Channel
from prsm.node.net.network import PeerNetwork
from prsm.protocol.codec import Record
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import TENSOR_CHUNK_BYTES_MAX
from prsm.protocol.messages.work import Finish, Result, ShownReceipt
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from tests.tools.probe import JOB, Probe, started_probe
from tests.tools.work import MemoryModels, as_floats, given_rows, make_manifest

COUNT = 6
CREDIT = 4
WIDTH = TENSOR_CHUNK_BYTES_MAX // 4 + 1
INPUT_BYTES, OUTPUT_BYTES = 2 * WIDTH, 4 * WIDTH


@dataclass
class SlowPort:
    """The sending side of a worker's network, whose queue for tensors is full for a while."""

    real: PeerNetwork
    has_room: trio.Event = field(default_factory=trio.Event)
    waiting: list[Result] = field(default_factory=list)
    cuts: int = 0

    async def send(
        self, peer: PeerId, message: Record, *, channel: Channel, tail: bytes = b""
    ) -> None:
        assert isinstance(message, Result)
        self.waiting.append(message)
        await self.has_room.wait()
        self.waiting.remove(message)
        await PeerNetwork.send(self.real, peer, message, channel=channel, tail=tail)

    def cut(self, tensors: Sequence[Tensor]) -> Iterator[Chunk]:
        for chunk in cut(tensors):
            self.cuts += 1
            yield chunk


def longer(name: str, run: int, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One number more than the io table says."""
    (made,) = as_floats(name, run, outputs)
    head = TensorHead(made.head.name, Dtype.F32, (1, WIDTH + 1))
    return (Tensor(head, made.data + bytes(4)),)


@cache
def wide_row() -> tuple[Tensor, ...]:
    """A row whose outputs, four bytes for one, take two chunks and twice the room of the inputs."""
    return given_rows(1, width=WIDTH)


@pytest.fixture
async def probe(nursery: trio.Nursery) -> Probe:
    made = await started_probe(nursery, MemoryModels(make_manifest(made=Dtype.F32)))
    made.rows = (1,) * COUNT
    made.worker.runner.hook = as_floats
    await made.lock()
    await made.open()
    return made


@pytest.fixture
def port(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> SlowPort:
    made = SlowPort(probe.worker.network)
    monkeypatch.setattr(probe.worker.network, "send", made.send)
    monkeypatch.setattr(executor, "cut", made.cut)
    return made


def lease_of(probe: Probe) -> Lease:
    return probe.worker.executor._leases[JOB, 0]


async def pushed(probe: Probe, *batches: int) -> None:
    """Each is computed before the next one comes."""
    for batch in batches:
        await probe.push(wide_row(), batch=batch)
        await trio.sleep(1)


async def test_credit_comes_back_when_the_result_has_left(
    probe: Probe, port: SlowPort, autojump_clock: MockClock
) -> None:
    """Outputs wait for the requester as its inputs did: four batches, not as many as it likes."""
    await pushed(probe, *range(COUNT))
    assert [(f.batch, f.reason) for f in probe.failures] == [(4, "busy"), (5, "busy")]
    assert [(result.batch, result.chunk) for result in port.waiting] == [(i, 0) for i in range(4)]
    assert port.cuts == 4  # the second chunks are no copies yet
    lease = lease_of(probe)
    outgoing = probe.worker.executor._outgoing
    assert (lease.unanswered, lease.waiting_bytes) == (4, 4 * INPUT_BYTES)
    assert outgoing.held == {probe.network.peer_id: 4 * OUTPUT_BYTES}
    port.has_room.set()
    await trio.sleep(1)
    assert (lease.unanswered, lease.waiting_bytes, outgoing.held.total()) == (0, 0, 0)
    await pushed(probe, 4, 5)
    assert {result.batch for result in probe.results} == set(range(COUNT))
    assert isinstance(await probe.call(Finish(JOB, 0)), ShownReceipt)


async def test_batches_whose_outputs_find_no_room_wait_and_are_done(
    probe: Probe, port: SlowPort, autojump_clock: MockClock
) -> None:
    """Room for exactly the inputs of the credit; that is half of what their outputs take."""
    executor, runner = probe.worker.executor, probe.worker.runner
    executor._terms.bytes_per_peer_max = CREDIT * INPUT_BYTES
    await pushed(probe, *range(CREDIT))
    assert probe.failures == []
    assert (executor._outgoing.held.total(), len(port.waiting)) == (2 * OUTPUT_BYTES, 2)
    assert lease_of(probe).compute_us == 2 * runner.cpu_us  # the others are not computed yet
    port.has_room.set()
    await trio.sleep(1)
    assert {result.batch for result in probe.results} == set(range(CREDIT))
    assert (probe.failures, executor._outgoing.held.total()) == ([], 0)
    assert sorted(lease_of(probe).done) == list(range(CREDIT))


async def test_outputs_wait_for_nobody_elses_when_only_one_peer_is_slow(
    probe: Probe, port: SlowPort, autojump_clock: MockClock
) -> None:
    """What one peer may hold is a part of what there is; all there is, is a bound too."""
    outgoing, terms = probe.worker.executor._outgoing, probe.worker.executor._terms
    terms.bytes_max, terms.bytes_per_peer_max = 3 * OUTPUT_BYTES, 2 * OUTPUT_BYTES
    other = probe.cluster.requester.network.peer_id
    await pushed(probe, 0, 1)
    with trio.fail_after(1):
        async with outgoing.room(other, OUTPUT_BYTES):
            with trio.move_on_after(0.5) as waited:
                async with outgoing.room(other, 1):
                    pass
    assert waited.cancelled_caught
    assert outgoing.held.total() == 2 * OUTPUT_BYTES


async def test_outputs_beyond_the_io_table_are_refused(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """A manifest that says less would be a way around the room that was set aside."""
    probe.worker.runner.hook = longer
    await pushed(probe, 0)
    assert [(f.batch, f.reason) for f in probe.failures] == [(0, "worker_failed")]
    due = f"{OUTPUT_BYTES + 4} bytes of outputs, the io table says {OUTPUT_BYTES}"
    assert probe.failures[0].what == due
    assert lease_of(probe).done == {}
