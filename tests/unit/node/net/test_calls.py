"""Conversations with a peer that speaks in raw frames: bounds, strange answers, junk bodies."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trio
import trio.lowlevel

from prsm.node.net.handshake import ChainIdentity, greet
from prsm.node.net.interface import Answer, Channel, Incoming, PeerEvent
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from prsm.node.net.peers import Connection
from prsm.node.net.streams import Duplex, FrameReader
from prsm.node.net.transport import Hooks
from prsm.protocol.codec import decode, encode
from prsm.protocol.framing import Flow, Head, Refusal, encode_frame
from prsm.protocol.limits import CALLS_OPEN_MAX, CTL_FRAME_BYTES_MAX
from prsm.protocol.messages.models import AskHave, Have
from prsm.protocol.messages.net import Heartbeat

CHAIN = ChainIdentity(chain=b"testnet1", genesis=b"g" * 32)
ASK, HAVE = AskHave(root=b"r" * 36), Have(size=5, leaves=1, bitset=b"\1")


@dataclass
class Raw:
    """A node, and a peer of it that writes frames as it likes on a greeted control stream."""

    node: PeerNetwork
    stream: Duplex
    reader: FrameReader
    gate: trio.Event
    events: list[PeerEvent]
    running: list[int]

    async def say(self, flow: Flow, kind: int, number: int, body: bytes) -> None:
        head = Head(version=1, flow=flow, kind=kind, request_id=number, trace=b"trace", body=body)
        await self.stream.write_all(encode_frame(head))

    async def hear(self) -> Head:
        with trio.fail_after(5):
            head, _ = await self.reader.read()
        return head


@pytest.fixture
async def raw(nursery: trio.Nursery) -> AsyncIterator[Raw]:
    hub = MemoryHub()
    node = hub.network(b"1" * 32, CHAIN)
    gate, events, running = trio.Event(), list[PeerEvent](), [0, 0]

    async def answer(incoming: Incoming) -> Answer:
        running[0] += 1
        running[1] = max(running)
        await gate.wait()
        running[0] -= 1
        return HAVE, incoming.trace

    node.on_call(AskHave, answer)
    node.on_peer(events.append)
    await nursery.start(node.run)
    rogue = hub.transport(b"2" * 32)

    async def refuse(connection: Connection) -> None:
        await connection.close()

    hooks = Hooks(refuse, lambda *_: False, lambda _: False, lambda *_: None)
    await nursery.start(rogue.run, (), hooks)
    connection = await rogue.dial(node.peer_id, hub.address(node.peer_id))
    stream = await connection.stream(Channel.CTL)
    await greet(stream, CHAIN.hello(()), dialler=True)
    reader = FrameReader(stream, frame_bytes_max=CTL_FRAME_BYTES_MAX)
    yield Raw(node, stream, reader, gate, events, running)
    nursery.cancel_scope.cancel()


async def lost(raw: Raw) -> None:
    with trio.fail_after(5):
        while not raw.events or raw.events[-1].up:  # noqa: ASYNC110 - events is a plain list
            await trio.lowlevel.checkpoint()


async def test_33rd_call_at_once_is_refused_as_busy_and_the_rest_answered(raw: Raw) -> None:
    for number in range(1, CALLS_OPEN_MAX + 2):
        await raw.say(Flow.CALL, 50, number, encode(ASK))
    head = await raw.hear()
    assert (head.flow, head.request_id) == (Flow.ERROR, CALLS_OPEN_MAX + 1)
    refusal = decode(head.body, Refusal, size_max=4096)
    assert (refusal.reason, refusal.retry_after_ms > 0) == ("busy", True)
    raw.gate.set()
    heads = [await raw.hear() for _ in range(CALLS_OPEN_MAX)]
    assert {(h.flow, h.kind, h.trace) for h in heads} == {(Flow.REPLY, 51, b"trace")}
    assert sorted(h.request_id for h in heads) == list(range(1, CALLS_OPEN_MAX + 1))
    assert raw.running == [0, CALLS_OPEN_MAX]


async def test_heartbeat_is_answered_while_all_calls_are_taken(raw: Raw) -> None:
    for number in range(1, CALLS_OPEN_MAX + 1):
        await raw.say(Flow.CALL, 50, number, encode(ASK))
    await raw.say(Flow.CALL, 91, 99, encode(Heartbeat(count=7)))
    head = await raw.hear()
    assert (head.flow, head.kind, head.request_id) == (Flow.REPLY, 91, 99)
    assert decode(head.body, Heartbeat, size_max=64) == Heartbeat(count=7)


@pytest.mark.parametrize("flow", [Flow.REPLY, Flow.ERROR])
async def test_answer_nobody_waits_for_is_ignored(raw: Raw, flow: Flow) -> None:
    await raw.say(flow, 51, 12345, encode(HAVE))
    raw.gate.set()
    await raw.say(Flow.CALL, 50, 1, encode(ASK))
    assert (await raw.hear()).request_id == 1


@pytest.mark.parametrize(
    ("flow", "kind", "body"),
    [
        (Flow.ONE_WAY, 4999, encode(HAVE)),
        (Flow.CALL, 4999, encode(HAVE)),
        (Flow.CALL, 50, encode(HAVE)),
        (Flow.CALL, 50, b"\xc1"),
        (Flow.ONE_WAY, 51, b""),
    ],
)
async def test_body_that_is_no_record_of_its_kind_closes_the_peer(
    raw: Raw, flow: Flow, kind: int, body: bytes
) -> None:
    await raw.say(flow, kind, 1, body)
    await lost(raw)
    assert raw.node.peers() == ()
    assert raw.node.restarts == 0


async def test_one_way_message_nobody_takes_is_ignored(raw: Raw) -> None:
    await raw.say(Flow.ONE_WAY, 51, 0, encode(HAVE))
    raw.gate.set()
    await raw.say(Flow.CALL, 50, 1, encode(ASK))
    assert (await raw.hear()).flow is Flow.REPLY
