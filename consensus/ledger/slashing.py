"""A validator that signed what no honest one signs loses part of its bond, once for a height.

Judged by the set of the epoch the evidence names, so a rotated key does not hide its operator;
as long as that operator's money cannot have left. Source: docs/spec/ledger.md, "Evidence".
"""

from typing import Final

import msgspec

from prsm.consensus.ledger.accounts import add_totals, credit
from prsm.consensus.ledger.bonds import read_bond, save_bond, slashed
from prsm.consensus.ledger.context import Context, Effect, Punished
from prsm.consensus.ledger.epochs import epoch_record, epoch_set
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.records import DoubleVote, double_key
from prsm.consensus.ledger.state import State
from prsm.protocol.genesis import TREASURY
from prsm.protocol.transactions.evidence import Offence, offence_of
from prsm.protocol.transactions.payloads import Evidence
from prsm.protocol.transactions.results import Code, Payment
from prsm.protocol.validators import ValidatorSet

# These decide blocks, so they are what a split of the chain is made of.
TOMBSTONED: Final = (Offence.DOUBLE_COMMIT, Offence.HIDDEN_PREPARE)


def punish(state: State, payload: Evidence, context: Context) -> Effect:
    """Check evidence and move the penalty: a share to the reporter, the rest to the treasury.

    The reporter is the context's sender. An offender who reports himself gets that share back,
    so it stays small. A lesser offence at the same height, reported first, does not save him
    from the tombstone.
    """
    validators = _validators_of(state, payload.first.epoch, context)
    offence = offence_of(payload, validators, context.verifier, context.chain_id)
    if offence is None:
        raise Failed(Code.BAD_EVIDENCE)
    operator = validators.validators[payload.first.signer].operator
    height = payload.first.height
    is_fatal = offence in TOMBSTONED
    bond = read_bond(state, operator)
    assert bond is not None, "a validator without a bond"
    conviction = state.read(double_key(operator, height), DoubleVote)
    if conviction is not None and (bond.tombstoned or not is_fatal):
        raise Failed(Code.ALREADY_PUNISHED)
    bps = context.parameters.slash_bps if conviction is None else 0
    bond, penalty = slashed(bond, bps)
    if is_fatal:
        bond = msgspec.structs.replace(bond, tombstoned=True, target=0)
    reward = penalty * context.parameters.reporter_bps // 10_000
    save_bond(state, operator, bond)
    state.write(
        double_key(operator, height),
        DoubleVote(
            operator=operator,
            voted_height=height,
            kind=offence,
            penalty=penalty if conviction is None else conviction.penalty,
            height=context.height,
        ),
    )
    add_totals(state, bonded=-penalty)
    credit(state, context.sender, reward)
    credit(state, TREASURY, penalty - reward)
    return Effect(
        paid=(Payment(account=context.sender, amount=reward),) if reward else (),
        events=(Punished(operator, penalty),),
    )


def _validators_of(state: State, epoch: int, context: Context) -> ValidatorSet:
    """The set of an epoch whose members' money is still bonded."""
    found = epoch_set(state, epoch)
    if found is None:
        is_old = epoch < epoch_record(state).oldest
        raise Failed(Code.EVIDENCE_TOO_OLD if is_old else Code.BAD_EVIDENCE)
    if (
        found.ended_ms is not None
        and context.time_ms > found.ended_ms + context.parameters.unbonding_ms
    ):
        raise Failed(Code.EVIDENCE_TOO_OLD)
    return ValidatorSet(found.members)
