"""Random orders of every kind: money is conserved, nonces are strict, effects happen once.

The model knows balances of a few accounts only by what receipts say; the ledger's own invariant
runs in every block, and here the whole state is summed again by other code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.invariants import assert_sound
from prsm.consensus.ledger.records import JobStatus
from prsm.protocol.codec import Record, decode_value, encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.messages.consensus import SignedMessage, sign_message
from prsm.protocol.signing import Kind, sha256
from prsm.protocol.transactions.conditions import (
    After,
    AtLeast,
    Branch,
    Claim,
    Fallback,
    HashLock,
    Hold,
    Predicate,
    Reclaim,
    Signers,
    Vesting,
    approve,
    hold_id,
)
from prsm.protocol.transactions.evidence import evidence_of
from prsm.protocol.transactions.payloads import Halt, Lock, Refund, RegisterModel, Share, Transfer
from prsm.protocol.transactions.registry import SetChannel, Yank
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import (
    MODEL,
    REQUESTER,
    WORKERS,
    Work,
    commit_of,
    lock_of,
    settle_of,
    unit_of,
)

ACCOUNTS: Final = st.sampled_from((32, 64, 65, 66, 67, 68, 90))
AMOUNTS: Final = st.sampled_from((1, 10_000, 900_000_000, 10**15))
LIES: Final = st.dictionaries(st.integers(0, 2), st.sampled_from("xy"), max_size=2)
SECRET: Final = b"told later"
KEYS: Final = (70, 71, 72)
WITNESSES: Final = st.sets(st.sampled_from((*KEYS, 73)))
# now - start, is the secret shown, how many of the keys approve -> is the condition met
Oracle = Callable[[int, bool, int], bool]


def shapes(start_ms: int) -> dict[str, tuple[Predicate, Oracle]]:
    """Conditions beside the same said without them."""
    late = After(start_ms + 8_000)
    secret = HashLock(sha256(SECRET))
    two = Signers(2, tuple(signer_of(number).public_key for number in KEYS))
    return {
        "late": (late, lambda now, _told, _keys: now >= 8_000),
        "secret": (secret, lambda _now, told, _keys: told),
        "two": (two, lambda _now, _told, keys: keys >= 2),
        "both": (AtLeast(2, (late, two)), lambda now, _told, keys: now >= 8_000 and keys >= 2),
        "either": (
            AtLeast(2, (AtLeast(1, (secret, two)), After(0))),
            lambda _now, told, keys: told or keys >= 2,
        ),
    }


@dataclass
class Modelled:
    """What a hold must do, kept without looking at the ledger."""

    start_ms: int
    oracles: list[Oracle]
    vests: list[bool]
    fallback_ms: int | None
    amount: int
    left: int

    def claimed(self, branch: int, now: int, told: bool, keys: int) -> tuple[Code, int]:
        """Code and amount of a claim so long after the start."""
        if not self.left:
            return Code.HOLD_CLOSED, 0
        if self.fallback_ms is not None and now >= self.fallback_ms:
            return Code.TOO_LATE, 0
        if not self.oracles[branch](now, told, keys):
            return Code.CONDITION_UNMET, 0
        if not self.vests[branch]:
            return Code.DONE, self.left
        whole = 0 if now < 4_000 else min(self.amount, self.amount * now // 30_000)
        due = whole - (self.amount - self.left)
        return (Code.DONE, due) if due > 0 else (Code.NOTHING_VESTED, 0)

    def reclaimed(self, now: int) -> tuple[Code, int]:
        """The same of a reclaim."""
        if not self.left:
            return Code.HOLD_CLOSED, 0
        if self.fallback_ms is None:
            return Code.NO_FALLBACK, 0
        return (Code.DONE, self.left) if now >= self.fallback_ms else (Code.TOO_EARLY, 0)


class LedgerMachine(RuleBasedStateMachine):
    """One chain, and a second ledger that only applies its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = Chain(small_genesis())
        self.follower = Ledger(self.chain.genesis, {}, verifier=Ed25519Verifier(), tip=None)
        self.nonces: dict[bytes, int] = {}
        self.locks: list[Lock] = []
        self.closed: set[bytes] = set()
        self.seen: list[bytes] = []
        self.punished: set[int] = set()
        self.holds: dict[bytes, Modelled] = {}

    def send(self, sender: int, payload: Record, *, step_ms: int = 1_000) -> TxReceipt | None:
        raw = self.chain.order(sender, payload)
        block = self.chain.propose(raw, step_ms=step_ms)
        if self.chain.ledger.judge(block, wall_ms=None) is not None:
            # The only lawful reason here: the sender cannot pay the fee.
            address = signer_of(sender).public_key
            assert self.chain.ledger.view.account(address) < self.chain.order_fee(payload)
            return None
        made = self.chain.add(raw, step_ms=step_ms)
        self.follower.commit(self.follower.apply(made.block))
        address = signer_of(sender).public_key
        self.nonces[address] = self.nonces.get(address, 0) + 1
        self.seen.append(raw)
        return made.receipts()[0]

    @rule(sender=ACCOUNTS, to=ACCOUNTS, amount=AMOUNTS)
    def transfer(self, sender: int, to: int, amount: int) -> None:
        payload = Transfer(asset=0, to=signer_of(to).public_key, amount=amount, memo=b"")
        self.send(sender, payload)

    @rule(sender=ACCOUNTS, number=st.integers(0, 3))
    def register(self, sender: int, number: int) -> None:
        payload = RegisterModel(
            manifest=MODEL[:-1] + bytes([number]),
            name=f"m{number % 2}",
            semver=f"1.0.{number}",
            pinned_sha256=bytes(32),
            total_bytes=1,
            parents=(),
        )
        self.send(sender, payload)

    @rule(sender=ACCOUNTS, number=st.integers(0, 3), lift=st.booleans())
    def tend_registry(self, sender: int, number: int, lift: bool) -> None:
        name, semver = f"m{number % 2}", f"1.0.{number}"
        self.send(sender, SetChannel(name, "stable", None if lift else semver))
        self.send(sender, Yank(name, semver, lift=lift, reason=""))

    @rule(
        price=st.sampled_from((0, 7, 1_000)),
        budget=st.sampled_from((0, 200_000)),
        stages=st.integers(1, 2),
        share=st.sampled_from((0, 333, 9_600)),
        child=st.booleans(),
    )
    def lock(self, price: int, budget: int, stages: int, share: int, child: bool) -> None:
        parent = self.locks[-1].job if child and self.locks else None
        terms = lock_of(
            f"job {len(self.locks)}",
            *(unit_of(stage, stages=stages, price=price) for stage in range(stages)),
            parent=parent,
            budget=budget,
            shares=(Share(account=signer_of(68).public_key, bps=share),) if share else (),
            deadline_ms=self.chain.ledger.tip.time_ms + 60_000,
        )
        receipt = self.send(REQUESTER, terms)
        if receipt is not None and receipt.code is Code.DONE:
            self.locks.append(terms)

    @precondition(lambda self: bool(self.locks))
    @rule(data=st.data(), lies=st.lists(LIES, min_size=2, max_size=3))
    def settle(self, data: st.DataObject, lies: list[dict[int, str]]) -> None:
        lock = data.draw(st.sampled_from(self.locks))
        unit = data.draw(st.integers(0, len(lock.units) - 1))
        works = [Work(WORKERS[i], wrong) for i, wrong in enumerate(lies)]
        receipts = [work.receipt(self.chain, lock, unit) for work in works]
        for work, receipt in zip(works, receipts, strict=True):
            self.send(work.worker, commit_of(lock, receipt))
        job = self.chain.ledger.view.job(lock.job)
        result = self.send(REQUESTER, settle_of(lock, unit, receipts))
        if result is None or result.code is not Code.DONE:
            return
        assert job is not None
        assert job.verdicts[unit] is None, "settled twice"
        after = self.chain.ledger.view.job(lock.job)
        assert after is not None
        given = sum(entry.amount for entry in result.paid) + result.returned
        assert given == job.locked - after.locked

    @precondition(lambda self: bool(self.locks))
    @rule(data=st.data(), step_ms=st.sampled_from((1, 61_000)))
    def refund(self, data: st.DataObject, step_ms: int) -> None:
        lock = data.draw(st.sampled_from(self.locks))
        result = self.send(70, Refund(job=lock.job), step_ms=step_ms)
        if result is not None and result.code is Code.DONE:
            assert lock.job not in self.closed, "refunded twice"
            self.closed.add(lock.job)

    @rule(
        names=st.lists(
            st.tuples(st.sampled_from(sorted(shapes(0))), st.booleans()), min_size=1, max_size=3
        ),
        fallback_ms=st.sampled_from((None, 12_000, 60_000)),
        amount=st.sampled_from((1, 7, 1_000_003)),
        sender=st.sampled_from((64, 70)),
    )
    def hold(
        self, names: list[tuple[str, bool]], fallback_ms: int | None, amount: int, sender: int
    ) -> None:
        start_ms = self.chain.ledger.tip.time_ms
        made = [shapes(start_ms)[name] for name, _ in names]
        vesting = Vesting(start_ms, start_ms + 4_000, start_ms + 30_000)
        address = signer_of(sender).public_key
        terms = Hold(
            salt=len(self.holds).to_bytes(32, "big"),
            asset=0,
            amount=amount,
            branches=tuple(
                Branch(signer_of(90 + i).public_key, condition, vesting if vests else None)
                for i, ((condition, _), (_, vests)) in enumerate(zip(made, names, strict=True))
            ),
            fallback=None if fallback_ms is None else Fallback(start_ms + fallback_ms, address),
        )
        receipt = self.send(sender, terms)
        if receipt is not None and receipt.code is Code.DONE:
            identity = hold_id(self.chain.genesis.chain_id, address, terms)
            oracles, vests = [oracle for _, oracle in made], [vests for _, vests in names]
            self.holds[identity] = Modelled(
                start_ms, oracles, vests, fallback_ms, amount, left=amount
            )

    @precondition(lambda self: bool(self.holds))
    @rule(
        data=st.data(),
        tries=st.lists(
            st.tuples(st.booleans(), WITNESSES, st.sampled_from((1, 1_000, 3_999, 8_000))),
            min_size=1,
            max_size=5,
        ),
    )
    def claim(self, data: st.DataObject, tries: list[tuple[bool, set[int], int]]) -> None:
        identity = data.draw(st.sampled_from(sorted(self.holds)))
        for told, keys, step_ms in tries:
            branch = data.draw(st.integers(0, len(self.holds[identity].oracles) - 1))
            self.claim_once(identity, branch, told=told, keys=keys, step_ms=step_ms)

    def claim_once(
        self, identity: bytes, branch: int, *, told: bool, keys: set[int], step_ms: int
    ) -> None:
        model, network = self.holds[identity], self.chain.genesis.chain_id
        approvals = tuple(approve(network, identity, branch, signer_of(key)) for key in keys)
        payload = Claim(identity, branch, (SECRET,) if told else (), approvals)
        receipt = self.send(64, payload, step_ms=step_ms)
        if receipt is None:
            return
        now = self.chain.ledger.tip.time_ms - model.start_ms
        code, amount = model.claimed(branch, now, told, len(keys & set(KEYS)))
        assert receipt.code is code
        to = signer_of(90 + branch).public_key
        expected = [(to, amount)] if amount else []
        assert [(paid.account, paid.amount) for paid in receipt.paid] == expected
        model.left -= amount

    @precondition(lambda self: bool(self.holds))
    @rule(data=st.data(), step_ms=st.sampled_from((1, 4_000, 12_000, 60_000)))
    def reclaim(self, data: st.DataObject, step_ms: int) -> None:
        identity = data.draw(st.sampled_from(sorted(self.holds)))
        model = self.holds[identity]
        receipt = self.send(66, Reclaim(identity), step_ms=step_ms)
        if receipt is None:
            return
        code, amount = model.reclaimed(self.chain.ledger.tip.time_ms - model.start_ms)
        assert (receipt.code, receipt.returned, receipt.paid) == (code, amount, ())
        model.left -= amount

    @rule(height=st.integers(1, 3), sender=ACCOUNTS)
    def accuse(self, height: int, sender: int) -> None:
        votes = [
            sign_message(
                SignedMessage(
                    kind=Kind.COMMIT,
                    epoch=0,
                    height=height,
                    view=0,
                    body=bytes([byte]) * 32,
                    signer=1,
                    signature=bytes(64),
                ),
                signer_of(1),
                self.chain.genesis.chain_id,
            )
            for byte in (1, 2)
        ]
        result = self.send(sender, evidence_of(*votes))
        if result is not None and result.code is Code.DONE:
            assert height not in self.punished, "punished twice"
            self.punished.add(height)

    @rule(operator=st.integers(32, 35), lift=st.booleans())
    def vote(self, operator: int, lift: bool) -> None:
        self.send(operator, Halt(cid=MODEL, lift=lift, reason=""))

    @precondition(lambda self: bool(self.seen))
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        raw = data.draw(st.sampled_from(self.seen))
        reason = self.chain.ledger.judge(self.chain.propose(raw), wall_ms=None)
        assert reason is not None, "executed twice"

    @invariant()
    def money_is_conserved(self) -> None:
        state = self.chain.ledger._state
        assert_sound(state)
        everything = 0
        for key, value in state.items():
            record = decode_value(value, size_max=10**6)
            assert encode(record) == value
            assert isinstance(record, tuple)
            if key[:1] in {b"a", b"b"}:
                everything += int(record[0])
            elif key[:1] == b"j":
                everything += int(record[13])
            elif key[:1] == b"c":
                everything += int(record[4])
        assert everything == self.chain.genesis.minted

    @invariant()
    def nonces_are_strict(self) -> None:
        for address, nonce in self.nonces.items():
            assert self.chain.ledger.view.nonce(address) == nonce

    @invariant()
    def followers_agree(self) -> None:
        assert self.follower.state_root == self.chain.ledger.state_root
        assert self.follower.receipts_root == self.chain.ledger.receipts_root

    @invariant()
    def holds_are_as_modelled(self) -> None:
        for identity, model in self.holds.items():
            held = self.chain.ledger.view.hold(identity)
            assert held is not None
            assert held.left == model.left >= 0

    @invariant()
    def closed_jobs_hold_nothing(self) -> None:
        for lock in self.locks:
            job = self.chain.ledger.view.job(lock.job)
            assert job is not None
            assert (job.locked > 0 or job.budget == 0) or job.status is JobStatus.OPEN
            assert job.children == sum(
                other.parent == lock.job
                and (found := self.chain.ledger.view.job(other.job)) is not None
                and found.is_open
                for other in self.locks
            )


@pytest.mark.slow
@given(
    name=st.sampled_from(sorted(shapes(0))),
    vests=st.booleans(),
    fallback_ms=st.sampled_from((None, 12_000)),
    tries=st.lists(
        st.tuples(st.booleans(), WITNESSES, st.sampled_from((1, 1_000, 1_500, 3_500))), max_size=10
    ),
)
@example(name="late", vests=False, fallback_ms=None, tries=[(False, set(), 3_500)] * 2)  # 8,000 ms
@settings(max_examples=150, deadline=None)
def test_one_hold_pays_as_foretold_when_tried_often(
    name: str, vests: bool, fallback_ms: int | None, tries: list[tuple[bool, set[int], int]]
) -> None:
    machine = LedgerMachine()
    machine.hold([(name, vests)], fallback_ms, 1_000_003, 64)
    [identity] = machine.holds
    for told, keys, step_ms in tries:
        machine.claim_once(identity, 0, told=told, keys=keys, step_ms=step_ms)
    machine.holds_are_as_modelled()
    machine.money_is_conserved()


TestLedgerMachine = pytest.mark.slow(LedgerMachine.TestCase)
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
