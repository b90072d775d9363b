"""The hello: both sides judge alike, each can name the mismatch, nothing else passes."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import dataclasses

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from typing_extensions import override

from prsm.node.net.entry import PeerFull
from prsm.node.net.handshake import (
    HELLO_KIND,
    OLDER_SECONDS,
    STRICT_SCHEMA,
    ChainIdentity,
    Greeter,
    OlderPeer,
    ProtocolMismatch,
    greet,
    turn_surplus_away,
)
from prsm.node.net.streams import Duplex, FrameReader, StreamLost
from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import RemoteError, WireError, WrongChain
from prsm.protocol.framing import Flow, Head, encode_frame
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import HELLO_ADDRESSES_MAX, HELLO_BYTES_MAX
from prsm.protocol.messages.net import SCHEMA_VERSION, Heartbeat, Hello

OURS = ChainIdentity(chain=b"testnet1", genesis=b"g" * 32, agent="prsm/1")


class Ends:
    """A trio stream as a duplex."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def read_some(self, bytes_max: int) -> bytes:
        return bytes(await self.stream.receive_some(bytes_max))

    async def write_all(self, data: bytes) -> None:
        await self.stream.send_all(data)


async def exchange(one: ChainIdentity, two: ChainIdentity) -> list[Hello | RemoteError]:
    """Greet over a pipe; each side closes when it is done, as the owner of a connection does."""
    here, there = memory_stream_pair()
    outcomes: list[Hello | RemoteError] = [RemoteError("nothing"), RemoteError("nothing")]

    async def side(number: int, stream: trio.abc.Stream, who: ChainIdentity) -> None:
        try:
            hello = who.hello(["/ip4/127.0.0.1/tcp/1"])
            outcomes[number] = await greet(Ends(stream), hello, dialler=number == 0)
        except RemoteError as error:
            outcomes[number] = error
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(side, 0, here, one)
        nursery.start_soon(side, 1, there, two)
    return outcomes


async def test_equal_networks_learn_each_others_hello() -> None:
    dialler, accepter = await exchange(OURS, dataclasses.replace(OURS, agent="prsm/2"))
    assert isinstance(dialler, Hello)
    assert isinstance(accepter, Hello)
    assert (dialler.agent, accepter.agent) == ("prsm/2", "prsm/1")
    assert dialler.addresses == ("/ip4/127.0.0.1/tcp/1",)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"chain": b"testnet2"}, WrongChain, "chain"),
        ({"genesis": b"x" * 32}, WrongChain, "genesis"),
        ({"protocol": 2}, ProtocolMismatch, "protocol"),
        ({"schema": 7}, ProtocolMismatch, "schema"),
        ({"schema": 0}, ProtocolMismatch, "schema"),
    ],
)
async def test_mismatch_is_named_on_both_sides_and_costs_nobody(
    change: dict[str, int | bytes],
    error: type[RemoteError],
    words: str,
    autojump_clock: MockClock,
) -> None:
    other = dataclasses.replace(OURS, **change)  # type: ignore[arg-type]  # one field at a time
    for outcome in await exchange(OURS, other) + await exchange(other, OURS):
        assert isinstance(outcome, error)
        assert words in outcome.what
        assert outcome.hint
        assert outcome.penalty == 0


def raw(
    record: Hello | Heartbeat, kind: int, *, flow: Flow = Flow.ONE_WAY, version: int = 1
) -> bytes:
    head = Head(version=version, flow=flow, kind=kind, request_id=0, trace=b"", body=encode(record))
    return encode_frame(head)


async def accept(data: bytes) -> Hello:
    here, there = memory_stream_pair()
    await there.send_all(data)
    await there.send_eof()
    duplex: Duplex = Ends(here)
    return await greet(duplex, OURS.hello(()), dialler=False)


@pytest.mark.parametrize(
    "data",
    [
        raw(Heartbeat(count=1), 91),
        raw(OURS.hello(()), 90, flow=Flow.CALL),
        raw(OURS.hello(()), 91),
        (HELLO_BYTES_MAX).to_bytes(4, "big") + (9).to_bytes(4, "big"),
        b"\0\0\0\x08\0\0\0\x04junk",
    ],
)
async def test_anything_but_a_hello_is_a_fault(data: bytes) -> None:
    with pytest.raises(WireError) as caught:
        await accept(data)
    assert caught.value.penalty > 0


async def test_end_before_the_hello_is_a_lost_stream() -> None:
    for data in (b"", raw(OURS.hello(()), 90)[:-1]):
        with pytest.raises(StreamLost):
            await accept(data)


async def test_hello_of_a_newer_frame_version_still_names_its_protocol(
    autojump_clock: MockClock,
) -> None:
    newer = dataclasses.replace(OURS, protocol=2)
    with pytest.raises(ProtocolMismatch, match="protocol 2"):
        await accept(raw(newer.hello(()), 90, version=2))


