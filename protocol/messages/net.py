"""What two nodes say about themselves: hello, heartbeat, and the envelope of gossip records.

Source: docs/spec/wire.md. Knows the shapes; must not know streams, timers or who is dialled.
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ids import U32, Bytes32, ChainId, Signature, UInt
from prsm.protocol.limits import (
    ADDRESS_TEXT_MAX,
    GOSSIP_RECORD_BYTES_MAX,
    HELLO_ADDRESSES_MAX,
    NAME_BYTES_MAX,
)
from prsm.protocol.signing import RECORD_TAG

# Of the records in protocol/messages; table.since says which came with which. A node also speaks
# the schema before its own (docs/spec/wire.md, "Versions").
SCHEMA_VERSION: Final = 3
ENVELOPE_BYTES_MAX: Final = 512  # all of a gossip record but its body

Address = Annotated[str, msgspec.Meta(max_length=ADDRESS_TEXT_MAX)]


class Hello(Record, frozen=True):
    """First frame of each side on the control stream; both must name the same network."""

    protocol: U32  # framing.PROTOCOL_VERSION
    schema: U32  # SCHEMA_VERSION
    chain: ChainId
    genesis: Bytes32  # digest of the genesis document
    agent: Annotated[str, msgspec.Meta(max_length=NAME_BYTES_MAX)]
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=HELLO_ADDRESSES_MAX)]


class Heartbeat(Record, frozen=True):
    """Call and its answer: the same count comes back; measures the round trip."""

    count: UInt


class GossipRecord(Record, frozen=True):
    """Envelope of everything gossiped: a hint signed by its author, never part of agreement."""

    chain: ChainId
    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
    author: Bytes32  # Ed25519 public key that signed
    made_ms: UInt  # author's clock; a later record of one author and topic replaces earlier ones
    body: Annotated[bytes, msgspec.Meta(max_length=GOSSIP_RECORD_BYTES_MAX - ENVELOPE_BYTES_MAX)]
    signature: Signature

    @property
    def signed_bytes(self) -> bytes:
        """What `signature` covers: the domain tag and all other fields, canonically."""
        return RECORD_TAG + encode((self.chain, self.topic, self.author, self.made_ms, self.body))


def decode_gossip(raw: bytes) -> GossipRecord:
    """Read a gossip record; its signature is still to be checked.

    Raises:
        WireError: over 64 KiB, not canonical or not of that shape.
    """
    return decode(raw, GossipRecord, size_max=GOSSIP_RECORD_BYTES_MAX)


KINDS: Final[dict[int, type[Record]]] = {90: Hello, 91: Heartbeat, 92: GossipRecord}
