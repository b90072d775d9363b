"""Gossip over libp2p 0.8.1, fenced: what a peer sends is counted, cut to size, and then looked at.

Knows libp2p's pubsub and its messages. Must not know what records mean. Stock code is left with
what cannot harm it: it starts a task for each message of an envelope, checks each signature before
any limit, answers an id asked for a thousand times a thousand times, dials whomever a PRUNE names,
keeps a back-off for every topic anybody ever invented, and writes whole messages into its errors.

Invariants: nothing a peer sends raises out of here; of each envelope at most what `meters` allows
reaches stock code; every name of a topic that does is one of ours.
"""

import functools
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import SyncValidatorFn, TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.io.exceptions import IOException, MessageTooLarge
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.score import ScoreParams
from libp2p.pubsub.validators import signature_validator
from libp2p.utils.varint import read_varint_prefixed_bytes_limited
from typing_extensions import override

from prsm.node.net.envelopes import HalfRead, check_envelope
from prsm.node.net.meters import Counts
from prsm.node.telemetry import metrics
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import GOSSIP_RECORD_BYTES_MAX, MIB

GOSSIP_QUEUE_MAX: Final = 1024
# By count alone a peer that does not read would be owed 64 MiB.
GOSSIP_QUEUE_BYTES_MAX: Final = 8 * MIB
GOSSIP_HEARTBEAT_S: Final = 1
GOSSIP_RPC_BYTES_MAX: Final = 16 * GOSSIP_RECORD_BYTES_MAX
SUBSCRIPTIONS_MAX: Final = 64
# Of a peer that has not said what it reads: stock code looks through all of them at each message.
PENDING_MAX: Final = 16
SEEN_MAX: Final = 32_768  # twice what a node accepts in the 120 s for which they count
SEQUENCE_BYTES: Final = 8
# Identity multihash of an Ed25519 key: docs/spec/wire.md, "Layers". Others hide their key.
AUTHOR_PREFIX: Final = bytes.fromhex("002408011220")
AUTHOR_BYTES: Final = len(AUTHOR_PREFIX) + 32
RESET_DEADLINE_S: Final = 2.0
AFTER_LINK_S: Final = 0.03  # a link takes 10 ms, of which this stream, opened at once, was one

log = logging.getLogger(__name__)

Blame = Callable[[PeerId, RemoteError], None]


class BoundedQueue(RpcQueue):
    """What waits for one peer: bounded by count and by bytes; what does not fit is a lost hint."""

    def __init__(self) -> None:
        super().__init__(max_size=GOSSIP_QUEUE_MAX)
        self.waiting_bytes = 0

    @override
    def push(self, rpc: rpc_pb2.RPC, priority: bool = False) -> bool:
        """Queue an envelope; False when there is no room."""
        size = rpc.ByteSize()
        if self.waiting_bytes + size > GOSSIP_QUEUE_BYTES_MAX:
            return False
        fits = super().push(rpc, priority)
        self.waiting_bytes += size if fits else 0
        return fits

    @override
    async def pop(self) -> rpc_pb2.RPC | None:
        """Wait for the next envelope; None when the queue is closed."""
        rpc = await super().pop()
        self.waiting_bytes -= 0 if rpc is None else rpc.ByteSize()
        return rpc


class Seen:
    """Which messages were seen lately: bounded, and without a thread.

    Stock code starts one for each such cache and never ends it: a network that was rebuilt five
    times had five.

    Args:
        ttl: seconds for which a message is remembered after it was seen last.
        _sweep_interval: of the stock class; here old ones go when new ones come.
    """

    def __init__(self, ttl: int, _sweep_interval: int = 60) -> None:
        self._ttl = ttl
        self._until: OrderedDict[bytes, float] = OrderedDict()  # soonest over first

    def add(self, key: bytes) -> bool:
        """Remember a message; whether it is new."""
        now = trio.current_time()
        while self._until and (
            len(self._until) >= SEEN_MAX or next(iter(self._until.values())) <= now
        ):
            self._until.popitem(last=False)
        is_new = key not in self._until
        self._until[key] = now + self._ttl
        self._until.move_to_end(key)
        return is_new

    def has(self, key: bytes) -> bool:
        """Whether it was seen; if so it is remembered anew."""
        until, now = self._until.get(key), trio.current_time()
        if until is None or until <= now:
            return False
        self._until[key] = now + self._ttl
        self._until.move_to_end(key)
        return True


