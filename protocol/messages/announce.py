"""What is announced by gossip, and how two nodes compare what they have heard of it.

Knows: the topics, the body and the lifetime of each, and the three records of pull repair. Must
not know: who signs, what is stored, whom to ask. Source: docs/spec/wire.md, "Gossip".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.ids import U32, Bytes32, Signature, UInt
from prsm.protocol.limits import (
    COPIES_MAX,
    GOSSIP_KEY_BYTES_MAX,
    GOSSIP_RECORD_BYTES_MAX,
    GOSSIP_SUMS_MAX,
    GOSSIP_TOPICS_MAX,
    HELLO_ADDRESSES_MAX,
    KIB,
    LISTED_MAX,
    NAME_BYTES_MAX,
    PULLED_RECORDS_MAX,
)
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.messages.net import Address, GossipRecord
from prsm.protocol.messages.work import ShardClass
from prsm.protocol.signing import RECORD_TAG

BEACON_MODELS_MAX: Final = 64
BEACON_CLASSES_MAX: Final = 64
SLOT_BYTES: Final = 12  # of a hash: an author who finds two keys with one slot harms only himself
SUM_BYTES: Final = 16
ENTRY_BYTES: Final = 32

_Name = Annotated[str, msgspec.Meta(max_length=NAME_BYTES_MAX)]
_Topic = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
_Sum = Annotated[bytes, msgspec.Meta(min_length=SUM_BYTES, max_length=SUM_BYTES)]
_Slot = Annotated[bytes, msgspec.Meta(min_length=SLOT_BYTES, max_length=SLOT_BYTES)]


class Announced(Record, frozen=True):
    """Body of every `GossipRecord` on the topics below."""

    key: Annotated[bytes, msgspec.Meta(max_length=GOSSIP_KEY_BYTES_MAX)]  # what it is about
    sequence: UInt  # of the author's records on this topic since it started: shows what is missing
    content: Annotated[bytes, msgspec.Meta(max_length=GOSSIP_RECORD_BYTES_MAX)]


class CapacityBeacon(Record, frozen=True):
    """What a node would do for others now, and for how much; signed by who is to be paid."""

    worker: Bytes32  # payment key
    price_per_row: UInt  # micro-FTNS asked for a row of one stage
    slots: U32  # units it works on at once
    slots_free: U32  # units that would be accepted now; the others are worked on
    waiting_ms: UInt  # how long what waits at its loaded shards will take
    memory_bytes: UInt  # all its workers together may take
    runtime: Annotated[str, msgspec.Meta(max_length=256)]
    region: _Name  # as its operator calls it; may be empty
    models: Annotated[tuple[CidBytes, ...], msgspec.Meta(max_length=BEACON_MODELS_MAX)]
    classes: Annotated[tuple[ShardClass, ...], msgspec.Meta(max_length=BEACON_CLASSES_MAX)]
    signature: Signature


class ModelOffer(Record, frozen=True):
    """A model whose files this node holds and serves; its manifest is the key of the record."""

    manifest: CidBytes
    pinned_sha256: Bytes32
    name: _Name
    semver: _Name
    size_bytes: UInt


class PeerStatus(Record, frozen=True):
    """Where a node stands and where it can be dialled; agreement never reads it."""

    height: UInt
    head: Bytes32
    protocol: U32
    schema: U32
    agent: _Name
    region: _Name
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=HELLO_ADDRESSES_MAX)]


class NewBlock(Record, frozen=True):
    """A block its proposer saw committed: a hint that there is something to ask for."""

    height: UInt
    block_hash: Bytes32


class CopyWish(Record, frozen=True):
    """How many copies of a model there should be, if more than usual."""

    manifest: CidBytes
    copies: Annotated[int, msgspec.Meta(ge=1, le=COPIES_MAX)]


class StorageBeacon(Record, frozen=True):
    """What a node would keep for others, and how many copies it wants of what it holds."""

    region: _Name  # as its operator calls it; may be empty
    room_bytes: UInt  # free for copies, rounded down to a power of two; 0: none
    wishes: Annotated[tuple[CopyWish, ...], msgspec.Meta(max_length=BEACON_MODELS_MAX)]


@dataclass(frozen=True, slots=True)
class TopicRules:
    """What holds for the records of one topic.

    Attributes:
        name: of the topic in the mesh.
        content: its class.
        ttl_ms: a record counts until so long after its `made_ms`.
        content_bytes_max: longer ones are refused.
        records_per_author: keys of one author that are kept, the latest.
    """

    name: str
    content: type[Record]
    ttl_ms: int
    content_bytes_max: int
    records_per_author: int


CAPACITY: Final = TopicRules("prsm/capacity/1", CapacityBeacon, 90_000, 8 * KIB, 1)
MODELS: Final = TopicRules("prsm/models/1", ModelOffer, 600_000, 512, 256)
STATUS: Final = TopicRules("prsm/status/1", PeerStatus, 180_000, 4 * KIB, 1)
BLOCKS: Final = TopicRules("prsm/blocks/1", NewBlock, 30_000, 64, 1)
STORAGE: Final = TopicRules("prsm/storage/1", StorageBeacon, 90_000, 4 * KIB, 1)
TOPICS: Final[Mapping[str, TopicRules]] = {
    rules.name: rules for rules in (CAPACITY, MODELS, STATUS, BLOCKS, STORAGE)
}
assert len(TOPICS) <= GOSSIP_TOPICS_MAX


def key_of(content: Record) -> bytes:
    """Key of a content: an author's later word on it replaces the earlier."""
    return content.manifest if isinstance(content, ModelOffer) else b""


