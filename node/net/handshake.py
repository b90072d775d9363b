"""The first words on a control stream: do both nodes belong to the same network?

Knows `Hello` and what must be equal. Must not know who dials or what happens afterwards. The
dialler speaks first; both sides always send their hello before they judge, so that each can
name the mismatch to its own user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.net.streams import Duplex, FrameReader, StreamLost
from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import RemoteError, WireError, WrongChain
from prsm.protocol.framing import PROTOCOL_VERSION, Flow, Head, encode_frame
from prsm.protocol.limits import ADDRESS_TEXT_MAX, HELLO_ADDRESSES_MAX, HELLO_BYTES_MAX
from prsm.protocol.messages.net import SCHEMA_VERSION, Hello
from prsm.protocol.messages.table import MESSAGES

LINGER_S: Final = 1.0
HELLO_KIND: Final = MESSAGES.number(Hello)


class ProtocolMismatch(RemoteError):
    """The peer speaks another version of the protocol or of its records."""

    reason = "protocol_mismatch"


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


async def greet(duplex: Duplex, ours: Hello, *, dialler: bool) -> Hello:
    """Exchange hellos on a fresh control stream and return the peer's.

    Raises:
        ProtocolMismatch: another protocol or schema version.
        WrongChain: another chain id or genesis.
        WireError: no hello.
        StreamLost: the peer ended the stream.
    """
    if dialler:
        await _send(duplex, ours)
    theirs = await _receive(duplex)
    if not dialler:
        await _send(duplex, ours)
    try:
        check(ours, theirs)
    except RemoteError:
        if not dialler:
            await _linger(duplex)  # noqa: ASYNC120 - if cancelled, nobody waits for the refusal
        raise
    return theirs


def check(ours: Hello, theirs: Hello) -> None:
    """Compare two hellos.

    Raises:
        ProtocolMismatch: another protocol or schema version.
        WrongChain: another chain id or genesis.
    """
    if (theirs.protocol, theirs.schema) != (ours.protocol, ours.schema):
        raise ProtocolMismatch(
            f"the peer speaks protocol {theirs.protocol}, schema {theirs.schema}; "
            f"this node {ours.protocol} and {ours.schema}",
            hint="run the same version of prsm on both nodes",
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


async def _send(duplex: Duplex, hello: Hello) -> None:
    head = Head(
        version=PROTOCOL_VERSION,
        flow=Flow.ONE_WAY,
        kind=HELLO_KIND,
        request_id=0,
        trace=b"",
        body=encode(hello),
    )
    await duplex.write_all(encode_frame(head))


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
    reader = FrameReader(duplex, frame_bytes_max=HELLO_BYTES_MAX, read_ahead=0)
    raw, tail = await reader.read_raw()
    head = decode(raw, Head, size_max=HELLO_BYTES_MAX)
    if head.kind != HELLO_KIND or head.flow is not Flow.ONE_WAY or tail:
        raise WireError(f"message {head.kind} before the hello", penalty=50)
    return decode(head.body, Hello, size_max=HELLO_BYTES_MAX)
