"""Connections of the fenced muxer: which streams are served at all."""

import inspect

import trio
from libp2p.stream_muxer.yamux.yamux import Yamux

from prsm.node.net import muxed


class Over:
    """A stream that its opener has reset before anybody here took it."""

    reset_received = True

    def __init__(self) -> None:
        self.was_forgotten = False

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()
        self.was_forgotten = True


async def test_stream_that_was_reset_at_once_is_not_served() -> None:
    """A flood opens and resets in one breath; choosing its protocol costs more than the flood."""
    assert "stream.reset_received = True" in inspect.getsource(Yamux.handle_incoming)
    connection = muxed.FencedConn.__new__(muxed.FencedConn)  # stock parts would be touched in vain
    connection.event_closed = trio.Event()
    stream = Over()
    await connection._handle_muxed_stream(stream)  # type: ignore[arg-type]  # all that is asked for
    assert stream.was_forgotten
