"""The `Network` port over any transport: what both implementations share.

Knows the port, the live peers and supervision. Must not know libp2p or memory pipes. A crash
of the transport, or of anything that runs in its tasks, ends one incarnation: all links are
lost, the supervisor builds the transport again with the same identity, wanted peers are
redialled. Handlers, scores and bans outlive it.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import trio

from prsm.node.clock import Clock, TrioClock
from prsm.node.net.bans import BanFile, Bans
from prsm.node.net.budgets import NO_LIMITS, Limits
from prsm.node.net.entry import EntryRules
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import (
    Answer,
    BanInfo,
    CallHandler,
    Channel,
    GossipHandler,
    MessageHandler,
    PeerHandler,
    PeerInfo,
    PeerUnreachable,
)
from prsm.node.net.lanes import Lanes
from prsm.node.net.meters import Counts, GossipMeter
from prsm.node.net.peers import CLOSE_DEADLINE_S, DIAL_DEADLINE_S, Connection, Dial, Peers
from prsm.node.net.scores import Service
from prsm.node.net.transport import Hooks, Transport
from prsm.node.net.watch import MEMORY_BYTES_DEFAULT, Watch
from prsm.node.supervise import Supervisor
from prsm.node.telemetry import metrics
from prsm.protocol.codec import Record
from prsm.protocol.errors import LocalError, RemoteError
from prsm.protocol.identity import is_circuit, parse_circuit, peer_in
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import GOSSIP_RECORD_BYTES_MAX

ENVELOPE_POINTS: Final = 5  # of gossip beyond the limits: twenty in two minutes ban

log = logging.getLogger(__name__)


class PeerNetwork:
    """The port `Network`, on a transport.

    Args:
        transport: moves the bytes.
        chain: which network this node belongs to.
        clock: of the node; trio's when absent.
        bans: where bans outlive the process; in memory only when absent.
        limits: bytes a second for all that is no consensus.
        memory_bytes: of the process; beyond it the peers that hold most of it are dropped.
    """

    def __init__(
        self,
        transport: Transport,
        chain: ChainIdentity,
        *,
        clock: Clock | None = None,
        bans: BanFile | None = None,
        limits: Limits = NO_LIMITS,
        memory_bytes: int = MEMORY_BYTES_DEFAULT,
    ) -> None:
        self._transport = transport
        clock = clock or TrioClock()
        self._now_ms = clock.monotonic_ms
        self._bans = Bans(clock, bans)
        self._lanes = Lanes(limits, now_ms=self._now_ms)
        self._peers = Peers(transport.peer_id, chain, bans=self._bans, lanes=self._lanes)
        self._gossip: dict[str, GossipHandler] = {}
        self._supervisor = Supervisor("network")
        self._meter = GossipMeter(now_ms=0)
        self._service = Service()
        self.watch = Watch(memory_bytes, self._held, self._peers.drop)
        self._ran = False
        self._dial_circuit: Dial | None = None
        self._more_addresses: Callable[[], Sequence[str]] = tuple
        self._more_held: Callable[[], Mapping[PeerId, int]] = dict

    @property
    def peer_id(self) -> PeerId:
        """Our own identity."""
        return self._transport.peer_id

    @property
    def addresses(self) -> Sequence[str]:
        """Multiaddresses with /p2p/ that others may dial; empty before `run` has started."""
        return (*self._transport.addresses, *self._more_addresses())

    @property
    def lanes(self) -> Lanes:
        """What peers may use; shared by other hosts of this node."""
        return self._lanes

    @property
    def trusted(self) -> frozenset[PeerId]:
        """The only peers that are let in; everybody if empty."""
        return self._peers.entry.trusted

    @property
    def restarts(self) -> int:
        """How often the transport crashed and was built again."""
        return self._supervisor.restarts

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once it listens.

        Raises:
            LocalError: it cannot listen there.
        """
        self._ran = True
        self._bans.load()
        await self._supervisor.run(self._incarnation, task_status=task_status)

    async def _incarnation(self, *, task_status: trio.TaskStatus[None]) -> None:
        transport, peers = self._transport, self._peers
        async with trio.open_nursery() as nursery:
            await nursery.start(self._bans.run)
            await nursery.start(self.watch.run)
            await nursery.start(peers.run, self._dial, lambda: tuple(self.addresses))
            await nursery.start(transport.run, tuple(self._gossip), self._hooks())
            task_status.started()

    def extend(
        self,
        dial: Dial,
        addresses: Callable[[], Sequence[str]],
        held: Callable[[], Mapping[PeerId, int]],
    ) -> None:
        """Dial through relays, and say where others can dial us so; before `run`.

        Args:
            dial: opens a connection to an address behind a relay.
            addresses: more addresses of ours than those where the transport listens.
            held: bytes kept for each peer in circuits.
        """
        assert not self._ran
        self._dial_circuit, self._more_addresses = dial, addresses
        self._more_held = held

    async def _dial(self, peer: PeerId, address: str) -> Connection:
        if not is_circuit(address):
            return await self._transport.dial(peer, address)
        if self._dial_circuit is None:
            raise PeerUnreachable("this node does not dial through relays")
        return await self._dial_circuit(peer, address)

    def _hooks(self) -> Hooks:
        peers = self._peers
        return Hooks(
            accept=peers.accept,
            judge=self._judge,
            # A ban counts before its link has ended: an envelope may hold 512 forged messages.
            admits=lambda peer: peers.find(peer) is not None and not self._bans.banned_ms(peer),
            blame=peers.penalise,
            is_banned=lambda peer: bool(self._bans.banned_ms(peer)),
            meter=self._measure,
            author=lambda author: self._meter.author(author, now_ms=self._now_ms()),
            worth=lambda peer: self._service.worth(peer, now_ms=self._now_ms()),
        )

    def admit(self, rules: EntryRules) -> None:
        """Say who may be linked at all; before `run`."""
        self._peers.entry = rules

    def send_elsewhere(self, tell: Callable[[str], Sequence[str]]) -> None:
        """Say whom one may dial who is seen at an address and finds no place here."""
        self._peers.elsewhere = tell

    def on_message(self, cls: type[Record], handler: MessageHandler) -> None:
        """Register the receiver of one-way messages of a class; once, before `run`."""
        assert not self._ran
        assert cls not in self._peers.handlers.messages, cls
        self._peers.handlers.messages[cls] = handler

    def on_call(self, cls: type[Record], handler: CallHandler) -> None:
        """Register who answers calls of a class; once, before `run`."""
        assert not self._ran
        assert cls not in self._peers.handlers.calls, cls
        self._peers.handlers.calls[cls] = handler

    def on_gossip(self, topic: str, handler: GossipHandler) -> None:
        """Subscribe to a topic before `run`; the handler judges each record and keeps it."""
        assert not self._ran
        assert topic not in self._gossip, topic
        self._gossip[topic] = handler

    def on_peer(self, handler: PeerHandler) -> None:
        """Be told of peers that come and go; before `run`."""
        assert not self._ran
        self._peers.on_peer(handler)

    def peers(self) -> tuple[PeerInfo, ...]:
        """The live peers, in order of their ids."""
        return self._peers.infos()

    def counts(self) -> Mapping[str, int]:
        """What is open now, and how often something was refused, by name."""
        return self._transport.counts()

    def _held(self) -> Mapping[PeerId, int]:
        held = Counter(self._transport.held())
        held.update(self._peers.held())
        held.update(self._more_held())
        return held

    def bans(self) -> tuple[BanInfo, ...]:
        """The peers that are banned now, in order of their ids."""
        return self._bans.infos()

    def ban(self, peer: PeerId, length_ms: int, why: str) -> None:
        """Neither dial a peer nor let it in, because the operator says so; drops its link."""
        self._bans.ban(peer, length_ms, why)
        self._peers.drop(peer, PeerUnreachable(f"peer {peer} was banned: {why}"))

    def pardon(self, peer: PeerId) -> bool:
        """End a peer's ban and forget its faults; False when there was nothing to forget."""
        return self._bans.pardon(peer)

    async def connect(self, address: str, *, hint: str = "") -> PeerId:
        """Dial, shake hands, and keep the link until `disconnect`; raises as the port says."""
        peer = self._peer_at(address)
        await self._peers.connect(peer, address, hint=hint)
        return peer

    async def probe(self, address: str) -> PeerId:
        """Have the peer at an address prove who it is, and close; raises as the port says."""
        peer = self._peer_at(address)
        if is_circuit(address) and self._peers.find(parse_circuit(address).relay) is None:
            raise PeerUnreachable("no relay is dialled for a probe")  # its link would stay
        try:
            with trio.fail_after(DIAL_DEADLINE_S):
                connection = await self._dial(peer, address)
        except trio.TooSlowError:
            raise PeerUnreachable(f"no answer from {address} in {DIAL_DEADLINE_S:g} s") from None
        with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
            await connection.close()
        return peer

    async def disconnect(self, peer: PeerId, *, hint: str = "") -> None:
        """Close the connection and stop redialling, unless others want it."""
        await self._peers.disconnect(peer, hint=hint)

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
        conversation = self._peers.find(peer)
        if conversation is None:
            return False
        return conversation.send_nowait(message, channel=channel, tail=tail, trace=trace)

    async def send(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> None:
        """Queue a one-way message, waiting for room.

        Raises:
            PeerUnreachable: no live connection, or lost while waiting.
        """
        await self._peers.need(peer).send(message, channel=channel, tail=tail, trace=trace)

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
        conversation = self._peers.need(peer)
        answer = await conversation.call(message, channel=channel, tail=tail, trace=trace)
        self._service.note(peer, now_ms=self._now_ms())
        return answer

    async def publish(self, topic: str, record: bytes) -> None:
        """Gossip a record of at most 64 KiB, signed inside; hints only, never agreement.

        Raises:
            LocalError: too large, or a topic nobody subscribed here.
        """
        if len(record) > GOSSIP_RECORD_BYTES_MAX:
            raise LocalError(
                f"gossip record of {len(record)} bytes, at most {GOSSIP_RECORD_BYTES_MAX}"
            )
        if topic not in self._gossip:
            raise LocalError(f"topic {topic!r} was not subscribed to before the network ran")
        metrics.inc("prsm_peer_messages_total", "gossip", "out")
        await self._transport.publish(topic, record)

    def trust(self, validators: Collection[PeerId]) -> None:
        """Say who the validators are from now on: their budgets are wider."""
        self._lanes.trust(validators)

    def _peer_at(self, address: str) -> PeerId:
        peer = peer_in(address)
        if peer == self.peer_id:
            raise LocalError(f"{address} is this node", hint="give the address of another node")
        return peer

    def penalise(self, peer: PeerId, error: RemoteError) -> None:
        """Count a fault of a peer; 100 points ban it: 1 min, doubling up to 24 h."""
        self._peers.penalise(peer, error)

    def _measure(self, peer: PeerId, counts: Counts) -> bool:
        """Count an envelope of gossip; what is beyond the limits is the sender's fault."""
        metrics.inc("prsm_peer_messages_total", "gossip", "in", by=counts.messages)
        metrics.inc("prsm_peer_bytes_total", "gossip", "in", by=counts.size)
        what = self._meter.envelope(peer, counts, now_ms=self._now_ms())
        if what:
            self._peers.penalise(peer, RemoteError(what, peer=peer, penalty=ENVELOPE_POINTS))
        return not what

    def _judge(self, topic: str, peer: PeerId, record: bytes) -> bool:
        """Decide on a record that arrived; the handler keeps it. Never raises."""
        now_ms = self._now_ms()
        # Counted once it is news: repeats of one old record would use up the room of all others.
        if self._bans.banned_ms(peer) or not self._meter.may_accept(now_ms=now_ms):
            return False
        try:
            fits = len(record) <= GOSSIP_RECORD_BYTES_MAX
            verdict = self._gossip[topic](peer, record) if fits else False
            if verdict is not False:
                if verdict:
                    self._meter.accept(now_ms=now_ms)
                    self._service.note(peer, now_ms=now_ms)
                return bool(verdict)
        except Exception:
            log.exception("the receiver of topic %s failed", topic)
            return False
        refused = RemoteError(f"a record on {topic} was refused", peer=peer, penalty=10)
        self._peers.penalise(peer, refused)
        return False
