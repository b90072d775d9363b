"""A validator that signed two things of one height and view loses part of its bond, once."""

from prsm.consensus.ledger.accounts import add_totals, credit
from prsm.consensus.ledger.context import Context, Effect, Punished
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.records import Bond, DoubleVote, bond_key, double_key
from prsm.consensus.ledger.state import State
from prsm.protocol.genesis import TREASURY
from prsm.protocol.transactions.evidence import is_double
from prsm.protocol.transactions.payloads import Evidence
from prsm.protocol.transactions.results import Code, Payment


def punish(state: State, payload: Evidence, context: Context) -> Effect:
    """Check evidence and move the penalty: a share to the reporter, the rest to the treasury.

    The reporter is the context's sender. An offender who reports himself gets that share back,
    so it stays small.
    """
    if not is_double(payload, context.validators, context.verifier, context.chain_id):
        raise Failed(Code.BAD_EVIDENCE)
    operator = context.validators.validators[payload.first.signer].operator
    key = double_key(operator, payload.first.height)
    if state.get(key) is not None:
        raise Failed(Code.ALREADY_PUNISHED)
    bond = state.read(bond_key(operator), Bond)
    assert bond is not None, "a validator without a bond"
    penalty = bond.stake * context.parameters.slash_bps // 10_000
    reward = penalty * context.parameters.reporter_bps // 10_000
    state.write(bond_key(operator), Bond(stake=bond.stake - penalty))
    state.write(
        key,
        DoubleVote(
            operator=operator,
            voted_height=payload.first.height,
            kind=payload.first.kind,
            penalty=penalty,
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