class FencedPubsub(Pubsub):
    """Pubsub that survives what peers send.

    Args of `fence`: who is told of faults; who may gossip at all (peers that have shaken hands;
    anybody can open a libp2p connection); what an envelope and an author may still send.
    """

    blame: Blame = staticmethod(lambda _peer, _error: None)
    admits: Callable[[PeerId], bool] = staticmethod(lambda _peer: True)
    meter: Callable[[PeerId, Counts], bool] = staticmethod(lambda _peer, _counts: True)
    author: Callable[[bytes], bool] = staticmethod(lambda _author: True)

    def fence(
        self,
        blame: Blame,
        admits: Callable[[PeerId], bool],
        *,
        meter: Callable[[PeerId, Counts], bool] = lambda _peer, _counts: True,
        author: Callable[[bytes], bool] = lambda _author: True,
    ) -> None:
        """Set the callbacks and start sequence numbers where no earlier run has been."""
        self.blame, self.admits = blame, admits
        self.meter, self.author = meter, author
        self._halves: Counter[PeerId] = Counter()
        # int(time()) plus one a message: after a restart 194 of 200 were taken for old ones.
        self.counter = time.time_ns()

    @override
    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Judge a message and pass it on; what a peer sends raises nothing."""
        if msg_forwarder == self.my_id:
            await super().push_msg(msg_forwarder, msg)
            return
        peer = PeerId(msg_forwarder.to_base58())
        if not self.admits(peer):
            return
        try:
            await self._judge(msg_forwarder, peer, msg)
        except Exception as error:  # noqa: BLE001 - one peer's message
            self._junk(peer, error)

    @override
    async def _handle_new_peer_with_retry(self, peer_id: ID, timeout: float | None = None) -> None:
        """Open our stream to a peer a little later: the hellos of a new link come first."""
        await trio.sleep(AFTER_LINK_S)
        if self._peer_is_connected(peer_id):
            await super()._handle_new_peer_with_retry(peer_id, timeout)

    @override
    async def stream_handler(self, stream: INetStream) -> None:
        """Read a peer's gossip stream until it ends; junk ends it sooner."""
        peer_id = stream.muxed_conn.peer_id
        try:
            await self.continuously_read_stream(stream)
        except StreamEOF:
            with trio.move_on_after(RESET_DEADLINE_S, shield=True):
                await stream.close()  # or its place in the muxer stays for ever
            return
        except Exception as error:  # noqa: BLE001 - one peer's stream
            is_length = isinstance(error, MessageTooLarge)
            is_end = isinstance(error, StreamError | IOException | RawConnError | trio.TooSlowError)
            if is_end and not is_length:
                log.debug("the gossip stream of %s broke: %s", peer_id, error)
            else:
                self._junk(PeerId(peer_id.to_base58()), error)
        with trio.move_on_after(RESET_DEADLINE_S, shield=True):
            await stream.reset()
        self._handle_dead_peer(peer_id)

    @override
    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Take envelopes one after the other: who sends much waits for what it sent.

        Raises:
            StreamEOF: the peer ended the stream.
            Exception: it broke it, or sent what no honest peer sends.
        """
        peer_id = stream.muxed_conn.peer_id
        half = HalfRead(stream, PeerId(peer_id.to_base58()), self._halves)
        try:
            while self.manager.is_running:
                most = self.max_inbound_rpc_size
                raw = await read_varint_prefixed_bytes_limited(half, most)  # type: ignore[arg-type]  # reads as one
                await self._take(peer_id, raw)
                half.done()
        finally:
            half.done()

    async def _take(self, peer_id: ID, raw: bytes) -> None:
        peer = PeerId(peer_id.to_base58())
        check_envelope(raw)
        rpc = rpc_pb2.RPC.FromString(raw)
        if not self.meter(peer, count(rpc, len(raw))):
            return
        for subscription in self._news(peer_id, rpc.subscriptions):
            self.handle_subscription(peer_id, subscription)
        if not self.admits(peer):
            return
        for message in rpc.publish:
            if self._is_read_here(message):  # before anything is done for it: a flood of others
                await self.push_msg(peer_id, message)
        if rpc.HasField("control"):
            await self.router.handle_rpc(cut(rpc.control, frozenset(self.topic_ids)), peer_id)
        await trio.lowlevel.checkpoint()

    def held(self) -> Counter[PeerId]:
        """Bytes kept for each peer: envelopes not written yet, and those half read."""
        held = Counter(self._halves)
        for peer, queue in self.peer_queues.items():
            if isinstance(queue, BoundedQueue):
                held[PeerId(peer.to_base58())] += queue.waiting_bytes
        return held

    def _news(
        self, peer_id: ID, told: Iterable[rpc_pb2.RPC.SubOpts]
    ) -> Iterator[rpc_pb2.RPC.SubOpts]:
        """The last word on each topic of ours, where it changes something.

        Each one that does starts three tasks in stock code, which send anew what was said lately.
        """
        last = {each.topicid: each for each in told if each.topicid in self.topic_ids}
        for topic, each in last.items():
            if each.subscribe != (peer_id in self.peer_topics.get(topic, ())):
                yield each

    def _is_read_here(self, msg: rpc_pb2.Message) -> bool:
        return len(msg.topicIDs) == 1 and msg.topicIDs[0] in self.topic_ids

    async def _judge(self, forwarder: ID, peer: PeerId, msg: rpc_pb2.Message) -> None:
        if not self._is_read_here(msg):
            return  # hints about what is not read here
        if what := malformed(msg):
            self.blame(peer, RemoteError(f"a gossip message with {what}", peer=peer, penalty=100))
            return
        # Before the signature: what is known, or too much of one author, costs nothing more.
        if self._is_msg_seen(msg) or msg.from_id == self.my_id.to_bytes():
            metrics.inc("prsm_gossip_duplicates_total", msg.topicIDs[0])
            return
        if not self.author(msg.from_id):
            return
        if not signature_validator(msg):
            what = "a gossip message with a signature that does not hold"
            self.blame(peer, RemoteError(what, peer=peer, penalty=100))
            return
        validators = self.get_msg_validators(msg)
        if not all(_total(each.validator)(forwarder, msg) for each in validators):
            return
        self._mark_msg_seen(msg)
        self.notify_subscriptions(msg)
        await self.router.publish(forwarder, msg)

    @override
    def _handle_dead_peer(self, peer_id: ID) -> None:
        super()._handle_dead_peer(peer_id)
        if isinstance(self.router, GossipSub):
            for waiting in self.router.back_off.values():
                waiting.pop(peer_id, None)

    def _junk(self, peer: PeerId, error: Exception) -> None:
        kind = type(error).__name__
        self.blame(peer, RemoteError(f"junk on a gossip stream ({kind})", peer=peer, penalty=100))


def count(rpc: rpc_pb2.RPC, size: int) -> Counts:
    """Count what an envelope of `size` bytes holds."""
    control = rpc.control
    told = sum(1 + len(each.messageIDs) for each in control.ihave)
    told += sum(1 + len(each.messageIDs) for each in control.idontwant)
    asked = sum(1 + len(each.messageIDs) for each in control.iwant)
    named = sum(1 + len(each.peers) for each in control.prune)
    changes = len(rpc.subscriptions) + len(control.graft) + named
    return Counts(len(rpc.publish), told, asked, changes, size)


def cut(control: rpc_pb2.ControlMessage, topics: frozenset[str]) -> rpc_pb2.RPC:
    """Copy of a control message with topics of ours, ids once each, and nobody to dial."""
    kept = rpc_pb2.ControlMessage()
    for told in control.ihave:
        if told.topicID in topics:
            ids = list(dict.fromkeys(told.messageIDs))
            kept.ihave.add(topicID=told.topicID, messageIDs=ids)
    wanted = dict.fromkeys(each for asked in control.iwant for each in asked.messageIDs)
    if wanted:
        kept.iwant.add(messageIDs=list(wanted))
    for topic in dict.fromkeys(graft.topicID for graft in control.graft):
        if topic in topics:
            kept.graft.add(topicID=topic)
    for topic in dict.fromkeys(prune.topicID for prune in control.prune):
        if topic in topics:
            kept.prune.add(topicID=topic)  # for the usual time: theirs may be for ever
    return rpc_pb2.RPC(control=kept)


def malformed(msg: rpc_pb2.Message) -> str:
    """What no honest peer would pass on in a message; empty when nothing."""
    if len(msg.data) > GOSSIP_RECORD_BYTES_MAX:
        return f"{len(msg.data)} bytes, at most {GOSSIP_RECORD_BYTES_MAX}"
    if len(msg.from_id) != AUTHOR_BYTES or not msg.from_id.startswith(AUTHOR_PREFIX):
        return "an author that is no Ed25519 key"
    if len(msg.seqno) != SEQUENCE_BYTES:
        return f"a sequence number of {len(msg.seqno)} bytes"
    return "" if msg.signature else "no signature"


@functools.lru_cache(maxsize=1024)
def _peer_id(peer: ID) -> PeerId:
    return PeerId(peer.to_base58())


def _total(validator: object) -> SyncValidatorFn:
    assert callable(validator)
    return validator  # ours are all synchronous


def make_gossip(
    host: BasicHost, topics: Sequence[str], worth: Callable[[PeerId], int] = lambda _peer: 0
) -> tuple[FencedPubsub, GossipSub]:
    """Build fenced gossip for a fixed set of topics.

    v1.1, because v1.2 doubles the CPU; own limits instead of spam and eclipse protection (10
    messages a second, own ones included; distinct IPs, which loopback never has). libp2p scores
    nobody itself (all its weights are 0); the mesh grafts first, and prunes last, whoever `worth`
    says has done something for us.
    """
    router = GossipSub(
        protocols=[TProtocol(PROTOCOL_ID_V11)],
        degree=6,
        degree_low=4,
        degree_high=12,
        heartbeat_interval=GOSSIP_HEARTBEAT_S,
        score_params=ScoreParams(
            p6_appl_slack_weight=1.0,
            app_specific_score_fn=lambda peer: float(worth(_peer_id(peer))),
        ),
        max_pending_messages_per_peer=PENDING_MAX,
        spam_protection_enabled=False,
        eclipse_protection_enabled=False,
        adaptive_gossip_enabled=False,
    )
    pubsub = FencedPubsub(
        host,
        router,
        max_subscriptions_per_rpc=SUBSCRIPTIONS_MAX,
        max_subscriptions_per_peer=SUBSCRIPTIONS_MAX,
        max_inbound_rpc_size=GOSSIP_RPC_BYTES_MAX,
        allowed_topics=frozenset(topics),
    )
    return pubsub, router
