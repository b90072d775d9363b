"""Work between a requester and a worker: capacity, opening, tensors both ways, receipts.

`AskCapacity`, `Open`, `Finish` and `AskReceipt` are calls on ctl; `Push`, `Result`, `WorkFailed`
and `CloseWork` are one-way on bulk, so that they keep their order. What a worker may do for
whom stands in the ledger's lock, not here. Source: docs/spec/work.md, "Messages".
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import U32, Bytes32, Signature, UInt
from prsm.protocol.limits import (
    TENSOR_BYTES_MAX,
    TENSOR_CHUNK_BYTES_MAX,
    TENSORS_PER_MESSAGE_MAX,
    TEXT_BYTES_MAX,
    WORK_BATCHES_MAX,
    WORK_STAGES_MAX,
)
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.signing import RECORD_TAG
from prsm.protocol.tensors import TensorHead

CAPACITY_MODELS_MAX: Final = 256
CAPACITY_CLASSES_MAX: Final = 256
# All tensors of one micro-batch together; as many as one tensor may have alone.
BATCH_BYTES_MAX: Final = TENSOR_BYTES_MAX
CHUNKS_MAX: Final = BATCH_BYTES_MAX // TENSOR_CHUNK_BYTES_MAX
assert CHUNKS_MAX * TENSOR_CHUNK_BYTES_MAX == BATCH_BYTES_MAX

_Batch = Annotated[int, msgspec.Meta(ge=0, lt=WORK_BATCHES_MAX)]
_Chunk = Annotated[int, msgspec.Meta(ge=0, lt=CHUNKS_MAX)]
_Chunks = Annotated[int, msgspec.Meta(ge=1, le=CHUNKS_MAX)]
_Heads = Annotated[tuple[TensorHead, ...], msgspec.Meta(max_length=TENSORS_PER_MESSAGE_MAX)]
_Nonce = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Text = Annotated[str, msgspec.Meta(max_length=256)]


class AskCapacity(Record, frozen=True):
    """Call: what can you do now, and for how much? The nonce makes the answer fresh."""

    nonce: _Nonce


class ShardClass(Record, frozen=True):
    """A shard that is loaded, and the determinism class it proved here."""

    model: CidBytes
    stages: Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)]
    stage: Annotated[int, msgspec.Meta(ge=0, lt=WORK_STAGES_MAX)]
    class_id: Bytes32


class StageTime(Record, frozen=True):
    """How long a row of a shard takes its worker, as it measured."""

    model: CidBytes
    stages: Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)]
    stage: Annotated[int, msgspec.Meta(ge=0, lt=WORK_STAGES_MAX)]
    row_us: UInt


class Capacity(Record, frozen=True):
    """Answer to `AskCapacity`, signed by the payment key: nobody answers for another's account."""

    worker: Bytes32  # payment key
    price_per_row: UInt  # micro-FTNS asked for a row of one stage
    slots_free: U32  # units that would be accepted now
    runtime: _Text
    models: Annotated[tuple[CidBytes, ...], msgspec.Meta(max_length=CAPACITY_MODELS_MAX)]
    classes: Annotated[tuple[ShardClass, ...], msgspec.Meta(max_length=CAPACITY_CLASSES_MAX)]
    memory_bytes: UInt  # one child may take; 0: not said
    waiting_ms: UInt  # work that waits here
    times: Annotated[tuple[StageTime, ...], msgspec.Meta(max_length=CAPACITY_CLASSES_MAX)]
    signature: Signature


class Open(Record, frozen=True):
    """Call: will you do this unit of a locked job? Signed by the account that locked it.

    Model, stage, price, batch plan and deadline are those of the lock. Without the signature
    anybody who reads the ledger could occupy a unit with inputs of his own.
    """

    job: Bytes32
    unit: U32
    worker: Bytes32  # who is asked
    signature: Signature


class Accepted(Record, frozen=True):
    """Answer to `Open`: the shard is loaded; no tensors travel before this."""

    job: Bytes32
    unit: U32
    credit: Annotated[int, msgspec.Meta(ge=1, le=64)]  # micro-batches without an answer
    class_id: Bytes32
    load_ms: UInt


class Push(Record, frozen=True):
    """One chunk of the inputs of a micro-batch; its bytes are the raw tail.

    Chunk 0 names the tensors in the order of the shard's io table and has the signature of the
    batch's `Feed`; later chunks name none, and have zeros. Every chunk but the last has exactly
    `TENSOR_CHUNK_BYTES_MAX` bytes.
    """

    job: Bytes32
    unit: U32
    batch: _Batch
    chunk: _Chunk
    chunks: _Chunks
    tensors: _Heads
    feed: Signature


class Result(Record, frozen=True):
    """One chunk of the outputs of a micro-batch, cut as `Push`; gives one credit back."""

    job: Bytes32
    unit: U32
    batch: _Batch
    chunk: _Chunk
    chunks: _Chunks
    tensors: _Heads
    input_root: Bytes32
    side_root: Bytes32
    output_root: Bytes32
    compute_ms: UInt


class WorkFailed(Record, frozen=True):
    """The worker cannot do a micro-batch: a typed reason; gives its credit back."""

    job: Bytes32
    unit: U32
    batch: _Batch
    reason: Annotated[str, msgspec.Meta(max_length=64)]
    what: Annotated[str, msgspec.Meta(max_length=TEXT_BYTES_MAX)]


class Finish(Record, frozen=True):
    """Call: show the receipt of a unit; answered once its hash is on the ledger."""

    job: Bytes32
    unit: U32


class ShownReceipt(Record, frozen=True):
    """Answer to `Finish` and `AskReceipt`: canonical bytes of a signed `WorkReceipt`."""

    receipt: bytes


class AskReceipt(Record, frozen=True):
    """Call between workers of one unit: show your receipt, here is the hash of mine.

    Answered only when both hashes are on the ledger, so that no root can be copied.
    """

    job: Bytes32
    unit: U32
    worker: Bytes32  # whose receipt is asked for
    asker: Bytes32
    receipt_hash: Bytes32  # of the asker's own committed receipt
    signature: Signature


class CloseWork(Record, frozen=True):
    """The requester needs no more of a unit; what is queued is dropped, receipts are kept."""

    job: Bytes32
    unit: U32


def capacity_statement(capacity: Capacity, *, chain_id: bytes, peer: str, nonce: bytes) -> bytes:
    """Bytes a worker signs in its answer: bound to the network, its peer id and the question."""
    fields = msgspec.structs.astuple(capacity)[:-1]
    return RECORD_TAG + encode(("work.capacity", chain_id, peer, nonce, *fields))


def open_statement(opened: Open, *, chain_id: bytes, requester_peer: str) -> bytes:
    """Bytes the account that locked the job signs: bound to its own peer id."""
    fields = msgspec.structs.astuple(opened)[:-1]
    return RECORD_TAG + encode(("work.open", chain_id, requester_peer, *fields))


def ask_receipt_statement(ask: AskReceipt, *, chain_id: bytes, asker_peer: str) -> bytes:
    """Bytes a co-worker signs when it asks for a receipt."""
    fields = msgspec.structs.astuple(ask)[:-1]
    return RECORD_TAG + encode(("work.ask_receipt", chain_id, asker_peer, *fields))


KINDS: Final[dict[int, type[Record]]] = {
    70: AskCapacity,
    71: Capacity,
    72: Open,
    73: Accepted,
    74: Push,
    75: Result,
    76: WorkFailed,
    77: Finish,
    78: ShownReceipt,
    79: AskReceipt,
    80: CloseWork,
}