def test_hello_leaves_out_surplus_and_overlong_addresses() -> None:
    addresses = ["/" + "x" * 300] + [f"/ip4/127.0.0.1/tcp/{port}" for port in range(1, 20)]
    hello = OURS.hello(addresses)
    assert len(hello.addresses) == HELLO_ADDRESSES_MAX
    assert hello.addresses[0] == "/ip4/127.0.0.1/tcp/1"


NEXT = SCHEMA_VERSION + 1


@pytest.mark.parametrize(("one", "two"), [(SCHEMA_VERSION, NEXT), (NEXT, SCHEMA_VERSION)])
async def test_neighbouring_schemas_agree_on_the_older(one: int, two: int) -> None:
    """Whoever dials, both sides know the one schema they speak."""
    outcomes = await exchange(
        dataclasses.replace(OURS, schema=one), dataclasses.replace(OURS, schema=two)
    )
    for outcome in outcomes:
        assert isinstance(outcome, Hello)
        assert outcome.schema == SCHEMA_VERSION


async def strict(duplex: Duplex, schema: int) -> Hello:
    """Answer as the programs of schema 1 do: with their own, whatever was offered."""
    reader = FrameReader(duplex, frame_bytes_max=HELLO_BYTES_MAX)
    head, _ = await reader.read()
    own = dataclasses.replace(OURS, schema=schema).hello(())
    await duplex.write_all(raw(own, HELLO_KIND))
    return decode(head.body, Hello, size_max=HELLO_BYTES_MAX)


async def test_program_of_the_first_schema_is_offered_its_own_by_the_next_dial_only(
    autojump_clock: MockClock,
) -> None:
    """And only soon: who was upgraded meanwhile is offered what it can speak."""
    greeter = Greeter(dataclasses.replace(OURS, schema=STRICT_SCHEMA + 1))
    offered: list[int] = []
    agreed: list[int] = []

    async def old(stream: trio.abc.Stream) -> None:
        offered.append((await strict(Ends(stream), STRICT_SCHEMA)).schema)

    for peer, rest in (("a", 0), ("a", 0), ("b", 0), ("a", OLDER_SECONDS), ("a", 0)):
        here, there = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old, there)
            try:
                hello = await greeter.greet(Ends(here), PeerId(peer), (), dialler=True)
            except OlderPeer as error:
                agreed.append(-error.schema)
            else:
                agreed.append(hello.schema)
        await trio.sleep(rest)
    assert offered == [2, 1, 2, 2, 2]
    assert agreed == [-1, 1, -1, -1, -1]


async def test_program_of_the_first_schema_that_dials_is_answered_with_its_own() -> None:
    """The bytes of the answer: such a program compares numbers."""
    newer = dataclasses.replace(OURS, schema=STRICT_SCHEMA + 1)
    here, there = memory_stream_pair()
    old = dataclasses.replace(OURS, schema=STRICT_SCHEMA)
    await there.send_all(raw(old.hello(()), HELLO_KIND))
    theirs = await greet(Ends(here), newer.hello(()), dialler=False)
    head, _ = await FrameReader(Ends(there), frame_bytes_max=HELLO_BYTES_MAX).read()
    answer = decode(head.body, Hello, size_max=HELLO_BYTES_MAX)
    assert answer.schema == theirs.schema == STRICT_SCHEMA


async def refused(error: PeerFull, others: list[str], *, cut: bool = False) -> PeerFull:
    """What the dialler learns of a refusal for want of a place."""
    here, there = memory_stream_pair()
    caught: list[PeerFull] = []

    async def dial() -> None:
        with pytest.raises(PeerFull) as found:
            await greet(Ends(here), OURS.hello([]), dialler=True)
        caught.append(found.value)
        await here.aclose()

    async def turn_away() -> None:
        duplex: Duplex = Ends(there)
        if cut:
            duplex = FirstFrame(there)
        await turn_surplus_away(duplex, error, others)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(turn_away)
    return caught[0]


class FirstFrame(Ends):
    """An older program: it says why, and no more."""

    @override
    async def write_all(self, data: bytes) -> None:
        size = 4 + int.from_bytes(data[:4], "big")
        await super().write_all(data[:size])
        await self.stream.aclose()

    @override
    async def read_some(self, bytes_max: int) -> bytes:
        try:
            return await super().read_some(bytes_max)
        except trio.ClosedResourceError:
            return b""


async def test_who_finds_no_place_is_told_whom_to_dial() -> None:
    others = [f"/ip4/10.0.0.{number}/tcp/1/p2p/peer" for number in range(16)]
    error = await refused(PeerFull("120 peers have dialled, at most 120"), others)
    assert error.others == tuple(others)
    assert "120 peers" in error.what


async def test_addresses_beyond_a_hello_are_left_out() -> None:
    others = [f"/ip4/10.0.0.{number}/tcp/1/p2p/{'x' * 200}" for number in range(16)]
    told = (await refused(PeerFull("full"), others)).others
    assert 0 < len(told) < 16
    assert sum(map(len, told)) <= HELLO_BYTES_MAX


async def test_older_peer_without_a_place_names_nobody() -> None:
    assert (
        await refused(PeerFull("full"), ["/ip4/10.0.0.1/tcp/1/p2p/peer"], cut=True)
    ).others == ()
