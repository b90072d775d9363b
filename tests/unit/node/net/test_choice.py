"""Choosing a protocol in one breath, against the stock side that answers."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from libp2p.custom_types import TProtocol
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.utils import encode_delim
from typing_extensions import override

from prsm.node.net import guard
from prsm.node.net.choice import OpeningClient, PromptClient
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId

ONE, TWO = TProtocol("/one/1"), TProtocol("/two/1")
STREAM_LINE = "/multistream/1.0.0"
Memory = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class Wire(ReadWriteCloser):
    """A memory stream as libp2p reads and writes one; keeps what was written, write by write."""

    def __init__(self, stream: Memory) -> None:
        self.stream = stream
        self.written: list[bytes] = []

    @override
    async def read(self, n: int | None = None) -> bytes:
        return bytes(await self.stream.receive_some(n))

    @override
    async def write(self, data: bytes) -> None:
        self.written.append(data)
        await self.stream.send_all(data)

    @override
    async def close(self) -> None:
        await self.stream.aclose()

    @override
    def get_remote_address(self) -> tuple[str, int] | None:
        return None


def pair() -> tuple[Wire, Wire]:
    ours, theirs = trio.testing.memory_stream_pair()
    return Wire(ours), Wire(theirs)


def line(text: str) -> bytes:
    return encode_delim(text.encode())


async def answered_by(theirs: Wire, spoken: TProtocol) -> None:
    """The stock side; what it refuses is the other side's to notice."""
    await Multiselect({spoken: None}).negotiate(MultiselectCommunicator(theirs))


async def chosen(
    protocols: tuple[TProtocol, ...], serve: Callable[[Wire], Awaitable[None]]
) -> tuple[list[TProtocol | Exception], Wire]:
    ours, theirs = pair()
    found: list[TProtocol | Exception] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        try:
            found.append(
                await PromptClient().select_one_of(protocols, MultiselectCommunicator(ours), 5)
            )
        except MultiselectClientError as error:
            found.append(error)
        nursery.cancel_scope.cancel()
    return found, ours


async def test_only_protocol_is_chosen_in_one_write() -> None:
    found, ours = await chosen((ONE,), lambda theirs: answered_by(theirs, ONE))
    assert found == [ONE]
    assert ours.written == [line(STREAM_LINE) + line(ONE)]


async def test_protocol_the_other_side_does_not_speak_is_refused_as_before() -> None:
    found, ours = await chosen((ONE,), lambda theirs: answered_by(theirs, TWO))
    assert isinstance(found[0], MultiselectClientError)
    assert "not supported" in str(found[0])
    assert ours.written == [line(STREAM_LINE) + line(ONE)]


async def test_of_several_protocols_one_after_the_other_is_asked_for() -> None:
    found, ours = await chosen((ONE, TWO), lambda theirs: answered_by(theirs, TWO))
    assert found == [TWO]
    assert ours.written == [line(STREAM_LINE), line(ONE), line(TWO)]


@pytest.mark.parametrize(
    "said", [b"\x04nah\n", line(STREAM_LINE) + line("/other/1"), b"junk", b"", line("na")]
)
async def test_any_other_answer_is_an_error(said: bytes) -> None:
    async def serve(theirs: Wire) -> None:
        if said:
            await theirs.write(said)
        await theirs.stream.send_stream.aclose()

    found, _ = await chosen((ONE,), serve)
    assert isinstance(found[0], MultiselectClientError)


async def test_side_that_begins_anew_is_followed_as_stock_code_does() -> None:
    """Some programs name multistream twice: then both lines are said again, one by one."""

    async def serve(theirs: Wire) -> None:
        await theirs.write(line(STREAM_LINE) * 3 + line(ONE))

    found, ours = await chosen((ONE,), serve)
    assert found == [ONE]
    assert ours.written == [line(STREAM_LINE) + line(ONE), line(STREAM_LINE), line(ONE)]


class Broken(Wire):
    """A line that takes nothing any more."""

    @override
    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("closed")


async def test_line_that_breaks_is_an_error_of_multistream() -> None:
    ours, _ = trio.testing.memory_stream_pair()
    with pytest.raises(MultiselectClientError, match="write failed"):
        await PromptClient().select_one_of((ONE,), MultiselectCommunicator(Broken(ours)), 5)


def test_host_chooses_promptly_everywhere() -> None:
    def nobody(_peer: PeerId, _error: RemoteError) -> None:
        raise AssertionError

    host = guard.make_host(bytes(range(32)), nobody)
    upgrader = vars(host.get_network())["upgrader"]
    assert isinstance(upgrader.security_multistream.multiselect_client, OpeningClient)
    for client in (host.multiselect_client, upgrader.muxer_multistream.multiselect_client):
        assert isinstance(client, PromptClient)


async def opened(ours: Wire) -> RawConnection:
    """A connection on which the only protocol was chosen."""
    raw = RawConnection(ours, True)
    assert await OpeningClient().select_one_of((ONE,), MultiselectCommunicator(raw)) == ONE
    return raw


async def test_choice_leaves_with_the_first_words_and_is_checked_before_the_first_answer() -> None:
    ours, theirs = pair()
    raw = await opened(ours)
    assert ours.written == []
    await raw.write(b"first")
    await raw.write(b"second")
    assert ours.written == [line(STREAM_LINE) + line(ONE) + b"first", b"second"]
    assert await theirs.read(99) == b"".join(ours.written)
    await theirs.write(line(STREAM_LINE) + line(ONE) + b"answer")
    assert await raw.read(3) == b"ans"
    assert await raw.read(9) == b"wer"
    assert not {"read", "write"} & vars(raw).keys(), "nothing of it is left"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (line(STREAM_LINE) + line("na"), "not supported"),
        (line(STREAM_LINE) + line(TWO), "not supported"),
        (line(ONE) * 2, "not supported"),
        (b"junk", "no answer"),
        (b"", "no answer"),
    ],
)
async def test_other_answer_to_the_opening_is_an_error(said: bytes, why: str) -> None:
    ours, theirs = pair()
    raw = await opened(ours)
    await raw.write(b"first")
    if said:
        await theirs.write(said)
    await theirs.stream.send_stream.aclose()
    with pytest.raises(MultiselectClientError, match=why):
        await raw.read(1)


async def test_stock_side_takes_the_first_words_after_the_choice() -> None:
    ours, theirs = pair()
    raw = await opened(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answered_by, theirs, ONE)
        await raw.write(b"first")
    assert await theirs.read(99) == b"first"
