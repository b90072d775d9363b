"""The fences: what each overrides is still there in libp2p, and what it stops is stopped.

Method: an upgrade that renames or rewires an internal turns the first tests red before any
behaviour is lost in silence.
"""

import inspect
import logging
import struct
import time
from collections.abc import Callable

import libp2p
import libp2p.network.connection.swarm_connection
import libp2p.network.swarm
import libp2p.protocol_muxer.multiselect_communicator
import libp2p.pubsub.pubsub
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.exceptions import ParseError
from libp2p.host.basic_host import BasicHost
from libp2p.host.ping import ID as PING_ID
from libp2p.host.ping import PingService
from libp2p.io.abc import Reader
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.utils.varint import encode_uvarint, read_varint_prefixed_bytes
from typing_extensions import override

from prsm.node.net import gossip, guard, muxed, windows
from prsm.protocol.errors import RemoteError, Unsupported
from prsm.protocol.ids import PeerId

SEED = bytes(range(32))
OTHER = PeerId("12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB")


def nobody(_peer: PeerId, _error: RemoteError) -> None:
    raise AssertionError("nobody is to blame")


@pytest.fixture
def host() -> BasicHost:
    return guard.make_host(SEED, nobody)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        # Each line: the stock code a fence hooks into, and the words it relies on.
        (Swarm.dial_peer, ["_HAPPY_EYEBALLS_DELAY", "_negative_peer_cache.is_blocked"]),
        (Swarm.dial_addr, ["_dial_with_retry"]),
        (Swarm._handle_inbound_connection, ["self._do_handle_inbound_connection("]),
        (Swarm._do_handle_inbound_connection, ["await self.manager.wait_finished()"]),
        (Swarm.upgrade_inbound_raw_conn, ["await self.add_conn(muxed_conn, direction="]),
        (Swarm.run, ["self.auto_connector.run_background_task(nursery)"]),
        (Swarm._schedule_auto_connect, ["self.auto_connector.maybe_connect"]),
        (AutoConnector.maybe_connect, ["low_watermark", "high_watermark"]),
        (Swarm.set_stream_handler, ["self.common_stream_handler = "]),
        (SwarmConn._handle_muxed_stream, ["await self.swarm.common_stream_handler(net_stream)"]),
        (SwarmConn.close, ["self.event_closed.set()", "await self.muxed_conn.close()"]),
        (BasicHost.__init__, ["set_stream_handler(self._swarm_stream_handler)"]),
        (BasicHost.__init__, ["register_notifee(_IdentifyNotifee(self))"]),
        (BasicHost._schedule_identify, ["spawn_system_task"]),
        (Yamux.handle_incoming, ["await self._read_data_body(length)"]),
        (Yamux.handle_incoming, ["except trio.TooSlowError:", "await self._cleanup_on_error()"]),
        (Yamux._cleanup_on_error, ["self.event_closed.set()"]),
        (Yamux.close, ["self.event_closed.set()"]),
        (Yamux.open_stream, ["stream = YamuxStream(stream_id, self, True)"]),
        (Yamux.handle_incoming, ["stream = YamuxStream(stream_id, self, False)"]),
        (Yamux.handle_incoming, [".recv_window -= len(data)", "stream.send_window += increment"]),
        (YamuxStream.read, ["_auto_tune_and_send_window_update(bytes_read=len(chunk))"]),
        (YamuxStream.read, ["_auto_tune_and_send_window_update(bytes_read=len(data))"]),
        (Pubsub.continuously_read_stream, ["run_task(self.push_msg, peer_id, msg)"]),
        (Pubsub.continuously_read_stream, ["self.handle_subscription(peer_id, message)"]),
        (Pubsub.continuously_read_stream, ["await self.router.handle_rpc(rpc_incoming, peer_id)"]),
        (Pubsub.stream_handler, ["await self.continuously_read_stream(stream)"]),
        (Pubsub.push_msg, ["self._is_msg_seen(msg)", "signature_validator(msg)"]),
        (Pubsub.push_msg, ["self._mark_msg_seen(msg)", "self.notify_subscriptions(msg)"]),
        (Pubsub.push_msg, ["await self.router.publish(msg_forwarder, msg)"]),
        (GossipSub.handle_prune, ["await self._do_px(px_peers)", "self._add_back_off("]),
        (GossipSub._add_back_off, ["self.back_off[topic][peer]"]),
        (GossipSub.handle_iwant, ["for msg_id_iwant in msg_ids"]),
        (MultiselectCommunicator.read, ["await read_delim(self.read_writer)"]),
        (read_varint_prefixed_bytes, ["read_exactly(reader, len_msg)"]),
        (SwarmConn.start, ["await self._handle_new_streams()"]),
        (SwarmConn._handle_new_streams, ["start_soon(self._handle_muxed_stream, stream)"]),
        (Swarm.add_conn, ["from .connection.swarm_connection import SwarmConn"]),
        (Swarm.add_conn, ["run_task(muxed_conn.start)", "run_task(swarm_conn.start)"]),
        (Swarm.upgrade_inbound_raw_conn, ["self.upgrader.upgrade_security(raw_conn, False)"]),
        (PingService.handle_ping, ["self._inbound_streams.setdefault(peer_id, set())"]),
        (Swarm.notify_disconnected, ["self.auto_connector.record_disconnect(peer_id)"]),
        (Pubsub.__init__, ["set_stream_handler(protocol, self.stream_handler)"]),
        (Pubsub._handle_new_peer, ["queue = RpcQueue()"]),
        (Pubsub.handle_peer_queue, ["run_task(self._handle_new_peer_with_retry, peer_id)"]),
        (Pubsub.__init__, ["self.seen_messages = LastSeenCache(seen_ttl, sweep_interval)"]),
        (Pubsub._mark_msg_seen, ["self.seen_messages.add(msg_id)"]),
        (Pubsub._is_msg_seen, ["self.seen_messages.has(msg_id)"]),
        (Pubsub.subscribe, ["SUBSCRIPTION_CHANNEL_SIZE"]),
        (Pubsub._next_seqno, ["self.counter += 1"]),
        (Pubsub.validate_msg, ["validator(msg_forwarder, msg)"]),
    ],
)
def test_stock_code_still_has_what_the_fence_hooks(
    where: Callable[..., object], words: list[str]
) -> None:
    source = inspect.getsource(where)
    for word in words:
        assert word in source


