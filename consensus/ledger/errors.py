"""Why the ledger says no: to a person's transaction, to a block, to a node's own state."""

from typing import Final

from prsm.protocol.errors import LocalError
from prsm.protocol.transactions.results import Code


class BadNonce(LocalError):
    """A transaction that is not the sender's next one."""

    reason = "bad_nonce"


class FeeTooLow(LocalError):
    """A fee below what the network asks for a transaction of this size."""

    reason = "fee_too_low"


class Expired(LocalError):
    """A transaction after its `valid_until`, or valid for longer than the network allows."""

    reason = "expired"


class InsufficientFunds(LocalError):
    """A balance that does not cover what the transaction moves, or its fee."""

    reason = "insufficient_funds"


class EscrowState(LocalError):
    """A job or a hold that is not in the state the transaction needs."""

    reason = "escrow_state"


class BondState(LocalError):
    """An operator's bond that is not in the state the transaction needs."""

    reason = "bond_state"


class ModelHalted(LocalError):
    """An object the validators' operators have halted."""

    reason = "halted"


class Conflict(LocalError):
    """Something of that name or id is on the ledger already."""

    reason = "conflict"


class TransactionRefused(LocalError):
    """A transaction that would only cost its fee, for a reason without a class of its own."""

    reason = "transaction_refused"


class Diverged(LocalError):
    """A certified block this node's own state contradicts: stop, keep the data for inspection."""

    reason = "state_diverged"


