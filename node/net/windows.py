"""Windows of Yamux: when a sender is told what was read, and when a writer goes on.

Knows one stream and the frames it writes. Must not know connections, peers, what is carried.
Source: the specification of Yamux, "Flow control".
"""

from typing import Final

import trio
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import TYPE_DATA, YamuxStream
from typing_extensions import override

from prsm.node.net.frames import HEADER

DATA_BYTES_MAX: Final = MAX_PLAINTEXT_LENGTH - HEADER.size  # a frame is one Noise packet
CREDIT_SHARE: Final = 16  # of the window that may be owed
CREDIT_BYTES_MIN: Final = 16 * 1024  # read but not yet told; far below the first window of 256 KiB
CREDIT_SECONDS: Final = 5.0
CREDIT_LOOK_SECONDS: Final = 0.1


class WindowedStream(YamuxStream):
    """A stream that tells the sender what was read once a sixteenth of its window is owed.

    Stock code answers every read with an encrypted window update of its own: a fifth of the CPU of
    a busy node. It keeps one sum: the sender's window, what is in flight, what waits here and
    what is owed make up a window or more. Whoever has read all owes less than a sixteenth, so a
    sender always has the rest. Waiting for half a window instead, bulk falls to an eighth: stock
    code then takes the pause for a slow link, and never grows the window.
    """

    owed = 0  # bytes read since the sender was last told
    credit: trio.Event | None = None  # of who waits for it

    @override
    async def write(self, data: bytes) -> None:
        """Write all bytes, each frame as one packet; credit is waited for, not looked for."""
        rest = memoryview(data)
        while rest:
            if self.send_closed or self.closed:
                await super().write(bytes(rest))  # which says why not
                return
            if self.send_window <= 0:
                await self._wait_credit()
                continue
            part = rest[: min(self.send_window, DATA_BYTES_MAX)]
            rest = rest[len(part) :]
            self.send_window -= len(part)
            header = HEADER.pack(0, TYPE_DATA, 0, self.stream_id, len(part))
            await self.conn._write_frame(b"".join((header, part)))  # noqa: SLF001 - its own

    async def _wait_credit(self) -> None:
        # Stock code looks a hundred times a second: a pause of 10 ms after each window.
        with trio.move_on_after(CREDIT_SECONDS) as scope:
            while self.send_window <= 0 and not (self.send_closed or self.closed):
                event = self.credit = trio.Event()
                # Credit in a frame with flags goes the stock way, which tells nobody.
                with trio.move_on_after(CREDIT_LOOK_SECONDS):
                    await event.wait()
        if scope.cancelled_caught:
            raise MuxedStreamError(f"no credit for {CREDIT_SECONDS:g} s")

    @override
    async def read(self, n: int | None = -1) -> bytes:
        """Wait for the next bytes, at most n; the end and its reasons are stock code's to tell."""
        conn = self.conn
        while n is not None and n > 0 and not (self.recv_closed or self.closed):
            buffer = conn.stream_buffers.get(self.stream_id)
            event = conn.stream_events.get(self.stream_id)
            if buffer is None or event is None or conn.event_shutting_down.is_set():
                break
            if buffer:
                if len(buffer) <= n:
                    data = bytes(buffer)
                    buffer.clear()
                else:
                    with memoryview(buffer) as view:
                        data = bytes(view[:n])
                    del buffer[:n]
                await self._auto_tune_and_send_window_update(bytes_read=len(data))
                return data
            await event.wait()
            if self.stream_id in conn.stream_events:
                conn.stream_events[self.stream_id] = trio.Event()
        return await super().read(n)

    @override
    def _apply_autotune_epoch(self, buffered: int) -> int:
        # What nobody asked for may come, but no faster: sixteen windows of 1 MiB are memory.
        if getattr(self.conn, "is_quiet", False):
            return 0
        return super()._apply_autotune_epoch(buffered)

    @override
    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:
        self.owed += bytes_read
        if self.owed >= max(CREDIT_BYTES_MIN, self.target_recv_window // CREDIT_SHARE):
            told, self.owed = self.owed, 0
            await super()._auto_tune_and_send_window_update(bytes_read=told)
