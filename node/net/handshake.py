"""The first words on a control stream: do both nodes belong to the same network?

Knows `Hello`, what must be equal, and which schema two nodes of neighbouring versions speak. Must
not know who dials or what happens afterwards. The dialler speaks first; both sides always send
their hello before they judge, so that each can name the mismatch to its own user.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from prsm.node.net.entry import EntryRules, NotAllowed, PeerFull
from prsm.node.net.interface import PeerUnreachable
from prsm.node.net.streams import Duplex, FrameReader, StreamLost
from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import RemoteError, WireError, WrongChain
from prsm.protocol.framing import (
    PROTOCOL_VERSION,
    Flow,
    Head,
    Refusal,
    encode_frame,
    read_head,
)
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import (
    ADDRESS_TEXT_MAX,
    ADDRESSES_TOLD_MAX,
    HELLO_ADDRESSES_MAX,
    HELLO_BYTES_MAX,
)
from prsm.protocol.messages.exchange import GotAddresses
from prsm.protocol.messages.net import SCHEMA_VERSION, Hello
from prsm.protocol.messages.table import MESSAGES

SCHEMAS_APART_MAX: Final = 1  # a network is upgraded one release after the other
STRICT_SCHEMA: Final = 1  # programs of this schema take no other number than theirs
OLDER_PEERS_MAX: Final = 256  # noted for one dial each
OLDER_SECONDS: Final = 5.0  # later the peer may have been upgraded: the redial comes after 0.2 s
LINGER_S: Final = 1.0
HELLO_KIND: Final = MESSAGES.number(Hello)


class ProtocolMismatch(RemoteError):
    """The peer speaks another version of the protocol or of its records."""

    reason = "protocol_mismatch"


class OlderPeer(PeerUnreachable):
    """The peer is one schema older and takes only its own; the next dial offers it that one."""

    def __init__(self, schema: int) -> None:
        super().__init__(f"the peer speaks schema {schema} only; dialled again with it")
        self.schema = schema


@dataclass(frozen=True, slots=True)
class ChainIdentity:
    """Which network a node belongs to, as it says in its hello.

    Args:
        chain: 8 bytes that name the network.
        genesis: 32 bytes, the digest of its first document.
        agent: program and version, for people.
        protocol: version of frames and streams.
        schema: version of the records.
    """

    chain: bytes
    genesis: bytes
    agent: str = "prsm"
    protocol: int = PROTOCOL_VERSION
    schema: int = SCHEMA_VERSION

    def hello(self, addresses: Sequence[str]) -> Hello:
        """What this node says first; surplus and overlong addresses are left out."""
        fitting = [address for address in addresses if len(address) <= ADDRESS_TEXT_MAX]
        return Hello(
            protocol=self.protocol,
            schema=self.schema,
            chain=self.chain,
            genesis=self.genesis,
            agent=self.agent,
            addresses=tuple(fitting[:HELLO_ADDRESSES_MAX]),
        )


class Greeter:
    """Says a node's hellos: its own schema, or the one before to a peer that takes nothing else.

    Args:
        chain: which network the node belongs to.
    """

    def __init__(self, chain: ChainIdentity) -> None:
        self._chain = chain
        self._older: dict[PeerId, tuple[int, float]] = {}  # schema, and until when

    async def greet(
        self, duplex: Duplex, peer: PeerId, addresses: Sequence[str], *, dialler: bool
    ) -> Hello:
        """Exchange hellos with a peer as `greet`; an older one is remembered for the next dial.

        Raises:
            OlderPeer: it must be dialled again.
            ProtocolMismatch, WrongChain, WireError, StreamLost: as `greet`.
        """
        ours = self._chain.hello(addresses)
        # For one dial only, and soon: the peer may be upgraded before a later one.
        schema, until = self._older.pop(peer, (0, 0.0)) if dialler else (0, 0.0)
        if trio.current_time() < until:
            ours = msgspec.structs.replace(ours, schema=schema)
        try:
            return await greet(duplex, ours, dialler=dialler)
        except OlderPeer as error:
            if len(self._older) >= OLDER_PEERS_MAX:
                self._older.clear()
            self._older[peer] = error.schema, trio.current_time() + OLDER_SECONDS
            raise


async def greet(duplex: Duplex, ours: Hello, *, dialler: bool) -> Hello:
    """Exchange hellos on a fresh control stream.

    Returns:
        The peer's hello; its schema is the one both speak on this connection.

    Raises:
        OlderPeer: it refuses our schema, not the one before.
        ProtocolMismatch: another protocol version, or schemas too far apart.
        WrongChain: another chain id or genesis.
        WireError: no hello.
        StreamLost: the peer ended the stream.
    """
    if dialler:
        await _send(duplex, ours)
    theirs = await _receive(duplex)
    if not dialler:
        ours = _answer(ours, theirs)
        await _send(duplex, ours)
    try:
        check(ours, theirs)
    except RemoteError:
        if not dialler:
            await _linger(duplex)  # noqa: ASYNC120 - if cancelled, nobody waits for the refusal
        raise
    if theirs.schema <= STRICT_SCHEMA < ours.schema:
        raise OlderPeer(theirs.schema)
    return msgspec.structs.replace(theirs, schema=min(ours.schema, theirs.schema))


def check(ours: Hello, theirs: Hello) -> None:
    """Compare two hellos.

    Raises:
        ProtocolMismatch: another protocol version, or schemas more than one apart.
        WrongChain: another chain id or genesis.
    """
    if theirs.protocol != ours.protocol or not _are_neighbours(ours, theirs):
        raise ProtocolMismatch(
            f"the peer speaks protocol {theirs.protocol}, schema {theirs.schema}; "
            f"this node {ours.protocol} and {ours.schema}",
            hint="upgrade the older node; one release after the other",
            penalty=0,
        )
    if theirs.chain != ours.chain:
        raise WrongChain(
            f"the peer is of chain {theirs.chain.hex()}, this node of {ours.chain.hex()}",
            hint="start the node with the genesis file of that network",
            penalty=0,
        )
    if theirs.genesis != ours.genesis:
        raise WrongChain(
            f"the peer's genesis is {theirs.genesis.hex()[:16]}…, ours {ours.genesis.hex()[:16]}…",
            hint="start the node with the genesis file of that network",
            penalty=0,
        )


def _are_neighbours(ours: Hello, theirs: Hello) -> bool:
    return abs(ours.schema - theirs.schema) <= SCHEMAS_APART_MAX


def _answer(ours: Hello, theirs: Hello) -> Hello:
    """What the dialled side says: the older of two neighbouring schemas, else its own."""
    if _are_neighbours(ours, theirs):
        return msgspec.structs.replace(ours, schema=min(ours.schema, theirs.schema))
    return ours


async def _send(duplex: Duplex, hello: Hello) -> None:
    await duplex.write_all(_frame(Flow.ONE_WAY, HELLO_KIND, encode(hello)))


async def turn_strangers_away(rules: EntryRules, duplex: Duplex, peer: PeerId) -> None:
    """Answer a peer that is not on the allow-list by a typed refusal in place of a hello.

    Raises:
        NotAllowed: it was; the peer had its time to leave.
        WireError, StreamLost: it said no hello.
    """
    try:
        rules.refuse_stranger(peer)
    except NotAllowed as error:
        # Its hello first: what is unread when a stream ends takes our answer with it.
        await _receive(duplex)  # noqa: ASYNC120 - if cancelled, nobody waits for it
        what = "only peers of an allow-list are let in"
        await duplex.write_all(_refusal(error.reason, what))  # noqa: ASYNC120 - same
        await _linger(duplex)  # noqa: ASYNC120 - same
        raise


async def turn_surplus_away(duplex: Duplex, error: PeerFull, others: Sequence[str]) -> None:
    """Answer a peer for whom there is no place by a typed refusal, and by whom to dial instead.

    Raises:
        WireError, StreamLost: it said no hello.
    """
    await _receive(duplex)
    told = GotAddresses(region="", own=(), others=_fitting(others))
    frame = _frame(Flow.ONE_WAY, MESSAGES.number(GotAddresses), encode(told))
    await duplex.write_all(_refusal(error.reason, error.what) + frame)
    await _linger(duplex)


def _fitting(others: Sequence[str]) -> tuple[str, ...]:
    """As many of the first ones as an answer in place of a hello may hold."""
    fitting: list[str] = []
    room = HELLO_BYTES_MAX // 2
    for address in others[:ADDRESSES_TOLD_MAX]:
        room -= len(address) + 3  # and how long it is
        if room < 0:
            break
        fitting.append(address)
    return tuple(fitting)


def _refusal(reason: str, what: str) -> bytes:
    refusal = Refusal(reason=reason, what=what, retry_after_ms=0)
    return _frame(Flow.ERROR, HELLO_KIND, encode(refusal))


def _frame(flow: Flow, kind: int, body: bytes) -> bytes:
    head = Head(version=PROTOCOL_VERSION, flow=flow, kind=kind, request_id=0, trace=b"", body=body)
    return encode_frame(head)


def _refused(refusal: Refusal) -> PeerUnreachable:
    if refusal.reason == NotAllowed.reason:
        return NotAllowed(
            f"the peer has an allow-list, and this node is not on it: {refusal.what}",
            hint="ask its owner to add this node's peer id (prsm status) to net.trusted there",
        )
    return PeerUnreachable(f"the peer refuses this node: {refusal.reason}: {refusal.what}")


async def _linger(duplex: Duplex) -> None:
    # Closing at once would drop our hello before the dialler reads it: Yamux forgets what is
    # buffered when a connection ends. The dialler sees the mismatch itself and leaves.
    with trio.move_on_after(LINGER_S):
        try:
            await duplex.read_some(1)
        except StreamLost:
            return


async def _receive(duplex: Duplex) -> Hello:
    # Without read-ahead: the frames behind the hello belong to the conversation. The version of
    # the frame is not judged here, or a newer peer could not say which version it speaks.
    reader = FrameReader(duplex, frame_bytes_max=HELLO_BYTES_MAX, read_ahead=0, deadline_s=math.inf)
    raw, tail = await reader.read_raw()
    head = read_head(raw)
    if head.kind == HELLO_KIND and head.flow is Flow.ERROR and not tail:
        refusal = decode(head.body, Refusal, size_max=HELLO_BYTES_MAX)
        if refusal.reason == PeerFull.reason:
            raise PeerFull(
                f"the peer has no place left: {refusal.what}", others=await _others(reader)
            )
        raise _refused(refusal)
    if head.kind != HELLO_KIND or head.flow is not Flow.ONE_WAY or tail:
        raise WireError(f"message {head.kind} before the hello", penalty=50)
    return decode(head.body, Hello, size_max=HELLO_BYTES_MAX)


async def _others(reader: FrameReader) -> tuple[str, ...]:
    """What follows a refusal for want of a place; programs of before say nothing more."""
    with trio.move_on_after(LINGER_S):
        try:
            head, _ = await reader.read()
        except StreamLost:
            return ()
        if head.flow is Flow.ONE_WAY and head.kind == MESSAGES.number(GotAddresses):
            return decode(head.body, GotAddresses, size_max=HELLO_BYTES_MAX).others
    return ()
