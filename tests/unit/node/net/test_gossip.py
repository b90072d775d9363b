"""Fenced gossip: what reaches stock code of an envelope, who is blamed, what is bounded."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import threading
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.utils.varint import encode_uvarint
from trio.testing import MockClock

from prsm.node.net import gossip, guard, meters
from prsm.node.net.envelopes import ENVELOPE_DEADLINE_S
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import GOSSIP_RECORD_BYTES_MAX
from tests.tools.relays import harm

SEED = bytes(range(32))
STRANGER = ID(gossip.AUTHOR_PREFIX + b"k" * 32)
PAIR = create_new_key_pair(b"\7" * 32)
AUTHOR = ID.from_pubkey(PAIR.public_key)


def nobody(_peer: PeerId, _error: RemoteError) -> None:
    raise AssertionError("nobody is to blame")


@pytest.fixture
def host() -> BasicHost:
    return guard.make_host(SEED, nobody)


def signed(data: bytes = b"x", *, topic: str = "a", number: int = 1) -> rpc_pb2.Message:
    message = rpc_pb2.Message(
        data=data,
        topicIDs=[topic],
        from_id=AUTHOR.to_bytes(),
        seqno=number.to_bytes(8, "big"),
    )
    sign(message)
    return message


def sign(message: rpc_pb2.Message) -> None:
    message.ClearField("signature")
    payload = PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString()
    message.signature = PAIR.private_key.sign(payload)


class Listening:
    """Gossip on topic "a" that notes what its validator saw, what was passed on, who is blamed."""

    def __init__(self, host: BasicHost, *, author: bool = True) -> None:
        self.pubsub, self.router = gossip.make_gossip(host, ["a"])
        self.blamed: list[int] = []
        self.seen: list[bytes] = []
        self.passed: list[bytes] = []
        self.verdict = True
        self.pubsub.fence(
            lambda _peer, error: self.blamed.append(error.penalty),
            lambda _peer: True,
            author=lambda _author: author,
        )
        channels = trio.open_memory_channel[rpc_pb2.Message](10)
        self.pubsub.subscribed_topics_send["a"] = channels[0]
        self.pubsub.subscribed_topics_receive["a"] = channels[1]  # type: ignore[assignment]  # its key counts

        def judge(_forwarder: ID, message: rpc_pb2.Message) -> bool:
            self.seen.append(message.data)
            return self.verdict

        async def publish(msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
            await trio.lowlevel.checkpoint()
            assert msg_forwarder != self.pubsub.my_id
            self.passed.append(pubsub_msg.data)

        self.pubsub.set_topic_validator("a", judge, is_async_validator=False)
        self.router.publish = publish  # type: ignore[method-assign]  # notes instead


async def test_good_message_is_judged_and_passed_on_once(host: BasicHost) -> None:
    to = Listening(host)
    for _ in range(3):
        await to.pubsub.push_msg(STRANGER, signed(b"news"))
    assert (to.seen, to.passed, to.blamed) == ([b"news"], [b"news"], [])


async def test_refused_message_is_not_passed_on(host: BasicHost) -> None:
    to = Listening(host)
    to.verdict = False
    await to.pubsub.push_msg(STRANGER, signed())
    assert (to.seen, to.passed) == ([b"x"], [])


async def test_author_that_says_too_much_is_not_even_verified(
    host: BasicHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(_message: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(gossip, "signature_validator", unreachable)
    to = Listening(host, author=False)
    await to.pubsub.push_msg(STRANGER, signed())
    assert (to.seen, to.passed, to.blamed) == ([], [], [])


def broken_signature(message: rpc_pb2.Message) -> None:
    message.signature = bytes(64)


def no_signature(message: rpc_pb2.Message) -> None:
    message.signature = b""


def other_data(message: rpc_pb2.Message) -> None:
    message.data = b"other"


def hashed_author(message: rpc_pb2.Message) -> None:
    message.from_id, message.key = b"\x12\x20" + bytes(32), b"junk"


def too_large(message: rpc_pb2.Message) -> None:
    message.data = bytes(GOSSIP_RECORD_BYTES_MAX + 1)
    sign(message)


def long_number(message: rpc_pb2.Message) -> None:
    message.seqno = bytes(9)
    sign(message)


@pytest.mark.parametrize(
    "spoil",
    [broken_signature, no_signature, other_data, hashed_author, too_large, long_number],
)
async def test_message_no_honest_peer_forwards_bans_who_did(host: BasicHost, spoil: object) -> None:
    """Stock code drops a bad signature without a word, as often as it is sent."""
    assert callable(spoil)
    to, message = Listening(host), signed()
    spoil(message)
    await to.pubsub.push_msg(STRANGER, message)
    assert (to.seen, to.passed, to.blamed) == ([], [], [100])


async def test_topics_of_others_and_our_own_words_are_nobodys_fault(host: BasicHost) -> None:
    to = Listening(host)
    await to.pubsub.push_msg(STRANGER, signed(topic="b"))
    two = signed()
    two.topicIDs.append("b")
    await to.pubsub.push_msg(STRANGER, two)
    ours = signed()
    ours.from_id = host.get_id().to_bytes()
    await to.pubsub.push_msg(STRANGER, ours)
    assert (to.seen, to.passed, to.blamed) == ([], [], [])


async def test_gossip_that_raises_is_the_forwarders_fault_but_ours_is_raised(
    host: BasicHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = Listening(host)

    def broken(*_args: object) -> bool:
        raise ValueError("a validator")

    monkeypatch.setattr(gossip, "signature_validator", broken)
    await to.pubsub.push_msg(STRANGER, signed())
    assert to.blamed == [100]

    async def stock(*_args: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("a validator")

    monkeypatch.setattr(Pubsub, "push_msg", stock)
    with pytest.raises(ValueError, match="a validator"):
        await to.pubsub.push_msg(host.get_id(), rpc_pb2.Message())


async def test_gossip_of_a_peer_that_has_not_shaken_hands_is_ignored(host: BasicHost) -> None:
    to = Listening(host)
    to.pubsub.fence(nobody, lambda _peer: False)
    await to.pubsub.push_msg(STRANGER, rpc_pb2.Message())
    assert to.seen == []


def test_subscriptions_that_change_nothing_start_nothing(host: BasicHost) -> None:
    """Each change starts three tasks in stock code: a flood of them is the last word, if news."""
    pubsub = Listening(host).pubsub

    def news(*words: tuple[str, bool]) -> list[bool]:
        told = [rpc_pb2.RPC.SubOpts(subscribe=word, topicid=topic) for topic, word in words]
        return [each.subscribe for each in pubsub._news(STRANGER, told)]

    assert news(("a", True), ("b", True)) == [True]
    assert news(*[("a", False), ("a", True)] * 20) == [True]
    assert news(*[("a", True), ("a", False)] * 20) == []
    pubsub.peer_topics["a"] = {STRANGER}
    assert news(*[("a", False), ("a", True)] * 20) == []
    assert news(("a", True), ("a", False)) == [False]


def test_control_of_a_peer_is_cut_to_our_topics() -> None:
    """No invented topics, no id twice, no peers to dial, no back-off for ever."""
    control = rpc_pb2.ControlMessage(
        graft=[rpc_pb2.ControlGraft(topicID=topic) for topic in ("a", "a", "b")],
        prune=[
            rpc_pb2.ControlPrune(
                topicID="a", backoff=2**63, peers=[rpc_pb2.PeerInfo(peerID=b"somebody")]
            ),
            rpc_pb2.ControlPrune(topicID="b"),
        ],
        ihave=[
            rpc_pb2.ControlIHave(topicID="a", messageIDs=[b"1", b"1", b"2"]),
            rpc_pb2.ControlIHave(topicID="b", messageIDs=[b"1"]),
        ],
        iwant=[
            rpc_pb2.ControlIWant(messageIDs=[b"1"] * 1000),
            rpc_pb2.ControlIWant(messageIDs=[b"1", b"2"]),
        ],
        idontwant=[rpc_pb2.ControlIDontWant(messageIDs=[b"9"] * 100)],
    )
    kept = gossip.cut(control, frozenset({"a"})).control
    assert [graft.topicID for graft in kept.graft] == ["a"]
    assert [(p.topicID, p.backoff, len(p.peers)) for p in kept.prune] == [("a", 0, 0)]
    assert [(told.topicID, list(told.messageIDs)) for told in kept.ihave] == [("a", [b"1", b"2"])]
    assert [list(asked.messageIDs) for asked in kept.iwant] == [[b"1", b"2"]]
    assert not kept.idontwant


@given(st.binary(max_size=400))
def test_any_envelope_is_counted_and_cut(raw: bytes) -> None:
    """Whatever protobuf takes for an envelope is counted and cut without an error."""
    rpc = rpc_pb2.RPC()
    try:
        rpc.MergeFromString(raw)
    except Exception:  # noqa: BLE001 - the library's own refusal
        return
    assert gossip.count(rpc, len(raw)).messages == len(rpc.publish)
    assert not gossip.cut(rpc.control, frozenset({"a"})).publish
    for message in rpc.publish:
        gossip.malformed(message)


def test_all_of_an_envelope_counts() -> None:
    rpc = rpc_pb2.RPC(
        publish=[signed(), signed()],
        subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="a")],
        control=rpc_pb2.ControlMessage(
            ihave=[rpc_pb2.ControlIHave(topicID="a", messageIDs=[b"1"] * 7)],
            iwant=[rpc_pb2.ControlIWant(messageIDs=[b"1"] * 5)],
            graft=[rpc_pb2.ControlGraft(topicID="a")],
            prune=[rpc_pb2.ControlPrune(topicID="a", peers=[rpc_pb2.PeerInfo()] * 3)],
            idontwant=[rpc_pb2.ControlIDontWant(messageIDs=[b"1"] * 2)],
        ),
    )
    assert gossip.count(rpc, 99) == meters.Counts(2, 8 + 3, 6, 1 + 1 + 4, 99)


async def test_queue_of_a_peer_that_does_not_read_is_bounded_by_bytes() -> None:
    """By count alone it would be owed 1,024 records of 64 KiB."""
    queue = gossip.BoundedQueue()
    large = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=bytes(GOSSIP_RECORD_BYTES_MAX))])
    fit = sum(queue.push(large) for _ in range(1000))
    assert fit == gossip.GOSSIP_QUEUE_BYTES_MAX // large.ByteSize()
    assert not queue.push(large)
    for _ in range(fit):
        assert await queue.pop() is not None
    assert queue.waiting_bytes == 0
    assert queue.push(large)
    small = gossip.BoundedQueue()
    assert sum(small.push(rpc_pb2.RPC()) for _ in range(2000)) == gossip.GOSSIP_QUEUE_MAX


class Halting:
    """A peer's stream that says some bytes, and then nothing more."""

    def __init__(self, raw: bytes) -> None:
        self.muxed_conn = SimpleNamespace(peer_id=STRANGER)
        self.raw = raw
        self.is_reset = False

    async def read(self, count: int) -> bytes:
        await trio.lowlevel.checkpoint()
        data, self.raw = self.raw[:count], self.raw[count:]
        return data or await trio.sleep_forever()

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_reset = True


