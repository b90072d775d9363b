"""Thousands of small jobs on the real rules of the ledger, with workers that lie, each for itself.

Knows: who lies and what is true. Every block is judged and applied by the real ledger, every
receipt is signed and committed. Nobody here colludes. Source: docs/spec/work.md, "Settlement"
and "Audits".
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from prsm.consensus.ledger.audit_records import Case
from prsm.consensus.ledger.records import Job
from prsm.consensus.ledger.tally import is_decided
from prsm.protocol.codec import Record
from prsm.protocol.receipts import WorkReceipt, receipt_hash, sign_receipt
from prsm.protocol.transactions.audits import (
    Audit,
    Finding,
    Judge,
    Pledge,
    Seal,
    sealed,
    sign_as_juror,
)
from prsm.protocol.transactions.payloads import Commit, Lock, Refund
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.testnet.chain import FTNS, Chain, signer_of, small_genesis
from prsm.testnet.jobs import Work, commit_of, lock_of, row_of, settle_of, unit_of

FIRST_WORKER: Final = 1_000
REQUESTERS: Final = tuple(range(64, 72))
ROWS: Final = (4, 4, 2)
PRICE: Final = 1_000
GROUP: Final = 40  # jobs that go through their blocks together
GRACE_MS: Final = 31_000
LIFE_MS: Final = 300_000
PLEDGED: Final = 500 * FTNS
FUNDS: Final = 1_000_000 * FTNS


class Lie(StrEnum):
    """What a liar does with a unit."""

    RANDOM = "random"  # roots of its own for everything
    ONE_BATCH = "one batch"  # the last batch is wrong
    STALE = "stale"  # what it computed for another job
    OTHER_INPUTS = "other inputs"  # it says it got something else
    COPIED_HASH = "copied hash"  # it commits to the hash of who came first
    LATE_COPY = "late copy"  # it commits to anything, then to what another has shown
    SILENT = "silent"  # it takes the unit and does nothing
    HIDDEN = "hidden"  # it commits, and shows nothing


@dataclass(frozen=True, slots=True)
class Terms:
    """How much of what.

    Attributes:
        jobs: all together, the same number for each share of liars.
        seed: of the dice.
        workers: accounts that may be named.
        percents: shares of liars among them.
        alone: of a hundred jobs, how many name one worker only.
    """

    jobs: int = 10_000
    seed: int = 1
    workers: int = 60
    percents: tuple[int, ...] = (1, 5, 10, 20, 33)
    alone: int = 20


@dataclass(slots=True)
class Count:
    """What came of the jobs of one kind, at one share of liars."""

    jobs: int = 0
    paid: int = 0  # units with a right result that somebody was paid for
    refunded: int = 0  # nobody was paid
    lies: int = 0  # units somebody lied in
    wrong_paid: int = 0  # receipts with a wrong batch that were paid
    honest_unpaid: int = 0  # right receipts of a paid unit that were not
    drawn: int = 0
    caught: int = 0  # lies a committee found
    slashed: int = 0  # micro-FTNS
    lied_for: int = 0  # micro-FTNS that wrong receipts earned


@dataclass(slots=True)
class Report:
    """What came of all of it; by share of liars, compared and alone."""

    compared: dict[int, Count] = field(default_factory=dict)
    alone: dict[int, Count] = field(default_factory=dict)
    honest_faults: int = 0
    honest_slashed: int = 0
    missing: int = 0  # micro-FTNS
    lies: Counter[str] = field(default_factory=Counter)
    blocks: int = 0
    transactions: int = 0

    def broken(self) -> list[str]:
        """What must not be."""
        wrong = sum(count.wrong_paid for count in self.compared.values())
        unpaid = sum(c.honest_unpaid for c in (*self.compared.values(), *self.alone.values()))
        gain = sum(count.lied_for - count.slashed for count in self.alone.values())
        return [
            what
            for what, is_so in (
                (f"{wrong} wrong results of compared work were paid", wrong > 0),
                (f"{unpaid} right results were not paid", unpaid > 0),
                (f"{self.honest_faults} faults of honest workers", self.honest_faults > 0),
                (f"{self.honest_slashed} honest workers lost their bond", self.honest_slashed > 0),
                (f"{self.missing} micro-FTNS are missing", self.missing != 0),
                (f"liars gained {gain} micro-FTNS where nobody compares", gain > 0),
            )
            if is_so
        ]


@dataclass(slots=True)
class _Task:
    """One job on its way."""

    number: int
    lock: Lock
    requester: int
    workers: tuple[int, ...]
    lies: dict[int, Lie]
    bound: dict[int, WorkReceipt] = field(default_factory=dict)  # what may be shown
    is_alone: bool = False

    @property
    def flow(self) -> str:
        return f"flow {self.number}"


class Market:
    """A chain, its workers, and which of them lie."""

    def __init__(self, terms: Terms) -> None:
        self._terms, self._dice = terms, random.Random(terms.seed)
        self._workers = tuple(range(FIRST_WORKER, FIRST_WORKER + terms.workers))
        accounts = (*REQUESTERS, *self._workers)
        genesis = small_genesis(balances=dict.fromkeys(accounts, FUNDS))
        self.chain = Chain(genesis)
        self._nonces: dict[int, int] = defaultdict(int)
        self._waiting: list[bytes] = []
        self._liars: frozenset[int] = frozenset()
        self._ever: set[int] = set()  # liars at any share
        self._count = 0
        self.report = Report()
        for worker in self._workers:
            self._send(worker, Pledge(PLEDGED))
        self._block()

    def run(self) -> Report:
        """All jobs; the money is counted at the end."""
        for percent in self._terms.percents:
            number = max(1, round(self._terms.workers * percent / 100))
            self._liars = frozenset(self._dice.sample(self._workers, number))
            self._ever |= self._liars
            self.report.compared[percent], self.report.alone[percent] = Count(), Count()
            left = self._terms.jobs // len(self._terms.percents)
            while left > 0:
                self._group(percent, min(GROUP, left))
                left -= GROUP
        self._count_faults()
        self._count_money()
        return self.report

    # -- blocks

    def _send(self, sender: int, payload: Record) -> None:
        self._waiting.append(self.chain.order(sender, payload, nonce=self._nonces[sender]))
        self._nonces[sender] += 1

    def _block(self, *, step_ms: int = 1_000) -> list[TxReceipt]:
        orders, self._waiting = self._waiting, []
        made = self.chain.add(*orders, step_ms=step_ms)
        del self.chain.made[:-1]
        self.report.blocks += 1
        self.report.transactions += len(orders)
        return made.receipts()

    def _group(self, percent: int, size: int) -> None:
        tasks = [self._task() for _ in range(size)]
        for task in tasks:
            self._send(task.requester, task.lock)
        assert all(receipt.code is Code.DONE for receipt in self._block())
        for task in tasks:
            for worker in task.workers[: 1 if task.is_alone else 2]:
                self._bind(task, worker)
        self._block()
        for task in tasks:
            if not task.is_alone and not self._is_decided(task):
                self._bind(task, task.workers[2])
        self._block()
        self._audit([task for task in tasks if task.is_alone], self.report.alone[percent])
        self._settle(tasks)
        self._copy(tasks)
        self._block()
        self._settle([task for task in tasks if not self._is_over(task)], step_ms=GRACE_MS)
        self._judge([task for task in tasks if task.is_alone], self.report.alone[percent])
        self._settle([task for task in tasks if not self._is_over(task)], step_ms=LIFE_MS)
        for task in tasks:
            if not self._is_over(task):
                self._send(task.requester, Refund(task.lock.job))
        self._block(step_ms=LIFE_MS)
        for task in tasks:
            self._note(
                task, (self.report.alone if task.is_alone else self.report.compared)[percent]
            )

    # -- what people do

    def _task(self) -> _Task:
        self._count += 1
        is_alone = self._dice.randrange(100) < self._terms.alone
        workers = tuple(self._dice.sample(self._workers, 1 if is_alone else 3))
        unit = unit_of(workers=workers, price=PRICE, span=(0, len(ROWS)))
        lock = lock_of(
            f"small {self._count}",
            unit,
            rows=ROWS,
            deadline_ms=self.chain.ledger.tip.time_ms + LIFE_MS,
        )
        every = list(Lie)
        lies = {worker: self._dice.choice(every) for worker in workers if worker in self._liars}
        task = _Task(self._count, lock, self._dice.choice(REQUESTERS), workers, lies)
        task.is_alone = is_alone
        return task

    def _bind(self, task: _Task, worker: int) -> None:
        """A worker does its unit, its way, and commits."""
        lie = task.lies.get(worker)
        self.report.lies.update([lie.value] if lie else [])
        if lie is Lie.SILENT:
            return
        receipt = self._receipt(task, worker, lie)
        digest = receipt_hash(receipt)
        if lie is Lie.COPIED_HASH and task.bound:
            digest = receipt_hash(next(iter(task.bound.values())))
        self._send(worker, Commit(rows=(row_of(task.lock, receipt, digest),)))
        waits = {Lie.HIDDEN, Lie.COPIED_HASH} | (set() if task.is_alone else {Lie.LATE_COPY})
        if lie not in waits:
            task.bound[worker] = receipt

    def _receipt(self, task: _Task, worker: int, lie: Lie | None) -> WorkReceipt:
        word = f"{worker} of {task.number}"
        everywhere = dict.fromkeys(range(len(ROWS)), word)
        match lie:
            case None:
                work = Work(worker, flow=task.flow)
            case Lie.ONE_BATCH:
                work = Work(worker, {len(ROWS) - 1: word}, flow=task.flow)
            case Lie.OTHER_INPUTS:
                work = Work(worker, flow=word)
            case _:
                work = Work(worker, everywhere, flow=task.flow)
        return work.receipt(self.chain, task.lock)

    def _copy(self, tasks: Sequence[_Task]) -> None:
        """Who waited to see another's receipt commits to the same roots now, and settles."""
        for task in tasks:
            for worker, lie in task.lies.items():
                if lie is not Lie.LATE_COPY or task.is_alone or self._is_over(task):
                    continue
                shown = list(task.bound.values())
                key = signer_of(worker)
                copied = msgspec.structs.replace(shown[0], worker=key.public_key) if shown else None
                if copied is not None:
                    copied = sign_receipt(copied, key)
                    self._send(worker, commit_of(task.lock, copied))
                    self._send(worker, settle_of(task.lock, 0, [*shown[:2], copied]))

    def _audit(self, tasks: Sequence[_Task], count: Count) -> None:
        """The first drawn auditor lies or is silent if it is a liar; then an honest one speaks."""
        named: dict[bytes, int] = {signer_of(w).public_key: w for w in self._workers}
        for task in tasks:
            found = self.chain.ledger.view.sampling(task.lock.job, 0)
            if found is None or found.draw is None or found.batch is None:
                continue
            count.drawn += 1
            auditors = [named[account] for account in found.draw.auditors]
            honest = [one for one in auditors if one not in self._liars]
            if auditors[0] in self._liars and self._dice.random() < 0.5:
                self._say(task, auditors[0], Lie.RANDOM, found.batch)
            elif honest:
                self._say(task, honest[0], None, found.batch)
        self._block()

    def _say(self, task: _Task, auditor: int, lie: Lie | None, batch: int) -> None:
        word = task.flow if lie is None else f"{auditor} of {task.number}"
        one = Work(auditor, {batch: word}, flow=task.flow).batch(task.lock, 0, batch)
        self._send(
            auditor,
            Audit(task.lock.job, 0, batch, one.input_root, one.side_root, one.output_root),
        )

    def _settle(self, tasks: Sequence[_Task], *, step_ms: int = 1_000) -> None:
        for task in tasks:
            receipts = list(task.bound.values())
            if self._is_decided(task):
                self._send(task.requester, settle_of(task.lock, 0, receipts))
        self._block(step_ms=step_ms)

    def _judge(self, tasks: Sequence[_Task], count: Count) -> None:
        """Four honest jurors compute the batch of each open case again, seal and show it."""
        view = self.chain.ledger.view
        for task in tasks:
            case = view.case(task.lock.job, 0)
            if case is None:
                continue
            one = Work(0, flow=task.flow).batch(task.lock, 0, case.batch.index)
            is_right = one.stated == case.batch.stated
            finding = Finding.EQUAL if is_right else Finding.DIFFERENT
            if not is_right:
                bound = view.committed(task.lock.job, 0, case.worker)
                assert bound is not None
                count.caught += 1
                count.slashed += bound.bond
                self.report.honest_slashed += not task.lies
            found = [self._found(task, case, number, finding) for number in range(4)]
            for number, judge in enumerate(found):
                seal = Seal(task.lock.job, 0, judge.operator, sealed(judge), bytes(64))
                signed = sign_as_juror(
                    seal,
                    signer_of(number),
                    chain_id=self.chain.genesis.chain_id,
                    receipt_hash=case.receipt_hash,
                )
                self._send(task.requester, signed)
            for judge in found:
                self._send(task.requester, judge)
        self._block()

    def _found(self, task: _Task, case: Case, number: int, finding: Finding) -> Judge:
        operator = signer_of(32 + number).public_key
        return sign_as_juror(
            Judge(task.lock.job, 0, operator, finding, bytes(64)),
            signer_of(number),
            chain_id=self.chain.genesis.chain_id,
            receipt_hash=case.receipt_hash,
        )

    # -- what came of it

    def _is_decided(self, task: _Task) -> bool:
        receipts = list(task.bound.values())
        return is_decided(receipts, task.lock.units[0], is_open_ended=False)

    def _job(self, task: _Task) -> Job:
        job = self.chain.ledger.view.job(task.lock.job)
        assert job is not None
        return job

    def _is_over(self, task: _Task) -> bool:
        return not self._job(task).is_open

    def _note(self, task: _Task, count: Count) -> None:
        count.jobs += 1
        count.lies += bool(task.lies)
        verdict = self._job(task).verdicts[0]
        if verdict is None or not any(opinion.paid for opinion in verdict.opinions):
            count.refunded += 1
            return
        count.paid += 1
        paid = {opinion.worker: opinion.paid for opinion in verdict.opinions}
        for worker, receipt in task.bound.items():
            is_right = all(
                Work(worker, flow=task.flow).batch(task.lock, 0, batch.index) == batch
                for batch in receipt.batches
            )
            amount = paid.get(signer_of(worker).public_key, 0)
            count.wrong_paid += not is_right and amount > 0
            count.lied_for += 0 if is_right else amount
            count.honest_unpaid += is_right and amount == 0

    def _count_money(self) -> None:
        """All that was minted is somewhere; each block was held to that, this counts it anew."""
        view = self.chain.ledger.view
        supply = view.supply()
        found = view.in_accounts() + supply.locked + supply.bonded + supply.burnt
        self.report.missing = self.chain.genesis.minted - found

    def _count_faults(self) -> None:
        honest = set(self._workers) - self._ever
        faults = (self.chain.ledger.view.faults(signer_of(w).public_key) for w in honest)
        self.report.honest_faults = sum(map(len, faults))
