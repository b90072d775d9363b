"""Every decoder that bytes of others reach, as a function of bytes that raises nothing.

Knows: for each decoder what it may answer (a record, or a typed refusal) and what it is given. A
call goes as far as the product goes without state: what is decoded is opened, bound and checked,
with a verifier that believes every signature. Imported by the gate's tests and by
`scripts/fuzz.py`, which instruments `prsm` before this module is imported.
"""

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, Final

from google.protobuf.message import DecodeError
from libp2p.pubsub.pb import rpc_pb2

from prsm.consensus.ledger.admission import Admission
from prsm.consensus.ledger.chunks import open_chunk, root_of
from prsm.consensus.light import Trust
from prsm.consensus.pbft.opened import is_signed, open_message
from prsm.consensus.pbft.records import replay
from prsm.node.net.envelopes import check_envelope
from prsm.node.net.frames import HEADER, FrameRules
from prsm.node.net.gossip import count, cut, malformed
from prsm.node.net.handshake import ChainIdentity, greet
from prsm.node.net.interface import PeerUnreachable
from prsm.node.net.places import place_of
from prsm.node.net.streams import FrameReader, StreamLost
from prsm.node.peers.mdns import read_text
from prsm.protocol.certificates import check_certificate
from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import LocalError, PrsmError, RemoteError
from prsm.protocol.framing import Flow, Refusal
from prsm.protocol.headers import is_bound
from prsm.protocol.identity import parse_address, parse_circuit
from prsm.protocol.limits import (
    BLOCKS_BYTES_MAX,
    BULK_FRAME_BYTES_MAX,
    CTL_FRAME_BYTES_MAX,
    TENSORS_PER_MESSAGE_MAX,
    TRANSACTION_BYTES_MAX,
)
from prsm.protocol.messages.announce import TOPICS, read_announced, read_content
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.messages.net import GossipRecord, decode_gossip
from prsm.protocol.messages.sync import Certified, ChunkHead, Snapshot
from prsm.protocol.messages.table import MESSAGES
from prsm.protocol.proofs import (
    ProvenState,
    ProvenTransaction,
    StateProof,
    proven_value,
    require_included,
)
from prsm.protocol.receipts import WorkReceipt, receipt_statement, rows_root
from prsm.protocol.signing import Kind
from prsm.protocol.tensors import TensorHead, split_tail
from prsm.storage.cid import Codec, decode_cid, hash_block, parse_cid
from prsm.storage.dag.assembly import Assembly
from prsm.storage.dag.dagpb import (
    decode_directory,
    decode_file,
    decode_wrapped_leaf,
    encode_directory,
    encode_file,
    encode_wrapped_leaf,
)
from prsm.storage.dag.packing import assemble
from prsm.storage.wal import Wal, _frame
from prsm.testnet.chain import small_genesis
from prsm.testnet.sim.disk import FaultyDisk
from tests.fuzz import documents
from tests.fuzz.foreign import bitswap
from tests.tools.dags import CountingShelf

GENESIS: Final = small_genesis()
BITS: Final = GENESIS.parameters.tree_bits
IDENTITY: Final = ChainIdentity(GENESIS.chain_id, GENESIS.digest)
CAR_BYTES_MAX: Final = 1 << 20  # of the files in a CAR
ROWS_HASHED_MAX: Final = 4096  # of a tensor; hashing more says nothing more about decoding


class Believer:
    """A verifier that takes every signature for good, so that what is behind it is reached."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:  # noqa: ARG002 - the port
        return len(public_key) == 32 and len(signature) == 64


TRUST: Final = Trust.of_genesis(GENESIS, Believer())
VALIDATORS: Final = GENESIS.first_validators()
ADMISSION: Final = Admission(GENESIS.chain_id, GENESIS.parameters, Believer())


@dataclass(frozen=True, slots=True)
class Target:
    """A family of decoders.

    Attributes:
        run: takes bytes of others; raises nothing but `refusals`.
        refusals: what the product's caller expects and handles.
        choices: how many decoders the first byte chooses from; 0: no such byte.
    """

    run: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...] = (RemoteError,)
    choices: int = 0

    def __call__(self, data: bytes) -> bool:
        """Feed it; was it taken for good?"""
        try:
            self.run(data)
        except self.refusals:
            return False
        return True


def drive(steps: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine that never has to wait."""
    try:
        steps.send(None)
    except StopIteration as end:
        found: object = end.value
        return found
    raise AssertionError("it waits")


