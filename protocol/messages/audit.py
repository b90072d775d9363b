"""Checking work: what went into a batch of somebody's unit, and what came out of it.

`AskInputs` is a call on bulk, answered only to accounts the ledger drew to check that unit. What is
answered is checked by the asker against roots that are signed or on the ledger.
Source: docs/spec/work.md, "Audits".
"""

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import U32, Bytes32, Signature
from prsm.protocol.limits import TENSORS_PER_MESSAGE_MAX
from prsm.protocol.messages.work import CHUNKS_MAX
from prsm.protocol.signing import RECORD_TAG
from prsm.protocol.tensors import TensorHead

_Chunk = Annotated[int, msgspec.Meta(ge=0, lt=CHUNKS_MAX)]
_Chunks = Annotated[int, msgspec.Meta(ge=1, le=CHUNKS_MAX)]
_Heads = Annotated[tuple[TensorHead, ...], msgspec.Meta(max_length=TENSORS_PER_MESSAGE_MAX)]


class Side(IntEnum):
    """Which tensors of a batch."""

    IN = 1  # what the requester fed, with its word for it
    OUT = 2  # what the worker answered


class AskInputs(Record, frozen=True):
    """Call: one chunk of one side of a batch; requester and worker both have it."""

    job: Bytes32
    unit: U32
    batch: U32
    chunk: _Chunk
    side: Side
    worker: Bytes32  # whose work is checked
    asker: Bytes32
    signature: Signature


class InputChunk(Record, frozen=True):
    """Answer to `AskInputs`, cut as `Push`; chunk 0 alone names the tensors and has the feed."""

    chunk: _Chunk
    chunks: _Chunks
    tensors: _Heads
    feed: Signature  # of the batch's `Feed`; zeros where there is none


def ask_inputs_statement(ask: AskInputs, *, chain_id: bytes, asker_peer: str) -> bytes:
    """Bytes the drawn account signs: bound to the network and its own peer id."""
    fields = msgspec.structs.astuple(ask)[:-1]
    return RECORD_TAG + encode(("work.ask_inputs", chain_id, asker_peer, *fields))


KINDS: Final[dict[int, type[Record]]] = {
    81: AskInputs,
    82: InputChunk,
}