def test_another_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p, "__version__", "0.9.0")
    with pytest.raises(Unsupported, match=r"0\.9\.0") as caught:
        guard.apply()
    assert "pip install libp2p==0.8.1" in caught.value.hint


def test_globals_are_set(host: BasicHost) -> None:
    assert host.get_id().to_base58() == OTHER
    assert libp2p.network.swarm._HAPPY_EYEBALLS_DELAY == 0
    assert libp2p.pubsub.pubsub.SUBSCRIPTION_CHANNEL_SIZE == gossip.GOSSIP_QUEUE_MAX
    read = vars(libp2p.protocol_muxer.multiselect_communicator)["read_delim"]
    assert read is guard.read_choice
    assert vars(libp2p.network.connection.swarm_connection)["SwarmConn"] is muxed.FencedConn
    queue = vars(libp2p.pubsub.pubsub)["RpcQueue"]()
    assert sum(queue.push(rpc_pb2.RPC()) for _ in range(2000)) == gossip.GOSSIP_QUEUE_MAX
    logger = vars(libp2p.network.connection.swarm_connection)["logging"]
    assert logger is logging.getLogger("libp2p")
    assert logger.level == logging.CRITICAL


def test_host_speaks_noise_yamux_and_tcp_only(host: BasicHost) -> None:
    swarm = host.get_network()
    assert isinstance(swarm, guard.FencedSwarm)
    security = swarm.upgrader.security_multistream.transports
    assert list(security) == ["/noise"]
    muxers = swarm.upgrader.muxer_multistream.transports
    assert list(muxers.values()) == [muxed.FencedYamux]
    assert [type(t).__name__ for t in swarm.transport_manager.get_transports()] == ["TCP"]
    assert swarm._resource_manager is None
    assert swarm._inbound_limiter.total_tokens == guard.CONNECTIONS_MAX


def test_host_asks_no_identify_and_takes_no_push(host: BasicHost) -> None:
    """Automatic identify runs in system tasks of trio; an error there is the end."""
    names = [type(notifee).__name__ for notifee in vars(host.get_network())["notifees"]]
    assert "_IdentifyNotifee" not in names
    protocols = {str(protocol) for protocol in host.multiselect.get_protocols()}
    assert protocols == {"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"}