class Wire:
    """A stream whose other side has said everything and ended."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read_some(self, bytes_max: int) -> bytes:
        taken, self._data = self._data[:bytes_max], self._data[bytes_max:]
        return taken

    async def write_all(self, data: bytes) -> None:
        assert data


# -- the decoders


def frames(data: bytes) -> None:
    """A control stream: lengths, heads, and the body of each as a conversation reads it."""
    reader = FrameReader(Wire(data), frame_bytes_max=CTL_FRAME_BYTES_MAX, deadline_s=math.inf)

    async def read() -> None:
        while True:
            head, _tail = await reader.read()
            if head.flow is Flow.ERROR:
                decode(head.body, Refusal, size_max=CTL_FRAME_BYTES_MAX)
            else:
                MESSAGES.decode(head.kind, head.body, size_max=BULK_FRAME_BYTES_MAX)

    drive(read())


@cache
def _numbers() -> tuple[int, ...]:
    return tuple(number for number, _ in MESSAGES.items())


def messages(data: bytes) -> None:
    """Any record of the table, by its place there."""
    numbers = _numbers()
    record = MESSAGES.decode(
        numbers[data[0] % len(numbers)] if data else 0, data[1:], size_max=BULK_FRAME_BYTES_MAX
    )
    assert encode(record) == data[1:]


def consensus(data: bytes) -> None:
    """A signed statement, opened as the core opens it."""
    message = decode(data, SignedMessage, size_max=CTL_FRAME_BYTES_MAX)
    opened = open_message(message)
    is_signed(opened, VALIDATORS, chain_id=GENESIS.chain_id, verifier=Believer())


def hello(data: bytes) -> None:
    """The first frame of a peer that was dialled."""
    drive(greet(Wire(data), IDENTITY.hello(()), dialler=True))


def transactions(data: bytes) -> None:
    """A transaction: envelope, payload, fee."""
    ADMISSION.check(data)


def gossip(data: bytes) -> None:
    """A gossip record and what it announces."""
    record = decode_gossip(data)
    assert record.signed_bytes
    _announced(record)


def _announced(record: GossipRecord) -> None:
    rules = TOPICS.get(record.topic)
    if rules is not None:
        read_content(read_announced(record, rules), rules)


def pubsub(data: bytes) -> None:
    """What arrives on a gossip stream, down to the record."""
    check_envelope(data)
    rpc = rpc_pb2.RPC.FromString(data)
    cut(rpc.control, frozenset(TOPICS))
    count(rpc, len(data))
    for message in rpc.publish:
        if len(message.topicIDs) == 1 and not malformed(message):
            gossip(message.data)


def receipts(data: bytes) -> None:
    """A receipt of work, as it is shown and as it stands in a settlement."""
    receipt = decode(data, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
    assert receipt_statement(receipt)


def tensors(data: bytes) -> None:
    """Heads of tensors (as many bytes as the first two say) and the tail they announce."""
    size = int.from_bytes(data[:2], "big")
    heads = decode(data[2 : 2 + size], tuple[TensorHead, ...], size_max=CTL_FRAME_BYTES_MAX)
    for tensor in split_tail(heads[:TENSORS_PER_MESSAGE_MAX], data[2 + size :]):
        assert len(tensor.data) == tensor.head.nbytes
        rows = tensor.head.shape[0] if tensor.head.shape else 1
        if rows <= ROWS_HASHED_MAX or not tensor.data:
            rows_root(tensor.head, tensor.data)


def proofs(data: bytes) -> None:
    """What a light client is shown."""
    match data[:1]:
        case b"\0":
            state = decode(data[1:], ProvenState, size_max=CTL_FRAME_BYTES_MAX)
            TRUST.check_header(state.header, state.certificate)
            proven_value(state.proof, state.header.state_root)
        case b"\1":
            shown = decode(data[1:], ProvenTransaction, size_max=CTL_FRAME_BYTES_MAX)
            TRUST.check_header(shown.header, shown.certificate)
            require_included(shown.transaction, shown.place, shown.header.tx_root)
        case _:
            proof = decode(data[1:], StateProof, size_max=CTL_FRAME_BYTES_MAX)
            proven_value(proof, bytes(32))


def chunks(data: bytes) -> None:
    """A chunk of a snapshot; its head is the list's, which is proven before."""
    level = data[0] % (BITS + 1) if data else 0
    open_chunk(data[1:], ChunkHead(level=level, root=bytes(32)), first=0, bits=BITS)


def snapshots(data: bytes) -> None:
    """What proves a snapshot."""
    found = decode(data, Snapshot, size_max=BULK_FRAME_BYTES_MAX)
    is_bound(found.block)
    TRUST.check_header(found.header, found.certificate)
    root_of(found.chunks, bits=BITS)