class Failed(Exception):  # never leaves consensus/ledger
    """A rule's refusal while a transaction executes."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


_MEANING: Final[dict[Code, str]] = {
    Code.INSUFFICIENT_FUNDS: "the balance does not cover the amount",
    Code.UNKNOWN_ASSET: "no such asset; 0 is FTNS",
    Code.MODEL_EXISTS: "this manifest is registered already",
    Code.VERSION_EXISTS: "this name and version is registered already",
    Code.NAME_TAKEN: "the name belongs to another publisher",
    Code.BAD_NAME: "the name or version is not well formed",
    Code.UNKNOWN_PARENT: "a parent model is not registered",
    Code.MODEL_HALTED: "the model is halted",
    Code.JOB_EXISTS: "a job of this id exists",
    Code.BAD_UNITS: "a unit names a worker twice, a stage beyond its stages, or stands twice",
    Code.BAD_SHARES: "the shares and the treasury's part exceed the whole",
    Code.BAD_DEADLINE: "the deadline is past, too far ahead, or after the parent's",
    Code.PARENT_CLOSED: "the parent job does not exist or is closed",
    Code.NOT_REQUESTER: "only who opened the parent job may open a child",
    Code.TOO_DEEP: "jobs nest at most 5 deep",
    Code.BUDGET_EXCEEDED: "the parent's budget does not cover the child",
    Code.UNKNOWN_JOB: "no such job",
    Code.JOB_CLOSED: "the job is closed",
    Code.UNKNOWN_UNIT: "the job has no such unit",
    Code.UNIT_SETTLED: "the unit is settled already",
    Code.NOT_WORKER: "the sender is no worker of this unit",
    Code.ALREADY_COMMITTED: "the worker has committed this hash already",
    Code.BAD_RECEIPT: "a receipt is not well formed, or differs from what was locked",
    Code.BAD_RECEIPT_SIGNATURE: "a receipt's signature does not hold",
    Code.FOREIGN_RECEIPT: "a receipt of another network, job or unit, or by no worker of it",
    Code.WORKER_TWICE: "two receipts of one worker",
    Code.NOT_COMMITTED: "a receipt whose hash was not committed in an earlier block",
    Code.UNDECIDED: "too few workers agree on a batch; a further opinion is needed",
    Code.CHAIN_BROKEN: "the stage's inputs are not the outputs of the stage before it",
    Code.LEFT_OUT: "a worker of the unit is left out and may still show its receipt",
    Code.NO_PLEDGE: "the pledge has less than that free",
    Code.NOT_DRAWN: "this account, or this batch, was not drawn for the audit",
    Code.ALREADY_AUDITED: "another auditor was heard before",
    Code.NOT_SAMPLED: "the unit is compared or free: no audits, no cases",
    Code.CASE_OPEN: "a committee has not decided on the unit yet",
    Code.UNKNOWN_CASE: "no case is open on that unit",
    Code.NOT_JUROR: "the operator is not of the case's committee, or did not sign this",
    Code.NOT_SEALED: "the juror sealed another finding, or none",
    Code.BAD_FEED: "a feed of another unit, or one its requester did not sign",
    Code.TOO_EARLY: "its time has not come",
    Code.CHILD_OPEN: "a child job is still open",
    Code.BAD_EVIDENCE: "the two messages convict nobody",
    Code.ALREADY_PUNISHED: "the validator was punished for this height",
    Code.NOT_OPERATOR: "only operators of validators vote, and who was one when it began",
    Code.ALREADY_VOTED: "the operator has voted so already",
    Code.NOTHING_TO_VOTE: "it is halted already, or not halted",
    Code.HOLD_EXISTS: "the sender has opened a hold of these terms and this salt already",
    Code.BAD_CONDITION: "a condition is too large, asks for more than it lists, names a key twice, "
    "or its schedule is out of order",
    Code.UNKNOWN_HOLD: "no such hold",
    Code.HOLD_CLOSED: "the hold is empty",
    Code.UNKNOWN_BRANCH: "the hold has no such branch",
    Code.BAD_APPROVAL: "an approval's signature does not hold, or a key stands twice",
    Code.CONDITION_UNMET: "what was shown does not meet the branch's condition at this time",
    Code.NOTHING_VESTED: "nothing more has vested yet",
    Code.TOO_LATE: "its time is over: the vote has ended, or only a reclaim pays out",
    Code.NO_FALLBACK: "the hold has no fallback",
    Code.EVIDENCE_TOO_OLD: "the unbonding period of that epoch is over",
    Code.NOT_VALIDATOR: "the sender is no operator of a validator; join first",
    Code.ALREADY_VALIDATOR: "the operator has a validator, or one that has not left yet",
    Code.KEY_USED: "the consensus key was used before, by anybody; make a new one",
    Code.PEER_USED: "another operator's validator has this peer id",
    Code.BAD_POSSESSION: "the consensus key's proof of possession does not hold",
    Code.STAKE_TOO_SMALL: "the stake is below the network's smallest",
    Code.TOMBSTONED: "the operator was convicted and never validates again",
    Code.ROSTER_FULL: "the network has 128 operators, and none has left",
    Code.NOTHING_MATURED: "nothing has left the bond for the whole unbonding period",
    Code.NO_CHANGE: "it is so already",
    Code.UNKNOWN_PROPOSAL: "no such proposal",
    Code.PROPOSAL_EXISTS: "the sender has opened a proposal of these terms and this salt already",
    Code.PROPOSAL_CLOSED: "the proposal was decided",
    Code.NO_ELECTORS: "no member of the present epoch has the stake to vote",
    Code.UNKNOWN_PARAMETER: "no such parameter",
    Code.PARAMETER_FIXED: "no vote changes this parameter; it is fixed with the genesis",
    Code.BAD_VALUE: "a parameter stands twice, is out of its bounds, or contradicts another",
    Code.WRONG_CATEGORY: "proposals of this category do not decide that",
    Code.BAD_DELEGATE: "the delegate is the sender, no operator, or one of both passes votes on",
    Code.NOT_PUBLISHER: "only who registered the name may do that",
    Code.UNKNOWN_VERSION: "the name has no such version",
    Code.VERSION_YANKED: "the version was yanked; no channel may point to it",
    Code.BAD_CHANNEL: "a channel is 1 to 32 of a-z, 0-9 and -, a letter first",
    Code.TOO_MANY_CHANNELS: "a name has at most 16 channels",
    Code.TOO_MANY_VERSIONS: "a name has at most 1,024 versions",
    Code.UNKNOWN_MANIFEST: "no model or dataset of this manifest is registered",
    Code.DEAL_EXISTS: "the sender has opened a deal of these terms and this salt already",
    Code.BAD_TERMS: "a deal has a price or a grant, and a collateral of at least ten rounds' pay",
    Code.BAD_GRANT: "no enacted proposal grants that, its copies are all taken, or the holder "
    "has one",
    Code.UNKNOWN_DEAL: "no such deal",
    Code.DEAL_CLOSED: "the deal is over, or not open to that",
    Code.NOT_HOLDER: "the sender is not the party of the deal who may do that",
    Code.WRONG_ROUND: "an answer to another round than the present one",
    Code.ALREADY_PROVEN: "this round is answered already",
    Code.NOTHING_LAPSED: "no round that is over went without an answer",
    Code.NOT_AS_DRAWN: "the job is not the whole evaluation by workers who were drawn for it",
    Code.BAD_SCORE: "the score does not give the roots that were settled",
    Code.TOO_MANY_DRAWS: "this block makes no more draws; ask again in the next one",
}
assert set(_MEANING) == set(Code) - {Code.DONE}

_CLASSES: Final[dict[Code, type[LocalError]]] = {
    Code.INSUFFICIENT_FUNDS: InsufficientFunds,
    Code.BUDGET_EXCEEDED: InsufficientFunds,
    Code.MODEL_EXISTS: Conflict,
    Code.VERSION_EXISTS: Conflict,
    Code.NAME_TAKEN: Conflict,
    Code.JOB_EXISTS: Conflict,
    Code.MODEL_HALTED: ModelHalted,
    Code.PARENT_CLOSED: EscrowState,
    Code.UNKNOWN_JOB: EscrowState,
    Code.JOB_CLOSED: EscrowState,
    Code.UNIT_SETTLED: EscrowState,
    Code.ALREADY_COMMITTED: EscrowState,
    Code.NOT_COMMITTED: EscrowState,
    Code.UNDECIDED: EscrowState,
    Code.LEFT_OUT: EscrowState,
    Code.CASE_OPEN: EscrowState,
    Code.NO_PLEDGE: InsufficientFunds,
    Code.TOO_EARLY: EscrowState,
    Code.CHILD_OPEN: EscrowState,
    Code.HOLD_EXISTS: Conflict,
    Code.UNKNOWN_HOLD: EscrowState,
    Code.HOLD_CLOSED: EscrowState,
    Code.CONDITION_UNMET: EscrowState,
    Code.NOTHING_VESTED: EscrowState,
    Code.TOO_LATE: EscrowState,
    Code.NOT_VALIDATOR: BondState,
    Code.ALREADY_VALIDATOR: Conflict,
    Code.KEY_USED: Conflict,
    Code.PEER_USED: Conflict,
    Code.TOMBSTONED: BondState,
    Code.NOTHING_MATURED: BondState,
    Code.NO_CHANGE: BondState,
    Code.PROPOSAL_EXISTS: Conflict,
    Code.DEAL_EXISTS: Conflict,
    Code.UNKNOWN_DEAL: EscrowState,
    Code.DEAL_CLOSED: EscrowState,
    Code.WRONG_ROUND: EscrowState,
    Code.ALREADY_PROVEN: EscrowState,
    Code.NOTHING_LAPSED: EscrowState,
}


def meaning(code: Code) -> str:
    """Say in words why a transaction only cost its fee; empty for `DONE`."""
    return _MEANING.get(code, "")


def refusal(code: Code) -> LocalError:
    """The error a caller gets for a transaction that would end with this code."""
    cls = _CLASSES.get(code, TransactionRefused)
    return cls(f"{meaning(code)} ({code.name.lower()})")
