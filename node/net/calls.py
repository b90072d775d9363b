"""The conversation with one peer: calls and answers, refusals, one-way messages, heartbeats.

Knows request ids, handlers and deadlines. Must not know how a stream is opened, who the peer
is beyond its id, or what a message means. Handlers run in tasks of their own, at most 32 at
once for each stream; whatever they raise becomes an answer, never a broken connection.

Invariants: each open call ends with one answer, one refusal or the loss of the peer; the first
failure of any part ends the conversation, and `run` raises it.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.node.clock import TrioClock
from prsm.node.net.budgets import REFUSED_STRAIN_MS, Limits
from prsm.node.net.interface import (
    Answer,
    Busy,
    CallHandler,
    CallRefused,
    Channel,
    Incoming,
    MessageHandler,
    PeerUnreachable,
)
from prsm.node.net.lanes import TRAFFIC, Lane, Lanes, Slot
from prsm.node.net.streams import Duplex, KeptStream
from prsm.node.telemetry import traces
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import PrsmError, RemoteError, Unsupported
from prsm.protocol.framing import PROTOCOL_VERSION, Flow, Head, Refusal
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, CALLS_OPEN_MAX, TEXT_BYTES_MAX
from prsm.protocol.messages.net import SCHEMA_VERSION, Heartbeat
from prsm.protocol.messages.table import MESSAGES, since

HEARTBEAT_S: Final = 5.0
HEARTBEATS_MISSED_MAX: Final = 2
MEASURE_S: Final = 30.0  # between two round trips of a peer that is heard anyway
# Calls of a peer at work until their answers are queued: one that asks and does not read makes us
# hold four answers of blocks (12 MiB) or eight of 1 MiB, and what the queue has.
SERVED_MAX: Final = {Channel.CTL: CALLS_OPEN_MAX, Channel.BULK: 8, Channel.RANGE: 4}
HEARTBEAT_KIND: Final = MESSAGES.number(Heartbeat)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Handlers:
    """Who receives what; filled before a network runs, shared by all its conversations."""

    messages: dict[type[Record], MessageHandler] = field(default_factory=dict)
    calls: dict[type[Record], CallHandler] = field(default_factory=dict)


@dataclass(slots=True)
class _Pending:
    """A call that waits: its outcome is an answer or an error."""

    done: trio.Event = field(default_factory=trio.Event)
    answer: Answer | None = None
    error: PrsmError | None = None

    def settle(self, *, answer: Answer | None = None, error: PrsmError | None = None) -> None:
        self.answer, self.error = answer, error
        self.done.set()


class Conversation:
    """Everything said with one peer over its kept streams.

    Args:
        peer: who the other side is.
        handlers: receivers of messages and calls.
        on_fault: told of each fault of the peer that did not end the conversation.
        schema: what both sides speak; records that came later are not sent.
        lanes: of the node; its own, without limits, when absent.
    """

    def __init__(
        self,
        peer: PeerId,
        handlers: Handlers,
        *,
        on_fault: Callable[[RemoteError], None],
        schema: int = SCHEMA_VERSION,
        lanes: Lanes | None = None,
    ) -> None:
        self.peer = peer
        self.schema = schema
        self.rtt_ms: int | None = None
        self._handlers = handlers
        self._on_fault = on_fault
        self._lanes = lanes or Lanes(Limits(), now_ms=TrioClock().monotonic_ms)
        self._lane: Lane | None = None
        self._streams = {channel: KeptStream(channel) for channel in Channel}
        self._room = {channel: trio.Semaphore(CALLS_OPEN_MAX) for channel in Channel}
        self._served = {channel: trio.Semaphore(SERVED_MAX[channel]) for channel in Channel}
        self._running = dict.fromkeys(Channel, 0)
        self._asked_bytes = 0  # of the calls that run or wait
        self._pending: dict[int, _Pending] = {}
        self._last_id = 0
        self._scope = trio.CancelScope()
        self._failure: PrsmError | None = None
        self._nursery: trio.Nursery | None = None

    @property
    def idle(self) -> bool:
        """Whether no call is open in either direction and nothing waits to be written."""
        quiet = all(stream.idle for stream in self._streams.values())
        return quiet and not self._pending and not any(self._running.values())

    @property
    def held_bytes(self) -> int:
        """What is kept for the peer: queued, half read, and in its calls that are not answered."""
        return sum(stream.held_bytes for stream in self._streams.values()) + self._asked_bytes

    async def run(self, ctl: Duplex, open_stream: Callable[[Channel], Awaitable[Duplex]]) -> None:
        """Talk until a part fails or `drop` is called.

        Args:
            ctl: the control stream, after its handshake.
            open_stream: opens, or waits for, the other kept streams.

        Raises:
            PeerUnreachable: the peer went away, stalled, or was dropped.
            RemoteError: the peer sent what no honest peer sends.
        """
        try:
            with self._scope, self._lanes.lane(self.peer) as self._lane:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._carry, Channel.CTL, ctl)
                    nursery.start_soon(self._heartbeats)
                    for channel in (Channel.BULK, Channel.RANGE):
                        nursery.start_soon(self._open, channel, open_stream)
        finally:
            self._nursery = None
            self._end()
        raise self._failure or PeerUnreachable(f"peer {self.peer} was dropped")

    def drop(self, why: PrsmError) -> None:
        """End the conversation now; the first reason given is the one `run` raises."""
        self._failure = self._failure or why
        self._scope.cancel()

    def send_nowait(self, message: Record, *, channel: Channel, tail: bytes, trace: bytes) -> bool:
        """Queue a one-way message; a full queue drops the peer.

        Returns:
            Whether it is on its way; False also for a record the peer is too old for.
        """
        head = _head(Flow.ONE_WAY, message, 0, trace)
        if since(head.kind) > self.schema:
            return False
        if self._streams[channel].put_nowait(head, tail):
            return True
        self.drop(PeerUnreachable(f"peer {self.peer} reads too slowly: {channel.value} is full"))
        return False

    async def send(self, message: Record, *, channel: Channel, tail: bytes, trace: bytes) -> None:
        """Queue a one-way message, waiting for room.

        Raises:
            PeerUnreachable: lost while waiting.
            CallRefused: the peer is too old for this record.
        """
        head = _head(Flow.ONE_WAY, message, 0, trace)
        self._refuse_newer(head.kind, message)
        await trio.lowlevel.checkpoint()
        await self._streams[channel].put(head, tail)

    async def call(
        self, message: Record, *, channel: Channel, tail: bytes = b"", trace: bytes = b""
    ) -> Answer:
        """Ask and wait; of one stream at most 32 calls are open, further ones wait their turn.

        Raises:
            PeerUnreachable: lost before the answer came.
            CallRefused: answered with a typed refusal, or the peer is too old for this record.
        """
        self._refuse_newer(MESSAGES.number(type(message)), message)
        async with Slot(self._room[channel]):
            return await self._ask(message, channel, tail, trace)

    def _refuse_newer(self, kind: int, message: Record) -> None:
        if since(kind) > self.schema:
            what = f"the peer speaks schema {self.schema}, {type(message).__name__} is newer"
            raise CallRefused(Unsupported.reason, what, peer=self.peer)

    async def _ask(self, message: Record, channel: Channel, tail: bytes, trace: bytes) -> Answer:
        self._last_id += 1
        request_id = self._last_id
        pending = self._pending[request_id] = _Pending()
        try:
            await self._streams[channel].put(_head(Flow.CALL, message, request_id, trace), tail)
            await pending.done.wait()
        finally:
            del self._pending[request_id]
        if pending.error is not None:
            raise pending.error
        assert pending.answer is not None
        return pending.answer

    def _end(self) -> None:
        why = self._failure.what if self._failure else "the network stops"
        for stream in self._streams.values():
            stream.close()
        for pending in self._pending.values():
            if not pending.done.is_set():
                pending.settle(error=PeerUnreachable(f"peer {self.peer} was lost: {why}"))

    # -- parts of a running conversation

    async def _open(
        self, channel: Channel, open_stream: Callable[[Channel], Awaitable[Duplex]]
    ) -> None:
        try:
            duplex = await open_stream(channel)
        except PrsmError as error:
            self.drop(error)
            return
        await self._carry(channel, duplex)

    async def _carry(self, channel: Channel, duplex: Duplex) -> None:
        stream, lane = self._streams[channel], self._lane
        assert lane is not None

        def on_frame(head: Head, tail: bytes) -> None:
            self._blame(lane.points())
            self._receive(channel, head, tail)

        try:
            await stream.run(duplex, on_frame, lane)
        except PrsmError as error:
            self.drop(error)
        except Exception as error:  # one peer must not take the rest down
            log.exception("conversation with %s broke", self.peer)
            self.drop(PeerUnreachable(f"{type(error).__name__} on {channel.value}"))

    async def _heartbeats(self) -> None:
        """Ask a peer that has said nothing for a while, twice; one that talks only for its trip."""
        count = missed = 0
        measured = trio.current_time() + HEARTBEAT_S - MEASURE_S  # the first one soon
        while missed < HEARTBEATS_MISSED_MAX:
            began = trio.current_time()
            while (due := self._beat_due_s(began, measured)) > trio.current_time():  # noqa: ASYNC110 - it moves
                await trio.sleep_until(due)
            missed, measured = 0, trio.current_time()
            while missed < HEARTBEATS_MISSED_MAX:
                count += 1
                heard = self._frames_read()
                if await self._beat(count) or self._frames_read() > heard:
                    break
                missed += 1
        self.drop(PeerUnreachable(f"peer {self.peer} missed {missed} heartbeats"))

    async def _beat(self, count: int) -> bool:
        sent = trio.current_time()
        with trio.move_on_after(HEARTBEAT_S):
            try:
                await self._ask(Heartbeat(count=count), Channel.CTL, b"", b"")
            except PrsmError as error:
                self.drop(error)
                return True
            self.rtt_ms = round((trio.current_time() - sent) * 1000)
            return True
        return False

    def _frames_read(self) -> int:
        return sum(stream.frames_read for stream in self._streams.values())

    def _beat_due_s(self, began: float, measured: float) -> float:
        """When to ask, as it stands: the peer was silent so long, or its trip is an old one."""
        heard = max(stream.heard_s for stream in self._streams.values())
        return min(max(began, heard) + HEARTBEAT_S, measured + MEASURE_S)

    # -- what arrives

    def _receive(self, channel: Channel, head: Head, tail: bytes) -> None:
        match head.flow:
            case Flow.ONE_WAY:
                self._take_message(self._incoming(head, tail))
            case Flow.CALL:
                self._take_call(channel, head, self._incoming(head, tail))
            case Flow.REPLY:
                if pending := self._pending.get(head.request_id):
                    pending.settle(answer=(self._incoming(head, tail).message, tail))
            case Flow.ERROR:
                if pending := self._pending.get(head.request_id):
                    refusal = decode(head.body, Refusal, size_max=4 * TEXT_BYTES_MAX + 128)
                    pending.settle(error=self._refused(refusal))

    def _blame(self, points: int) -> None:
        if points:
            what = "far over its budget of messages and calls, for seconds"
            self._on_fault(RemoteError(what, peer=self.peer, penalty=points))

    def _incoming(self, head: Head, tail: bytes) -> Incoming:
        message = MESSAGES.decode(head.kind, head.body, size_max=BULK_FRAME_BYTES_MAX)
        return Incoming(peer=self.peer, message=message, tail=tail, trace=head.trace)

    def _refused(self, refusal: Refusal) -> CallRefused:
        return CallRefused(
            refusal.reason, refusal.what, peer=self.peer, retry_after_ms=refusal.retry_after_ms
        )

    def _take_message(self, incoming: Incoming) -> None:
        handler = self._handlers.messages.get(type(incoming.message))
        if handler is None:
            log.debug("nobody takes %s of %s", type(incoming.message).__name__, self.peer)
            return
        try:
            handler(incoming)
        except RemoteError as error:
            self._on_fault(error)
        except Exception:
            log.exception("receiver of %s failed", type(incoming.message).__name__)

    def _take_call(self, channel: Channel, head: Head, incoming: Incoming) -> None:
        if head.kind == HEARTBEAT_KIND:
            answer = _head(Flow.REPLY, incoming.message, head.request_id, head.trace)
            self._streams[channel].put_nowait(answer)
            return
        if self._running[channel] >= CALLS_OPEN_MAX:
            busy = Busy(f"{CALLS_OPEN_MAX} calls of this peer run on {channel.value}")
            self._streams[channel].put_nowait(_refusal(head, busy))
            return
        assert self._nursery is not None
        assert self._lane is not None
        if retry_ms := self._lane.called(TRAFFIC[channel]):
            self._blame(self._lane.strained(REFUSED_STRAIN_MS))
            busy = Busy(f"too many calls on {channel.value}", retry_after_ms=retry_ms)
            self._streams[channel].put_nowait(_refusal(head, busy))
            return
        self._running[channel] += 1
        self._asked_bytes += len(head.body) + len(incoming.tail)
        self._nursery.start_soon(self._serve, channel, head, incoming)

    async def _serve(self, channel: Channel, head: Head, incoming: Incoming) -> None:
        stream = self._streams[channel]
        try:
            try:
                async with Slot(self._served[channel]):
                    message, tail = await self._answer(incoming)
                    await stream.put(_head(Flow.REPLY, message, head.request_id, head.trace), tail)
            except PeerUnreachable as error:
                await stream.put(_refusal(head, error))
            except PrsmError as error:
                if isinstance(error, RemoteError):
                    self._on_fault(error)
                await stream.put(_refusal(head, error))
            except Exception:
                log.exception("call %s of %s failed", type(incoming.message).__name__, self.peer)
                await stream.put(_refusal(head, PrsmError("the call failed inside the peer")))
        except PeerUnreachable:
            log.debug("peer %s went away before its answer", self.peer)
        finally:
            self._running[channel] -= 1
            self._asked_bytes -= len(head.body) + len(incoming.tail)

    async def _answer(self, incoming: Incoming) -> Answer:
        handler = self._handlers.calls.get(type(incoming.message))
        if handler is None:
            raise Unsupported(f"this node does not answer {type(incoming.message).__name__}")
        with traces.arrived(incoming.trace):
            return await handler(incoming)


def _head(flow: Flow, message: Record, request_id: int, trace: bytes) -> Head:
    return Head(
        version=PROTOCOL_VERSION,
        flow=flow,
        kind=MESSAGES.number(type(message)),
        request_id=request_id,
        trace=trace or traces.carried(),
        body=encode(message),
    )


def _refusal(call: Head, error: PrsmError) -> Head:
    body = Refusal(
        reason=error.reason[:64],
        what=error.what[:TEXT_BYTES_MAX],
        retry_after_ms=error.retry_after_ms if isinstance(error, Busy) else 0,
    )
    return Head(
        version=PROTOCOL_VERSION,
        flow=Flow.ERROR,
        kind=call.kind,
        request_id=call.request_id,
        trace=call.trace,
        body=encode(body),
    )
