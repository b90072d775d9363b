"""What a transport promises the rest of the node: identified peers, kept streams, calls, gossip.

Two implementations stand behind this port: libp2p (`node/net/host`) and memory
(`node/net/memory`); one battery (`tests/conformance`) runs on both.

Knows: records, channels, peers. Must not know: libp2p, what any message means.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import trio

from prsm.protocol.codec import Record
from prsm.protocol.errors import LocalError, RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.net import SCHEMA_VERSION


class Channel(Enum):
    """Which kept stream of a peer carries a message."""

    CTL = "/prsm/ctl/1"  # consensus, requests, heartbeats; frames up to 1 MiB
    BULK = "/prsm/bulk/1"  # all work traffic: tensors, decode steps; frames up to 4 MiB
    RANGE = "/prsm/range/1"  # blocks of models: a slow disk must not hold up tensors; 4 MiB


class PeerUnreachable(LocalError):
    """No live connection to that peer, or it went away before it answered."""

    reason = "peer_unreachable"


class Busy(LocalError):
    """Raised by a call's handler that has no room now: the caller learns when to ask again."""

    reason = "busy"

    def __init__(self, what: str, *, retry_after_ms: int = 200) -> None:
        super().__init__(what)
        self.retry_after_ms = retry_after_ms


class CallRefused(RemoteError):
    """The peer answered a call with a typed refusal."""

    reason = "refused"

    def __init__(self, reason: str, what: str, *, peer: str, retry_after_ms: int = 0) -> None:
        super().__init__(what, peer=peer, penalty=0)
        self.refusal = reason
        self.retry_after_ms = retry_after_ms


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message of a peer: decoded and bounded, from an authenticated stream."""

    peer: PeerId
    message: Record
    tail: bytes
    trace: bytes


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A live peer: who it is, where, and since when (ms of the node's clock)."""

    peer: PeerId
    address: str
    outbound: bool
    since_ms: int
    rtt_ms: int | None
    agent: str
    schema: int = SCHEMA_VERSION  # of the records both speak


@dataclass(frozen=True, slots=True)
class BanInfo:
    """A peer that is neither dialled nor let in: until when, and why.

    Attributes:
        peer: who.
        until_ms: of the node's clock: what counts.
        shown_ms: wall clock, as it is kept and told to people; it never wavers.
        why: one sentence.
        times: bans by its own faults.
        is_ours: one that the operator made.
    """

    peer: PeerId
    until_ms: int
    shown_ms: int
    why: str
    times: int = 0
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A peer became usable (both ends agreed on the network) or was lost."""

    peer: PeerId
    up: bool
    why: str = ""
    is_banned: bool = False  # so it does not come back soon


Answer = tuple[Record, bytes]  # record and raw tail
MessageHandler = Callable[[Incoming], None]  # runs in the reader task: queues, never waits
CallHandler = Callable[[Incoming], Awaitable[Answer]]  # own task; PrsmError becomes a refusal
# Total. False: not forwarded, sender penalised; None: not forwarded, nobody's fault.
GossipHandler = Callable[[PeerId, bytes], bool | None]
PeerHandler = Callable[[PeerEvent], None]


class Network(Protocol):
    """A transport between identified peers of one chain."""

    @property
    def peer_id(self) -> PeerId:
        """Our own identity."""
        ...

    @property
    def addresses(self) -> Sequence[str]:
        """Multiaddresses with /p2p/ that others may dial; empty before `run` has started."""
        ...

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once it listens."""
        ...

    def on_message(self, cls: type[Record], handler: MessageHandler) -> None:
        """Register the receiver of one-way messages of a class; once, before `run`."""
        ...

    def on_call(self, cls: type[Record], handler: CallHandler) -> None:
        """Register who answers calls of a class; once, before `run`."""
        ...

    def on_gossip(self, topic: str, handler: GossipHandler) -> None:
        """Subscribe to a topic before `run`; the handler judges each record and keeps it."""
        ...

    def on_peer(self, handler: PeerHandler) -> None:
        """Be told of peers that come and go; before `run`."""
        ...

    def peers(self) -> tuple[PeerInfo, ...]:
        """The live peers, in order of their ids."""
        ...

    async def connect(self, address: str, *, hint: str = "") -> PeerId:
        """Dial `/ip4/…/tcp/…/p2p/…` and shake hands; kept and redialled until `disconnect`.

        Args:
            address: where.
            hint: the part of this node that follows what others told, or what the owner wrote
                for it; empty: the owner asked. A hint is tried once, and moves nothing of what is
                wanted already.

        Raises:
            LocalError: no address of that form, or our own.
            PeerUnreachable: nobody answers there now; the redialling goes on, but after a hint.
            WrongChain: the peer is of another network; it is not dialled again.
            ProtocolMismatch: the peer speaks another protocol version; not dialled again. One
                that was linked and comes back so is tried every five minutes, but after a hint.
        """
        ...

    async def probe(self, address: str) -> PeerId:
        """Have the peer at an address prove who it is, and close: no link comes of it.

        Raises:
            LocalError: no address of that form, or our own.
            PeerUnreachable: nobody of that identity answers there, or it is behind a relay that
                is not linked.
        """
        ...

    async def disconnect(self, peer: PeerId, *, hint: str = "") -> None:
        """Close the connection and stop redialling, unless others want the peer, too.

        Args:
            peer: who.
            hint: the part of this node that gives up what came of its hints; a link that the
                peer made itself stays then.
        """
        ...

    def send_nowait(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> bool:
        """Queue a one-way message; False if the peer is not connected. A full queue drops it."""
        ...

    async def send(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> None:
        """Queue a one-way message, waiting for room (back-pressure for tensors and blocks).

        Raises:
            PeerUnreachable: no live connection, or lost while waiting.
        """
        ...

    async def call(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> Answer:
        """Ask and wait for the answer; the caller sets the deadline.

        Raises:
            PeerUnreachable: no live connection, or lost while waiting.
            CallRefused: the peer answered with a typed refusal.
        """
        ...

    async def publish(self, topic: str, record: bytes) -> None:
        """Gossip a record of at most 64 KiB, signed inside; hints only, never agreement.

        Raises:
            LocalError: too large, or a topic nobody subscribed here.
        """
        ...

    def penalise(self, peer: PeerId, error: RemoteError) -> None:
        """Count a fault of a peer; 100 points ban it: 1 min, doubling up to 24 h."""
        ...