def test_gossip_is_configured_as_measured(host: BasicHost) -> None:
    pubsub, router = gossip.make_gossip(host, ["a"])
    pubsub.fence(nobody, lambda _peer: True)
    assert router.protocols == ["/meshsub/1.1.0"]
    assert router.heartbeat_interval == 1
    assert not router.spam_protection_enabled
    assert not router.eclipse_protection_enabled
    assert not router.adaptive_gossip_enabled
    assert pubsub.allowed_topics == frozenset({"a"})
    assert isinstance(router, GossipSub)


def test_sequence_numbers_go_on_after_a_restart(host: BasicHost) -> None:
    """A run of 10,000 messages a second cannot overtake the clock the next run starts from."""
    pubsub, _ = gossip.make_gossip(host, ["a"])
    pubsub.fence(nobody, lambda _peer: True)
    before = time.time_ns()
    assert abs(pubsub.counter - before) < 10**9
    assert len(pubsub._next_seqno()) == 8


class Muxed:
    """As much of a muxed connection as a stream handler reads."""

    peer_id = ID.from_string(OTHER)


class Stream:
    """A stream a peer opened, which notes that it was reset."""

    def __init__(self) -> None:
        self.muxed_conn = Muxed()
        self.swarm_conn = None
        self.was_reset = False

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()
        self.was_reset = True


