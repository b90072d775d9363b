"""One WebSocket: hypercorn's machine, which ends when its connection does.

Frames that were read together are handed over together, answers that belong together leave in one
write, and of pings that came together the last is answered.

Knows: hypercorn's and wsproto's protocol objects. Must not know: sockets, JSON-RPC.
Source: RFC 6455.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, Final, cast

import trio
from hypercorn.protocol.events import Data, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent
from typing_extensions import override
from wsproto.events import Event as WebSocketEvent
from wsproto.events import Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError

_CLOSE_S: Final = 1.0
_PINGS_LOST_MAX: Final = 2.5  # spans without a word, then the other side is gone
_FRAMES_TOGETHER: Final = 64  # in one message to the application, of which few may wait
_FRAMES_A_TURN: Final = 256  # parsed in one turn of the loop; 10,900 that hold nothing fit a read


class WebSocket(WSStream):
    """hypercorn's WebSocket, which ends when its connection does and holds nothing unbounded.

    The stock one sleeps up to a ping's span after the end, keeps a peer that is gone until TCP
    says so, goes on collecting a message that it has refused, and waits for ever to tell an
    application of the end whose queue is full.
    """

    def __init__(self, *parts: Any) -> None:  # noqa: ANN401 - as the stock one, nine of them
        super().__init__(*parts)
        self._over = trio.Event()
        self._heard_s = trio.current_time()
        self._is_deaf = False
        self._parse: Callable[[], Generator[WebSocketEvent]] | None = None
        self._has_more = False  # frames of what was read, for another turn
        self._tell: Callable[[ASGIReceiveEvent], Awaitable[None]] | None = None
        self._telling = trio.CancelScope()
        self._parts: list[bytes] = []
        self._came: list[str | None] = []  # frames of what is being read; None for bytes
        self._pong: Pong | None = None  # to the last ping of what is being read

    @override
    async def handle(self, event: StreamEvent) -> None:
        """Take a part of the stream, or its end."""
        self._heard_s = trio.current_time()
        if isinstance(event, StreamClosed):
            self._over.set()
            self._telling.cancel()
            with trio.move_on_after(_CLOSE_S) as patience:
                await super().handle(event)
            if patience.cancelled_caught:
                self.scope["state"]["abort"]()
        elif isinstance(event, Data) and not self.handshake.accepted:
            self._is_deaf = True  # frames before there is anybody to hear them
            await self.send(StreamClosed(stream_id=self.stream_id))
        else:
            await self._hear(event)
        if self._tell is None and self.app_put is not None:
            self._tell, self.app_put = self.app_put, self._tell_app

    async def _hear(self, event: StreamEvent) -> None:
        if self._is_deaf:
            return
        try:
            await super().handle(event)
        except LocalProtocolError:
            self._is_deaf = True  # bytes behind the end

    async def _tell_app(self, message: ASGIReceiveEvent) -> None:
        """Hand a message over; frames that were read together go together."""
        assert self._tell is not None
        if message["type"] != "websocket.receive":
            await self._tell(message)
            return
        self._came.append(message.get("text"))
        if len(self._came) >= _FRAMES_TOGETHER:
            await self._tell_frames()

    async def _tell_frames(self) -> None:
        """Hand over what came; for an application that may be over it is dropped."""
        came, self._came = self._came, []
        if not came or self._over.is_set():
            return
        assert self._tell is not None
        together: object = {"type": "websocket.receive", "texts": came}
        with trio.CancelScope() as self._telling:
            await self._tell(cast("ASGIReceiveEvent", together))

    @override
    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Send a message; a text with `more` leaves with the next one, in one write."""
        is_text = message is not None and message["type"] == "websocket.send"
        if not is_text or self.closed or self.state is not ASGIWebsocketState.CONNECTED:
            await super().app_send(message)
            return
        fields = cast("Mapping[str, object]", message)
        with suppress(LocalProtocolError):  # it is being closed
            self._parts.append(self.connection.send(TextMessage(data=str(fields["text"]))))
        if not fields.get("more"):
            data, self._parts = b"".join(self._parts), []
            await self.send(Data(stream_id=self.stream_id, data=data))

    @override
    async def _handle_events(self) -> None:
        """Take what was read, some frames a turn: they may hold nothing, and each is work."""
        if self._parse is None:
            self._parse = self.connection.events
            self.connection.events = self._parse_some  # type: ignore[method-assign]  # the stock one asks
        await self._take_frames()
        while self._has_more and not self.closed and not self._is_deaf:
            await trio.lowlevel.checkpoint()
            await self._take_frames()

    def _parse_some(self) -> Generator[WebSocketEvent]:
        """As many frames as one turn may take; the machine keeps the bytes of the others."""
        assert self._parse is not None
        self._has_more = False
        for count, event in enumerate(self._parse(), start=1):
            self._has_more = count == _FRAMES_A_TURN
            yield event
            if self._has_more:
                return

    async def _take_frames(self) -> None:
        await super()._handle_events()
        await self._tell_frames()
        await self._answer_ping()
        if self.buffer.length > self.buffer.max_length:  # it was told so, with 1009
            self._is_deaf = True
            self.buffer.clear()
            self.task_group.spawn(self._close_soon)

    @override
    async def _send_wsproto_event(self, event: WebSocketEvent) -> None:
        if isinstance(event, Pong):
            self._pong = event  # RFC 6455, 5.5.3: of pings that came together the last is answered
            return
        await self._tell_frames()  # what came before the end is heard before it
        await self._answer_ping()
        await super()._send_wsproto_event(event)

    async def _answer_ping(self) -> None:
        pong, self._pong = self._pong, None
        if pong is not None:
            await super()._send_wsproto_event(pong)

    async def _close_soon(self) -> None:
        with trio.move_on_after(_CLOSE_S):
            await self._over.wait()
        await self.send(StreamClosed(stream_id=self.stream_id))

    @override
    async def _send_pings(self) -> None:
        span = self.config.websocket_ping_interval or 0.0
        while not self.closed:
            with trio.move_on_after(span):
                await self._over.wait()
            if trio.current_time() - self._heard_s > _PINGS_LOST_MAX * span:
                await self.send(StreamClosed(stream_id=self.stream_id))
            elif not self._over.is_set():
                await self._send_wsproto_event(Ping())
