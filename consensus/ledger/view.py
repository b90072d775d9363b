"""Questions to a committed state; nothing here changes it."""

from collections.abc import Mapping
from contextlib import suppress
from typing import final

from prsm.consensus.ledger.accounts import balance, next_nonce, totals
from prsm.consensus.ledger.audit_records import (
    CASE,
    Case,
    Pledged,
    Pledger,
    Standing,
    case_key,
)
from prsm.consensus.ledger.audits import Sampling, may_settle, sampling
from prsm.consensus.ledger.bonds import read_bond, read_roster
from prsm.consensus.ledger.custody_records import DEAL, Deal, Round, deal_key
from prsm.consensus.ledger.epochs import epoch_record, epoch_set
from prsm.consensus.ledger.evaluations import (
    EVALUATION,
    SCORE,
    Evaluation,
    Score,
    read_evaluation,
)
from prsm.consensus.ledger.governance import delegation_of
from prsm.consensus.ledger.halts import is_halted
from prsm.consensus.ledger.parameters import parameters_of
from prsm.consensus.ledger.pledges import pledged, pledgers
from prsm.consensus.ledger.proposals import PROPOSAL, Proposal, proposal_key
from prsm.consensus.ledger.records import (
    ACCOUNT,
    COMMITTED,
    DOUBLE,
    FAULT,
    HELD,
    MODEL,
    Balance,
    Bond,
    Committed,
    DoubleVote,
    EpochRecord,
    EpochSet,
    Held,
    Job,
    KeyUse,
    Model,
    Pointer,
    Totals,
    WorkFault,
    committed_key,
    held_key,
    job_key,
    key_use_key,
    model_key,
    version_key,
)
from prsm.consensus.ledger.releases import (
    DATASET,
    VERSIONS,
    Dataset,
    Release,
    UnknownRelease,
    Versions,
    YankedRelease,
    channels_of,
    dataset_key,
    in_order,
    lookup,
    owner_of,
    release_of,
    resolve,
    versions_of,
)
from prsm.consensus.ledger.reputation import standing
from prsm.consensus.ledger.rounds import read_round
from prsm.consensus.ledger.state import R, read
from prsm.protocol.genesis import Parameters
from prsm.protocol.governance import Category
from prsm.protocol.ids import FTNS, Amount
from prsm.protocol.semver import Reference


