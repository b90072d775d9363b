"""The brake: validators' operators vote, by stake, that an object must not be executed."""

from prsm.consensus.ledger.context import DONE, Context, Effect, HaltChanged
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.records import HaltRecord, halt_key
from prsm.consensus.ledger.state import Reader, State, read
from prsm.protocol.transactions.payloads import Halt
from prsm.protocol.transactions.results import Code


def is_halted(reader: Reader, cid: bytes) -> bool:
    """Must every executor refuse this object?"""
    record = read(reader, halt_key(cid), HaltRecord)
    return record is not None and record.halted


def halt(state: State, payload: Halt, context: Context) -> Effect:
    """Count an operator's vote; at `halt_bps` of the stake the object changes its state."""
    members = context.validators.validators
    if all(member.operator != context.sender for member in members):
        raise Failed(Code.NOT_OPERATOR)
    record = state.read(halt_key(payload.cid), HaltRecord)
    halted = record is not None and record.halted
    votes = () if record is None else record.votes
    if payload.lift is not halted:
        raise Failed(Code.NOTHING_TO_VOTE)
    if context.sender in votes:
        raise Failed(Code.ALREADY_VOTED)
    votes = tuple(sorted((*votes, context.sender)))
    weight = sum(member.stake for member in members if member.operator in votes)
    passed = weight * 10_000 >= context.parameters.halt_bps * context.validators.total
    changed = HaltRecord(
        cid=payload.cid,
        halted=halted is not passed,
        votes=() if passed else votes,
        reason=payload.reason,
    )
    state.write(halt_key(payload.cid), changed)
    return Effect(events=(HaltChanged(payload.cid, changed.halted),)) if passed else DONE