async def test_half_of_an_envelope_counts_for_who_sent_it_and_ends_its_stream(
    host: BasicHost, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Who has said all it began may be silent for ever."""
    listening = Listening(host)
    pubsub, peer = listening.pubsub, PeerId(STRANGER.to_base58())
    harm(pubsub, "_manager", SimpleNamespace(is_running=True))  # is asked only this
    whole = rpc_pb2.RPC(publish=[signed()]).SerializeToString()
    whole = encode_uvarint(len(whole)) + whole
    halves = [Halting(whole + encode_uvarint(size) + bytes(size - 1)) for size in (1000, 50_000)]
    idle = Halting(whole)
    for stream in (*halves, idle):
        nursery.start_soon(pubsub.stream_handler, cast("INetStream", stream))
    await trio.sleep(ENVELOPE_DEADLINE_S - 1)
    assert listening.seen == [b"x"]
    assert pubsub.held() == {peer: 999 + 49_999 + 2 + 3}
    assert not any(stream.is_reset for stream in halves)
    await trio.sleep(2)
    assert all(stream.is_reset for stream in halves)
    assert not +pubsub.held()
    await trio.sleep(10 * ENVELOPE_DEADLINE_S)
    assert not idle.is_reset
    assert listening.blamed == []
    nursery.cancel_scope.cancel()


def test_mesh_prunes_first_and_grafts_last_who_does_nothing(host: BasicHost) -> None:
    """Without scores of its own libp2p would draw: silent peers would stay in the mesh for ever."""
    peers = [
        ID.from_pubkey(create_new_key_pair(bytes([number]) * 32).public_key) for number in range(17)
    ]
    useful = {PeerId(peer.to_base58()) for peer in peers[8:16]}
    pubsub, router = gossip.make_gossip(host, ["a"], lambda peer: int(peer in useful))
    pubsub.peer_topics["a"] = set(peers)
    router.peer_protocol.update(dict.fromkeys(peers, PROTOCOL_ID_V11))
    router.mesh["a"] = set(peers[:14])
    grafts, prunes = router.mesh_heartbeat()
    assert set(grafts) == set(peers[14:16])
    assert set(prunes) == set(peers[:8])
    assert router.mesh["a"] == set(peers[8:16])
    assert router.mesh_heartbeat() == ({}, {})


async def test_seen_messages_are_forgotten_in_time_and_by_number(
    autojump_clock: MockClock,
) -> None:
    assert autojump_clock.rate == 0
    seen = gossip.Seen(120, 60)
    assert seen.add(b"one")
    assert not seen.add(b"one")
    await trio.sleep(100)
    assert seen.has(b"one")  # and remembered anew
    await trio.sleep(100)
    assert seen.has(b"one")
    await trio.sleep(120)
    assert not seen.has(b"one")
    assert seen.add(b"one")
    for number in range(gossip.SEEN_MAX + 10):
        seen.add(str(number).encode())
    assert len(seen._until) == gossip.SEEN_MAX
    assert not seen.has(b"one")
    await trio.sleep(121)
    seen.add(b"last")
    assert len(seen._until) == 1


def test_gossip_starts_no_thread(host: BasicHost) -> None:
    """Stock code leaves one behind for each network that was built."""
    before = threading.active_count()
    pubsub, _ = gossip.make_gossip(host, ["a"])
    assert isinstance(pubsub.seen_messages, gossip.Seen)
    assert threading.active_count() == before


@pytest.mark.parametrize("is_there", [True, False])
async def test_stream_of_ours_comes_after_the_hellos_and_only_to_who_is_still_there(
    is_there: bool, host: BasicHost, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    pubsub, _ = gossip.make_gossip(host, ["a"])
    opened: list[float] = []

    async def note(_self: Pubsub, peer: ID, longest_s: float | None) -> None:
        await trio.lowlevel.checkpoint()
        assert (peer, longest_s) == (STRANGER, None)
        opened.append(trio.current_time())

    monkeypatch.setattr(Pubsub, "_handle_new_peer_with_retry", note)
    monkeypatch.setattr(Pubsub, "_peer_is_connected", lambda _self, _peer: is_there)
    began = trio.current_time()
    await pubsub._handle_new_peer_with_retry(STRANGER)
    assert [round(at - began, 3) for at in opened] == [gossip.AFTER_LINK_S] * is_there