@final
class View:
    """Reads of the state as of the last committed block; O(1) where not said otherwise."""

    def __init__(self, state: Mapping[bytes, bytes]) -> None:
        self._state = state

    def account(self, address: bytes, asset: int = FTNS) -> Amount:
        """Spendable micro-units."""
        return balance(self._state, address, asset)

    def nonce(self, address: bytes) -> int:
        """Nonce the account's next transaction must have."""
        return next_nonce(self._state, address)

    def bond(self, operator: bytes) -> Amount:
        """Micro-FTNS an operator has at stake."""
        record = self.membership(operator)
        return Amount(0 if record is None else record.stake)

    def membership(self, operator: bytes) -> Bond | None:
        """All of an operator's bond; None for an account that never had one."""
        return read_bond(self._state, operator)

    def roster(self) -> tuple[bytes, ...]:
        """Operators who are members of a set, or wait to become one."""
        return read_roster(self._state).operators

    def epoch(self) -> EpochRecord:
        """The epoch of the next height."""
        return epoch_record(self._state)

    def epoch_set(self, epoch: int) -> EpochSet | None:
        """Members of an epoch: of this one, the next, and the unbonding period's; else None."""
        return epoch_set(self._state, epoch)

    def parameters(self) -> Parameters:
        """What the next block runs under."""
        return parameters_of(self._state)

    def proposal(self, proposal: bytes) -> Proposal | None:
        """A decision, under way or taken."""
        return read(self._state, proposal_key(proposal), Proposal)

    def proposals(self) -> list[Proposal]:
        """All proposals, the oldest first; reads the whole state."""
        found = self._all(PROPOSAL, Proposal)
        return sorted(found, key=lambda each: (each.opened_height, each.proposal))

    def delegate(self, operator: bytes, category: Category) -> bytes | None:
        """Whose vote counts for an operator that does not vote in a category."""
        return delegation_of(self._state, operator, category)

    def key_owner(self, consensus: bytes) -> bytes | None:
        """The operator who brought a consensus key, ever."""
        record = read(self._state, key_use_key(consensus), KeyUse)
        return None if record is None else record.operator

    def job(self, job_id: bytes) -> Job | None:
        """A job, open or closed."""
        return read(self._state, job_key(job_id), Job)

    def hold(self, hold: bytes) -> Held | None:
        """Money under conditions, or what it was once it is empty."""
        return read(self._state, held_key(hold), Held)

    def holds(self, account: bytes) -> list[Held]:
        """Holds with money in them that name an account; reads the whole state."""
        return [held for held in self._all(HELD, Held) if held.left and held.names(account)]

    def deal(self, deal: bytes) -> Deal | None:
        """A file in somebody's keeping, or that was."""
        return read(self._state, deal_key(deal), Deal)

    def deals(self) -> list[Deal]:
        """All deals, the oldest first; reads the whole state."""
        return sorted(self._all(DEAL, Deal), key=lambda deal: (deal.opened_height, deal.deal))

    def custody_round(self) -> Round | None:
        """The present round of custody; None before the first deal was accepted."""
        return read_round(self._state)

    def committed(self, job: bytes, unit: int, worker: bytes) -> Committed | None:
        """A worker's commitment to a receipt of an unsettled unit."""
        return read(self._state, committed_key(job, unit, worker), Committed)

    def sampling(self, job_id: bytes, unit: int) -> Sampling | None:
        """Where a bound unit that nobody compares stands with its audit."""
        job = self.job(job_id)
        if job is None or unit >= len(job.units):
            return None
        return sampling(self._state, job, unit, self.parameters())

    def may_settle(self, job_id: bytes, unit: int, *, sender: bytes, time_ms: int) -> bool:
        """Would a settlement by this account be in time, as far as audits and cases go?"""
        job, found = self.job(job_id), self.sampling(job_id, unit)
        if job is None or unit >= len(job.units):
            return False
        if not job.is_sampled(unit):
            return True
        return found is not None and may_settle(found, job, sender=sender, time_ms=time_ms)

    def case(self, job_id: bytes, unit: int) -> Case | None:
        """The case that is open on a unit."""
        return read(self._state, case_key(job_id, unit), Case)

    def cases(self) -> list[tuple[bytes, int]]:
        """Jobs and units with an open case; reads all keys of the state."""
        return self._places(CASE)

    def bound(self) -> list[tuple[bytes, int]]:
        """Jobs and units somebody is bound for; reads all keys of the state."""
        return self._places(COMMITTED)

    def pledge(self, account: bytes) -> Pledged:
        """What an account has pledged, and how much of it is held."""
        return pledged(self._state, account)

    def pledgers(self) -> tuple[Pledger, ...]:
        """Who may be drawn as an auditor, ascending by account."""
        return pledgers(self._state)

    def standing(self, worker: bytes) -> Standing:
        """How a worker has done so far."""
        return standing(self._state, worker)

    def model(self, name: str, semver: str) -> Model | None:
        """The model registered under a name and version."""
        pointer = read(self._state, version_key(name, semver), Pointer)
        return None if pointer is None else self.model_by_cid(pointer.manifest)

    def model_by_cid(self, manifest: bytes) -> Model | None:
        """The model of a manifest's CID."""
        return read(self._state, model_key(manifest), Model)

    def models(self) -> list[Model]:
        """All models, in the order of their registration; reads the whole state."""
        found = self._all(MODEL, Model)
        return sorted(found, key=lambda model: (model.height, model.name, model.semver))

    def release(self, name: str, semver: str) -> Release | None:
        """An exact version of a model or dataset, yanked or not."""
        return lookup(self._state, name, semver)

    def release_by_cid(self, manifest: bytes) -> Release | None:
        """What name and version a manifest has."""
        return release_of(self._state, manifest)

    def releases(self, name: str) -> list[Release]:
        """All versions of a name, ascending by SemVer."""
        semvers = in_order(versions_of(self._state, name))
        found = (lookup(self._state, name, semver) for semver in semvers)
        return [release for release in found if release is not None]

    def owner(self, name: str) -> bytes | None:
        """Who may add to a name; None for a name nobody has."""
        return owner_of(self._state, name)

    def channels(self, name: str) -> dict[str, str]:
        """Versions by channel."""
        return channels_of(self._state, name)

    def resolve(self, text: str) -> Release:
        """The release that `name`, `name@1.2.0`, `name@^1` or `name@beta` means.

        Reads what the name has, never the whole state.

        Raises:
            BadVersion: no reference.
            UnknownRelease, YankedRelease: as `releases.resolve`.
        """
        return resolve(self._state, Reference.parse(text))

    def first_choices(self) -> list[Release]:
        """What each registered name means when it stands alone, by name; reads all keys.

        Names that mean nothing so are left out.
        """
        chosen = []
        for listed in self._all(VERSIONS, Versions):
            with suppress(UnknownRelease, YankedRelease):
                chosen.append(resolve(self._state, Reference(listed.name)))
        return sorted(chosen, key=lambda release: release.name)

    def dataset_by_cid(self, manifest: bytes) -> Dataset | None:
        """The dataset of a manifest's CID."""
        return read(self._state, dataset_key(manifest), Dataset)

    def datasets(self) -> list[Dataset]:
        """All datasets, in the order of their registration; reads the whole state."""
        found = self._all(DATASET, Dataset)
        return sorted(found, key=lambda each: (each.height, each.name, each.semver))

    def evaluation(self, job: bytes) -> Evaluation | None:
        """What evaluators were asked for under an id."""
        return read_evaluation(self._state, job)

    def evaluations(self, requester: bytes) -> list[Evaluation]:
        """What an account asked for; reads all keys of the state."""
        found = self._all(EVALUATION, Evaluation)
        return [each for each in found if each.requester == requester]

    def scores(self, model: bytes) -> list[Score]:
        """What evaluations of a model found, by dataset; reads all keys of the state."""
        return [score for score in self._all(SCORE + model, Score) if score.recorded]

    def faults(self, address: bytes) -> list[WorkFault]:
        """Wrong receipts of a worker; reads the whole state."""
        return self._all(FAULT + address, WorkFault)

    def double_votes(self, operator: bytes) -> list[DoubleVote]:
        """Convictions of a validator; reads the whole state."""
        return self._all(DOUBLE + operator, DoubleVote)

    def supply(self) -> Totals:
        """What was minted, and how much of it is locked, bonded, burnt."""
        return totals(self._state)

    def in_accounts(self) -> Amount:
        """Sum of all balances of FTNS, counted one by one; reads the whole state."""
        suffix = FTNS.to_bytes(4, "big")
        keys = (key for key in list(self._state) if key.startswith(ACCOUNT))
        found = (read(self._state, key, Balance) for key in keys if key.endswith(suffix))
        return Amount(sum(record.amount for record in found if record is not None))

    def halted(self, cid: bytes) -> bool:
        """Must every executor refuse this object?"""
        return is_halted(self._state, cid)

    def _places(self, letter: bytes) -> list[tuple[bytes, int]]:
        keys = sorted({key[:37] for key in list(self._state) if key[:1] == letter})
        return [(key[1:33], int.from_bytes(key[33:], "big")) for key in keys]

    def _all(self, prefix: bytes, cls: type[R]) -> list[R]:
        # One atomic copy of the keys: the ledger's thread may commit meanwhile.
        keys = sorted(key for key in list(self._state) if key.startswith(prefix))
        return [record for key in keys if (record := read(self._state, key, cls)) is not None]
