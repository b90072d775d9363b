"""A requester that pushes and does not read: what waits for it is inside credit and reserve."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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
from prsm.protocol.limits import MIB
from prsm.protocol.messages.work import Finish, Result, ShownReceipt
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from tests.tools.probe import JOB, Probe, started_probe
from tests.tools.work import given_rows

COUNT = 6
OUTPUT_BYTES = MIB


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


def wide(_name: str, _run: int, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Outputs of four chunks from inputs of some bytes."""
    head = TensorHead(outputs[0].head.name, Dtype.U8, (1, OUTPUT_BYTES))
    return (Tensor(head, bytes(OUTPUT_BYTES)),)


@pytest.fixture
async def probe(nursery: trio.Nursery) -> Probe:
    made = await started_probe(nursery)
    made.rows = (1,) * COUNT
    made.worker.runner.hook = wide
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
        await probe.push(given_rows(1), batch=batch)
        await trio.sleep(1)


async def test_credit_comes_back_when_the_result_has_left(
    probe: Probe, port: SlowPort, autojump_clock: MockClock
) -> None:
    """Outputs wait for the requester as its inputs did: four batches, not as many as it likes."""
    await pushed(probe, *range(COUNT))
    assert [(f.batch, f.reason) for f in probe.failures] == [(4, "busy"), (5, "busy")]
    assert [(result.batch, result.chunk) for result in port.waiting] == [(i, 0) for i in range(4)]
    assert port.cuts == 4  # the other chunks are no copies yet
    lease = lease_of(probe)
    inputs = 4 * sum(len(tensor.data) for tensor in given_rows(1))
    assert (lease.unanswered, lease.waiting_bytes) == (4, 4 * OUTPUT_BYTES + inputs)
    port.has_room.set()
    await trio.sleep(1)
    assert (lease.unanswered, lease.waiting_bytes) == (0, 0)
    await pushed(probe, 4, 5)
    assert {result.batch for result in probe.results} == set(range(COUNT))
    assert isinstance(await probe.call(Finish(JOB, 0)), ShownReceipt)


async def test_outputs_beyond_the_reserve_are_refused_and_not_done(
    probe: Probe, port: SlowPort, autojump_clock: MockClock
) -> None:
    """Inputs of some bytes pass; what they make would not fit beside what waits already."""
    probe.worker.executor._terms.bytes_per_peer_max = 2 * OUTPUT_BYTES + OUTPUT_BYTES // 2
    await pushed(probe, 0, 1, 2)
    assert [(f.batch, f.reason) for f in probe.failures] == [(2, "busy")]
    assert probe.failures[0].what == f"no room for {OUTPUT_BYTES} bytes of outputs now"
    assert sorted(lease_of(probe).done) == [0, 1]
    port.has_room.set()
    await trio.sleep(1)
    await pushed(probe, 2)
    assert sorted(lease_of(probe).done) == [0, 1, 2]
