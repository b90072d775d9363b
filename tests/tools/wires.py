"""A `Network` without peers' nodes behind it: notes what is sent, answers what a test says."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from prsm.node.net.interface import (
    Answer,
    CallHandler,
    Channel,
    GossipHandler,
    Incoming,
    MessageHandler,
    PeerEvent,
    PeerHandler,
    PeerInfo,
    PeerUnreachable,
)
from prsm.protocol.codec import Record
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId

US = PeerId("us")
Reply = Callable[[Record], Awaitable[Record | Answer]]


@dataclass
class Wire:
    """One node's end of nothing."""

    peer_id: PeerId = US
    addresses: Sequence[str] = ()
    live: list[PeerId] = field(default_factory=list)
    sent: list[tuple[PeerId, Record]] = field(default_factory=list)
    calls: list[tuple[PeerId, Record]] = field(default_factory=list)
    penalties: list[tuple[PeerId, RemoteError]] = field(default_factory=list)
    replies: dict[PeerId, Reply] = field(default_factory=dict)
    messages: dict[type[Record], MessageHandler] = field(default_factory=dict)
    answers: dict[type[Record], CallHandler] = field(default_factory=dict)
    watchers: list[PeerHandler] = field(default_factory=list)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    def on_message(self, cls: type[Record], handler: MessageHandler) -> None:
        self.messages[cls] = handler

    def on_call(self, cls: type[Record], handler: CallHandler) -> None:
        self.answers[cls] = handler

    def on_gossip(self, topic: str, handler: GossipHandler) -> None:
        raise NotImplementedError

    def on_peer(self, handler: PeerHandler) -> None:
        self.watchers.append(handler)

    def peers(self) -> tuple[PeerInfo, ...]:
        return tuple(PeerInfo(peer, "", False, 0, None, "") for peer in self.live)

    async def connect(self, address: str, *, hint: str = "") -> PeerId:
        raise NotImplementedError

    async def probe(self, address: str) -> PeerId:
        raise NotImplementedError

    async def disconnect(self, peer: PeerId, *, hint: str = "") -> None:
        raise NotImplementedError

    def send_nowait(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,  # noqa: ARG002 - the port
        tail: bytes = b"",  # noqa: ARG002 - the port
        trace: bytes = b"",  # noqa: ARG002 - the port
    ) -> bool:
        self.sent.append((peer, message))
        return True

    async def send(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> None:
        raise NotImplementedError

    async def call(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,  # noqa: ARG002 - the port
        tail: bytes = b"",  # noqa: ARG002 - the port
        trace: bytes = b"",  # noqa: ARG002 - the port
    ) -> Answer:
        await trio.lowlevel.checkpoint()
        self.calls.append((peer, message))
        if peer not in self.replies:
            raise PeerUnreachable(f"{peer} is not there")
        reply = await self.replies[peer](message)
        return reply if isinstance(reply, tuple) else (reply, b"")

    async def publish(self, topic: str, record: bytes) -> None:
        raise NotImplementedError

    def penalise(self, peer: PeerId, error: RemoteError) -> None:
        self.penalties.append((peer, error))

    def hear(self, peer: PeerId, message: Record) -> None:
        """Let a message of a peer arrive."""
        self.messages[type(message)](Incoming(peer, message, b"", b""))

    def meet(self, peer: PeerId) -> None:
        """Let a peer connect."""
        self.live.append(peer)
        for handler in self.watchers:
            handler(PeerEvent(peer=peer, up=True))

    def lose(self, peer: PeerId) -> None:
        """Let a peer's connection end."""
        self.live.remove(peer)
        for handler in self.watchers:
            handler(PeerEvent(peer=peer, up=False))

    async def ask(self, peer: PeerId, message: Record) -> Record:
        """Let a call of a peer arrive."""
        answer, _ = await self.answers[type(message)](Incoming(peer, message, b"", b""))
        return answer
