"""A peer that says anything at any layer: TCP, multistream, Noise, Yamux, gossip, our frames.

Knows the wire. Must not know the product's way of speaking it: frames are packed here by hand, so
that nothing the product refuses to send is beyond it. Everything that arrives is taken off the
wire and sorted by stream, since a peer whose window is full would stall by itself.
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from struct import Struct
from typing import Final, Self

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.security.noise.transport import Transport
from libp2p.security.secure_session import SecureSession
from libp2p.utils.varint import encode_uvarint

from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import Channel
from prsm.protocol.codec import Record, encode
from prsm.protocol.framing import Flow, Head, encode_frame
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.table import MESSAGES

HEADER: Final = Struct(">BBHII")
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
GOSSIP: Final = "/meshsub/1.1.0"
BODY_BYTES: Final = 60_000
SECONDS: Final = 5.0


class Gone(Exception):
    """The other side has ended the connection."""


def line(text: str) -> bytes:
    """A line of multistream-select."""
    raw = text.encode() + b"\n"
    return encode_uvarint(len(raw)) + raw


def prefixed(raw: bytes) -> bytes:
    """Bytes behind their length, as gossip sends envelopes."""
    return encode_uvarint(len(raw)) + raw


class Hostile:
    """One connection of one identity to one node.

    Args:
        seed: 32 bytes, the Ed25519 key.
        port: of loopback where the victim listens.
        victim: who it is; Noise checks that.
    """

    def __init__(self, seed: bytes, port: int, victim: PeerId) -> None:
        self.keys: KeyPair = create_new_key_pair(seed)
        self.port = port
        self.victim = victim
        self.peer = PeerId(ID.from_pubkey(self.keys.public_key).to_base58())
        self.arrived: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.ended = trio.Event()
        self._changed = trio.lowlevel.ParkingLot()
        self._session: SecureSession | None = None
        self._stream: trio.SocketStream | None = None
        self._last = -1

    @classmethod
    @asynccontextmanager
    async def dial(cls, seed: bytes, port: int, victim: PeerId) -> AsyncIterator[Self]:
        """Connect as far as Yamux, and read what comes until the block ends.

        Raises:
            Gone: it was not let in.
        """
        self = cls(seed, port, victim)
        try:
            with trio.fail_after(SECONDS):
                await self._connect()
        except Exception as error:
            with trio.move_on_after(SECONDS, shield=True):
                await self.close()
            raise Gone from error
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                yield self
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(SECONDS, shield=True):
                await self.close()

    async def close(self) -> None:
        """Close the socket without a word."""
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)

    # -- below streams

    async def raw(self, data: bytes) -> None:
        """Write into Noise what stands behind it: muxer frames, or anything.

        Raises:
            Gone: the other side has ended the connection.
        """
        assert self._session is not None
        try:
            with trio.fail_after(SECONDS):
                await self._session.write(data)
        except Exception as error:
            raise Gone from error

    async def below(self, data: bytes) -> None:
        """Write under Noise.

        Raises:
            Gone: the other side has ended the connection.
        """
        assert self._stream is not None
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Gone from error

    async def frame(
        self,
        kind: int,
        flags: int = 0,
        stream: int = 0,
        length: int | None = None,
        body: bytes = b"",
    ) -> None:
        """Write one muxer frame, whatever it announces."""
        announced = len(body) if length is None else length
        await self.raw(HEADER.pack(0, kind, flags, stream, announced) + body)

    async def _connect(self) -> None:
        self._stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        connection = RawConnection(TrioTCPStream(self._stream), initiator=True)
        await connection.write(line("/multistream/1.0.0") + line("/noise"))
        await self._expect(connection, line("/multistream/1.0.0") + line("/noise"))
        noise = Transport(self.keys, noise_privkey=create_noise_key_pair().private_key)
        session = await noise.secure_outbound(connection, ID.from_string(self.victim))
        assert isinstance(session, SecureSession)
        self._session = session
        await session.write(line("/multistream/1.0.0") + line("/yamux/1.0.0"))
        await self._expect(session, line("/multistream/1.0.0") + line("/yamux/1.0.0"))

    @staticmethod
    async def _expect(source: RawConnection | SecureSession, what: bytes) -> None:
        got = b""
        while len(got) < len(what):
            data = await source.read(len(what) - len(got))
            if not data:
                raise Gone
            got += data
        assert got == what

    async def _read(self) -> None:
        assert self._session is not None
        waiting = bytearray()
        try:
            while data := await self._session.read():
                waiting += data
                while (cut := self._take(waiting)) > 0:
                    del waiting[:cut]
        except Exception:  # noqa: BLE001 - of whatever kind: it is over
            waiting.clear()
        self.ended.set()
        self._changed.unpark_all()

    def _take(self, waiting: bytearray) -> int:
        if len(waiting) < HEADER.size:
            return 0
        _, kind, _, stream, length = HEADER.unpack_from(waiting)
        end = HEADER.size + (length if kind == DATA else 0)
        if len(waiting) < end:
            return 0
        self.arrived[stream] += waiting[HEADER.size : end]
        self._changed.unpark_all()
        return end

    # -- streams

    async def open(self, protocol: str, *, stream: int | None = None) -> int:
        """Open a stream and choose its protocol in one breath; its number."""
        self._last += 2
        number = self._last if stream is None else stream
        await self.frame(DATA, SYN, number, body=line("/multistream/1.0.0") + line(protocol))
        return number

    async def say(self, stream: int, data: bytes) -> None:
        """Write into a stream without asking for its window."""
        for start in range(0, len(data), BODY_BYTES):
            await self.frame(DATA, 0, stream, body=data[start : start + BODY_BYTES])

    async def wait_bytes(self, stream: int, count: int) -> bytes:
        """Wait until so many bytes have come on a stream.

        Raises:
            Gone: the connection ended before.
        """
        while len(self.arrived[stream]) < count:
            if self.ended.is_set():
                raise Gone
            await self._changed.park()
        return bytes(self.arrived[stream])

    async def wait_end(self) -> bool:
        """Whether the other side ends the connection within `SECONDS`."""
        with trio.move_on_after(SECONDS):
            await self.ended.wait()
        return self.ended.is_set()

    async def shake_hands(self, chain: ChainIdentity) -> int:
        """Open the control stream and say hello like an honest node; the stream's number."""
        ctl = await self.open(Channel.CTL.value)
        await self.say(ctl, frame_of(chain.hello(()), Flow.ONE_WAY, 0))
        with trio.fail_after(SECONDS):
            await self.wait_bytes(
                ctl, len(line("/multistream/1.0.0") + line(Channel.CTL.value)) + 40
            )
        return ctl

    # -- gossip

    def message(self, topic: str, data: bytes, *, number: int = 1) -> rpc_pb2.Message:
        """A gossip message with our signature that holds."""
        author = ID.from_pubkey(self.keys.public_key).to_bytes()
        made = rpc_pb2.Message(
            data=data, topicIDs=[topic], from_id=author, seqno=number.to_bytes(8, "big")
        )
        payload = PUBSUB_SIGNING_PREFIX.encode() + made.SerializeToString()
        made.signature = self.keys.private_key.sign(payload)
        return made

    async def gossip(self, rpc: rpc_pb2.RPC) -> int:
        """Send an envelope on a new gossip stream; its number."""
        stream = await self.open(GOSSIP)
        await self.say(stream, prefixed(rpc.SerializeToString()))
        return stream


def frame_of(record: Record, flow: Flow, request_id: int) -> bytes:
    """A frame of ours with a record as its body."""
    kind = MESSAGES.number(type(record))
    return encode_frame(
        Head(version=1, flow=flow, kind=kind, request_id=request_id, trace=b"", body=encode(record))
    )


async def knock(port: int, data: bytes) -> bytes:
    """Open a bare socket, write, and read until the other side closes it."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    got = b""
    async with stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(data)
            while part := await stream.receive_some(65536):
                got += part
    return got
