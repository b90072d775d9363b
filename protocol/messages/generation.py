"""Generation between a requester and a worker: open a session, step, finish.

`OpenSession` and `FinishSession` are calls on ctl, `AskStep` is a call on bulk with the tensor in
the tail both ways, `EndSession` is one-way on bulk. Every step names where it starts. A session
belongs to the peer that opened it, and to its job and unit. Source: docs/spec/work.md,
"Generation".
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.generating import Sampling, StepSizes
from prsm.protocol.ids import U32, Bytes32, Signature, UInt
from prsm.protocol.limits import WORK_BATCHES_MAX
from prsm.protocol.signing import RECORD_TAG
from prsm.protocol.tensors import TensorHead


class OpenSession(Record, frozen=True):
    """Call: will you do this unit of a locked job of kind GENERATE? Signed by who locked it."""

    job: Bytes32
    unit: U32
    worker: Bytes32  # who is asked
    positions: Annotated[int, msgspec.Meta(ge=1, le=2**20)]  # at most; the cache is set aside
    sampling: Sampling | None  # for the last stage alone
    signature: Signature


class SessionOpened(Record, frozen=True):
    """Answer to `OpenSession`: the shard is loaded and there is room for the cache."""

    job: Bytes32
    unit: U32
    class_id: Bytes32
    position: U32  # held already, of a session this peer opened before
    idle_ms: UInt  # forgotten after so long without a step
    load_ms: UInt


class AskStep(Record, frozen=True):
    """Call: steps of a session, one after the other; the carried tensor is the raw tail.

    A decoding step has one size, 1; a prompt has the sizes of its pieces, a replay those of all
    steps so far.
    """

    job: Bytes32
    unit: U32
    start_position: U32
    sizes: StepSizes
    is_history: bool  # a replay in other steps than the first time: part of no batch, for free work
    tensor: TensorHead
    feeds: Annotated[
        tuple[Signature, ...], msgspec.Meta(max_length=WORK_BATCHES_MAX)
    ]  # of the batches that these steps complete, in their order


class StepDone(Record, frozen=True):
    """Answer to `AskStep`: the cut tensor, or of the last stage the tokens; raw in the tail."""

    job: Bytes32
    unit: U32
    position: U32  # held now
    tensor: TensorHead
    compute_us: UInt


class EndSession(Record, frozen=True):
    """The requester needs no more: what runs is stopped, the cache forgotten, receipts are kept."""

    job: Bytes32
    unit: U32


class FinishSession(Record, frozen=True):
    """Call: show the receipt (`ShownReceipt`); answered once its hash is on the ledger."""

    job: Bytes32
    unit: U32
    feeds: Annotated[tuple[Signature, ...], msgspec.Meta(max_length=1)]  # of the last, short batch


def session_statement(opened: OpenSession, *, chain_id: bytes, requester_peer: str) -> bytes:
    """Bytes the account that locked the job signs: bound to its own peer id."""
    fields = msgspec.structs.astuple(opened)[:-1]
    return RECORD_TAG + encode(("work.session", chain_id, requester_peer, *fields))


KINDS: Final[dict[int, type[Record]]] = {
    170: OpenSession,
    171: SessionOpened,
    172: AskStep,
    173: StepDone,
    174: EndSession,
    175: FinishSession,
}