def blocks(data: bytes) -> None:
    """A committed block with its certificate."""
    found = decode(data, Certified, size_max=BLOCKS_BYTES_MAX)
    is_bound(found.block)
    TRUST.check_header(found.block.header, found.certificate)
    if found.block.body.prev_cert is not None:
        check_certificate(
            found.block.body.prev_cert,
            VALIDATORS,
            chain_id=GENESIS.chain_id,
            verifier=Believer(),
            kind=Kind.COMMIT,
        )


def dag(data: bytes) -> None:
    """Nodes of files and directories, and CIDs as bytes and as text."""
    body = data[1:]
    match data[0] % 7 if data else 4:
        case 0:
            assert encode_file(decode_file(body), version=1) == body
        case 1:
            assert encode_file(decode_file(body, version=0), version=0) == body
        case 2:
            assert encode_directory(decode_directory(body)) == body
        case 3:
            decode_cid(body)
        case 4:
            parse_cid(body.decode("utf-8", "replace"))
        case 5:
            assert encode_wrapped_leaf(bytes(decode_wrapped_leaf(body))) == body
        case _:
            assert encode_directory(decode_directory(body, version=0), version=0) == body


def car(data: bytes) -> None:
    """A CAR; or blocks alone, each below its right name, so that nodes are reached."""
    if data[:1] == b"\0":
        assemble(BytesIO(data[1:]), CountingShelf(), size_max=CAR_BYTES_MAX)
        return
    blocks = []
    rest = data[1:]
    while rest:
        size = int.from_bytes(rest[:2], "big")
        blocks.append(rest[2 : 2 + size])
        rest = rest[2 + size :]
    shelf = CountingShelf()
    root = hash_block(blocks[0] if blocks else b"", Codec.DAG_PB)
    assembly = Assembly(root, shelf, size_max=CAR_BYTES_MAX)
    for block in blocks:
        assembly.accept(hash_block(block, Codec.DAG_PB), block)
    assert shelf.written <= shelf.made <= CAR_BYTES_MAX


def addresses(data: bytes) -> None:
    """Addresses that peers tell of themselves and of others, also by mDNS."""
    text = data[1:].decode("utf-8", "replace")
    match data[:1]:
        case b"\0":
            parse_circuit(text)
            place_of(text)
        case b"\1":
            parse_address(text)
            place_of(text)
        case _:
            read_text(data[1:], GENESIS.chain_id)


def muxer(data: bytes) -> None:
    """Headers of the muxer, one after the other."""
    rules = FrameRules(peer_dialled=True, now_ms=0)
    for at in range(0, len(data) - HEADER.size, HEADER.size):
        rules.check(data[at : at + HEADER.size], streams=at // HEADER.size, now_ms=at)
        rules.credit(now_ms=at)


def log(data: bytes) -> None:
    """The consensus log as a disk gives it back, and what the core rebuilds from it."""
    body = data[1:]
    if data[:1] == b"\1":  # a record whose checksum is right, behind a good head
        segment = int.from_bytes(LOG_HEAD[8:16], "big")
        body = LOG_HEAD + _frame(segment, body)
    disk = FaultyDisk(0)
    file = disk.create("log")
    file.pwrite(0, body)
    file.close()
    _, found = Wal.open(disk, "log")
    replay(found.records, committed=0)


def _log_head() -> bytes:
    disk = FaultyDisk(0)
    Wal.open(disk, "log")
    return disk.contents("log")


LOG_HEAD: Final = _log_head()


def records(data: bytes) -> None:
    """One record of the consensus log, its checksum right."""
    replay([data], committed=0)


TARGETS: Final[dict[str, Target]] = {
    "frames": Target(frames, (RemoteError, StreamLost)),
    "messages": Target(messages, choices=len(_numbers())),
    "consensus": Target(consensus),
    "hello": Target(hello, (RemoteError, PeerUnreachable)),
    "transactions": Target(transactions, (PrsmError,)),
    "gossip": Target(gossip),
    "pubsub": Target(pubsub, (RemoteError, DecodeError)),
    "receipts": Target(receipts),
    "tensors": Target(tensors),
    "proofs": Target(proofs, choices=3),
    "chunks": Target(chunks, choices=BITS + 1),
    "snapshots": Target(snapshots),
    "blocks": Target(blocks),
    "manifest": Target(documents.manifest),
    "card": Target(documents.card),
    "vectors": Target(documents.vectors),
    "versions": Target(documents.versions, (LocalError,), choices=3),
    "dag": Target(dag, (PrsmError,), choices=7),
    "car": Target(car, (PrsmError,), choices=2),
    "addresses": Target(addresses, (LocalError,), choices=3),
    "muxer": Target(muxer),
    "bitswap": Target(bitswap),
    "log": Target(log, choices=2),
    "records": Target(records),
    "genesis": Target(documents.genesis, (LocalError,)),
}