async def test_stream_handler_that_raises_resets_and_blames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blamed: list[PeerId] = []
    fenced = guard.make_host(SEED, lambda peer, _error: blamed.append(peer))

    async def broken(_stream: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("from a peer")

    monkeypatch.setattr(fenced, "_swarm_stream_handler", broken)
    guard.fence_streams(fenced, lambda peer, _error: blamed.append(peer))
    stream = Stream()
    await fenced.get_network().common_stream_handler(stream)  # type: ignore[attr-defined]  # Swarm
    assert stream.was_reset
    assert blamed == [OTHER]


async def test_muxed_frame_that_announces_too_much_ends_the_connection() -> None:
    """Stock code reads whatever length a frame announces, and buffers without a window."""
    blamed: list[tuple[PeerId, int]] = []
    yamux_now = muxed.FencedYamux.__new__(muxed.FencedYamux)
    yamux_now.blame = lambda peer, error: blamed.append((peer, error.penalty))
    yamux_now.peer_id = ID.from_string(OTHER)
    yamux_now.admits = lambda _peer: True
    yamux_now.stream_buffers = {1: bytearray(muxed.MUXED_BYTES_MAX // 2), 3: bytearray()}
    with pytest.raises(trio.TooSlowError):
        await yamux_now._read_data_body(muxed.MUXED_BYTES_MAX // 2 + 1)
    with pytest.raises(trio.TooSlowError):
        await yamux_now._read_data_body(2**32 - 1)
    yamux_now.admits = lambda _peer: False
    yamux_now.stream_buffers = {}
    with pytest.raises(trio.TooSlowError):
        await yamux_now._read_data_body(muxed.STRANGER_BYTES_MAX + 1)
    assert blamed == 3 * [(OTHER, 100)]


class Line(Reader):
    """Bytes of a peer that names a protocol."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @override
    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        taken, self.raw = self.raw[:n], self.raw[n:]
        return taken


@pytest.mark.parametrize(
    "raw",
    [
        encode_uvarint(2**62) + b"x" * 5000,  # stock code would wait for all of it
        encode_uvarint(guard.CHOICE_BYTES_MAX + 1) + b"x" * guard.CHOICE_BYTES_MAX + b"\n",
        b"\xff" * 64,
        b"\x04/ab!",
        b"\x00",
        b"\x03\xff\xfe\n",
    ],
)
async def test_choice_of_a_protocol_is_one_short_line(raw: bytes) -> None:
    line = Line(raw)
    with pytest.raises(ParseError):
        await guard.read_choice(line)
    assert len(raw) - len(line.raw) <= guard.CHOICE_BYTES_MAX + 10


async def test_good_choice_is_read(host: BasicHost) -> None:
    assert host.get_id().to_base58() == OTHER
    assert await guard.read_choice(Line(b"\x05/abc\n")) == b"/abc"


class Wire:
    """As much of a connection as a stream that reads needs; adds up what it tells the sender."""

    def __init__(self) -> None:
        self.stream_buffers = {1: bytearray()}
        self.event_shutting_down = trio.Event()
        self.credit = yamux.DEFAULT_WINDOW_SIZE
        self.updates = 0

    def rtt(self) -> float:
        return 0.0

    async def _write_frame(self, frame: bytes) -> None:
        await trio.lowlevel.checkpoint()
        _, kind, _, _, increment = struct.unpack(yamux.YAMUX_HEADER_FORMAT, frame)
        assert kind == yamux.TYPE_WINDOW_UPDATE
        self.credit += increment
        self.updates += 1


class Sender:
    """The other side of a stream: sends what its window allows."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.stream = vars(yamux)["YamuxStream"](1, self.wire, is_initiator=True)

    def send(self, size: int) -> int:
        """Let a part of `size` arrive, as `handle_incoming` takes it."""
        sent = min(size, self.wire.credit)
        self.wire.credit -= sent
        self.wire.stream_buffers[1].extend(bytes(sent))
        self.stream.recv_window -= sent
        return sent


def test_streams_of_both_sides_are_thrifty(host: BasicHost) -> None:
    """Both places that make a stream look the class up by this name (see the table above)."""
    assert host.get_id().to_base58() == OTHER
    assert vars(yamux)["YamuxStream"] is windows.WindowedStream


def test_connections_are_made_of_the_fenced_muxer(host: BasicHost) -> None:
    """Stock code makes its own class by this name, whatever the upgrader was given."""
    assert host.get_id().to_base58() == OTHER
    assert vars(muxer_multistream)["Yamux"] is muxed.FencedYamux


async def test_small_reads_tell_the_sender_once_in_sixteen_kib(host: BasicHost) -> None:
    """100 frames of 200 B: stock code sends 100 updates, this one a single one."""
    assert host.get_id().to_base58() == OTHER
    sender = Sender()
    for _ in range(100):
        assert sender.send(200) == 200
        assert len(await sender.stream.read()) == 200
    assert sender.wire.updates == 1
    assert sender.stream.owed == 20_000 - -(-windows.CREDIT_BYTES_MIN // 200) * 200
    assert sender.wire.credit >= yamux.DEFAULT_WINDOW_SIZE - windows.CREDIT_BYTES_MIN


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 400 * 1024)), max_size=40))
def test_sender_can_go_on_whenever_the_reader_has_read_all(
    steps: list[tuple[bool, int]],
) -> None:
    """Any order of arrivals and pauses of the reader: always a window less what may be owed."""
    guard.apply()

    async def play() -> None:
        sender = Sender()
        for reads, size in steps:
            left = size
            while left:
                sent = sender.send(left)
                left -= sent
                if not sent or reads:  # a sender whose window is shut waits for the reader
                    assert await sender.stream.read()
            waiting = len(sender.wire.stream_buffers[1])
            kept = sender.wire.credit + waiting + sender.stream.owed
            assert kept >= yamux.DEFAULT_WINDOW_SIZE
            owed_max = sender.stream.target_recv_window // windows.CREDIT_SHARE
            assert sender.stream.owed < owed_max
            if not waiting:
                lowest = yamux.DEFAULT_WINDOW_SIZE - owed_max
                assert sender.wire.credit > lowest

    async def play_in_time() -> None:
        with trio.fail_after(30):  # a reader that waits for a sender whose window is shut
            await play()

    trio.run(play_in_time)


class Silent(Stream):
    """A stream of a peer that ends it without a ping."""

    async def read(self, _count: int) -> bytes:
        await trio.lowlevel.checkpoint()
        raise StreamEOF

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_peer_that_pinged_is_forgotten(host: BasicHost) -> None:
    """Stock code keeps an empty entry for each peer id that ever opened such a stream."""
    answer = host.multiselect.handlers[PING_ID]
    assert answer is not None
    await answer(Silent())  # type: ignore[arg-type]  # as much of a stream as it reads
    (kept,) = (
        cell.cell_contents
        for cell in answer.__closure__ or ()
        if isinstance(cell.cell_contents, dict)
    )
    assert kept == {}


async def test_auto_connector_dials_nobody(host: BasicHost) -> None:
    swarm = host.get_network()
    assert isinstance(swarm, guard.FencedSwarm)
    assert isinstance(swarm.auto_connector, guard.NoAutoConnector)
    await swarm.auto_connector.maybe_connect()
