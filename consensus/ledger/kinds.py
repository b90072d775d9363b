"""Transaction kind -> rule: a new kind is a payload, a pure module, and one line here."""

from collections.abc import Callable
from typing import Final, TypeVar

from prsm.consensus.ledger.accounts import transfer
from prsm.consensus.ledger.audits import audit
from prsm.consensus.ledger.cases import dispute, judge
from prsm.consensus.ledger.conditions import claim, hold, reclaim
from prsm.consensus.ledger.context import Context, Effect
from prsm.consensus.ledger.custody import accept, entrust, lapse, prove, release
from prsm.consensus.ledger.escrow import lock, refund
from prsm.consensus.ledger.evaluations import draw, record_score
from prsm.consensus.ledger.governance import ballot, delegate, enact, propose
from prsm.consensus.ledger.halts import halt
from prsm.consensus.ledger.membership import join, leave, rotate, stake, withdraw
from prsm.consensus.ledger.pledges import pledge, redeem
from prsm.consensus.ledger.registry import (
    register_dataset,
    register_model,
    set_card,
    set_channel,
    yank,
)
from prsm.consensus.ledger.seals import seal
from prsm.consensus.ledger.slashing import punish
from prsm.consensus.ledger.state import State
from prsm.consensus.ledger.work import commit, settle
from prsm.protocol.codec import Record
from prsm.protocol.transactions import (
    audits,
    conditions,
    custody,
    evaluations,
    governance,
    membership,
    payloads,
    registry,
)

P = TypeVar("P", bound=Record)
Rule = Callable[[State, Record, Context], Effect]


def _rule(cls: type[P], apply: Callable[[State, P, Context], Effect]) -> tuple[int, Rule]:
    def run(state: State, payload: Record, context: Context) -> Effect:
        assert isinstance(payload, cls)
        return apply(state, payload, context)

    return payloads.PAYLOADS.number(cls), run


RULES: Final[dict[int, Rule]] = dict(
    (
        _rule(payloads.Transfer, transfer),
        _rule(payloads.RegisterModel, register_model),
        _rule(payloads.Lock, lock),
        _rule(payloads.Commit, commit),
        _rule(payloads.Settle, settle),
        _rule(payloads.Refund, refund),
        _rule(audits.Pledge, pledge),
        _rule(audits.Redeem, redeem),
        _rule(audits.Audit, audit),
        _rule(audits.Dispute, dispute),
        _rule(audits.Judge, judge),
        _rule(audits.Seal, seal),
        _rule(payloads.Evidence, punish),
        _rule(payloads.Halt, halt),
        _rule(conditions.Hold, hold),
        _rule(conditions.Claim, claim),
        _rule(conditions.Reclaim, reclaim),
        _rule(membership.Join, join),
        _rule(membership.Stake, stake),
        _rule(membership.Leave, leave),
        _rule(membership.Rotate, rotate),
        _rule(membership.Withdraw, withdraw),
        _rule(governance.Propose, propose),
        _rule(governance.Ballot, ballot),
        _rule(governance.Delegate, delegate),
        _rule(governance.Enact, enact),
        _rule(registry.SetChannel, set_channel),
        _rule(registry.Yank, yank),
        _rule(registry.RegisterDataset, register_dataset),
        _rule(registry.SetCard, set_card),
        _rule(custody.Entrust, entrust),
        _rule(custody.Accept, accept),
        _rule(custody.Prove, prove),
        _rule(custody.Lapse, lapse),
        _rule(custody.Release, release),
        _rule(evaluations.RecordScore, record_score),
        _rule(evaluations.Draw, draw),
    )
)
assert sorted(RULES) == [number for number, _ in payloads.PAYLOADS.items()]