def read_announced(record: GossipRecord, rules: TopicRules) -> Announced:
    """Read the outer body of a record: enough to know whether it is news.

    Raises:
        WireError: no such body, or a longer content than the topic takes.
    """
    announced = decode(record.body, Announced, size_max=GOSSIP_RECORD_BYTES_MAX)
    size = len(announced.content)
    if size > rules.content_bytes_max:
        what = f"{size} bytes on {rules.name}, at most {rules.content_bytes_max}"
        raise WireError(what, penalty=50)
    return announced


def read_content(announced: Announced, rules: TopicRules) -> Record:
    """Read what a record announces.

    Raises:
        WireError: no content of the topic's class, or one under another key than its own.
    """
    content = decode(announced.content, rules.content, size_max=rules.content_bytes_max)
    if rules.name in TOPICS and announced.key != key_of(content):
        raise WireError(f"a record of {rules.name} under the key of another")
    return content


def beacon_statement(
    beacon: CapacityBeacon, *, chain_id: bytes, author: bytes, made_ms: int
) -> bytes:
    """Bytes the payment key signs: bound to the network, the announcing node and the moment."""
    fields = msgspec.structs.astuple(beacon)[:-1]
    return RECORD_TAG + encode(("work.beacon", chain_id, author, made_ms, *fields))


class TopicSums(Record, frozen=True):
    """What the asker has of a topic: the sum of ids for each age, trailing empty ages left out."""

    topic: _Topic
    sums: Annotated[tuple[_Sum, ...], msgspec.Meta(max_length=GOSSIP_SUMS_MAX)]


class Compare(Record, frozen=True):
    """Call: which records made by `horizon_ms` have you that these sums do not cover?"""

    horizon_ms: UInt
    cursor: _Slot  # a list that was full is continued behind it
    topics: Annotated[tuple[TopicSums, ...], msgspec.Meta(max_length=GOSSIP_TOPICS_MAX)]


class Listing(Record, frozen=True):
    """Answer to `Compare`: sums of the topics that differ, and what the answerer has there.

    Answer to `GetRecords`: what its tail brings. One-way: what the other side lacks, as a
    comparison has shown; then, and in the tail's list, no sums. An entry is slot (12 bytes), u64
    made_ms, u32 size, and the first 8 bytes of the id.
    """

    topics: Annotated[tuple[TopicSums, ...], msgspec.Meta(max_length=GOSSIP_TOPICS_MAX)]
    entries: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=LISTED_MAX)]


class GetRecords(Record, frozen=True):
    """Call: send what you have in these slots; the answer's tail is the records, in its order."""

    slots: Annotated[tuple[_Slot, ...], msgspec.Meta(min_length=1, max_length=PULLED_RECORDS_MAX)]


KINDS: Final[dict[int, type[Record]]] = {95: Compare, 96: Listing, 97: GetRecords}
