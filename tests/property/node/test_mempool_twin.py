"""The mempool against a twin that keeps one list and counts everything anew at each step."""

from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from prsm.node.chain.mempool import Accounts, Mempool
from prsm.node.chain.noncequeue import MempoolLimits
from prsm.protocol.codec import encode
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import TxId
from prsm.protocol.transactions.envelope import Transaction, transaction_id

SENDERS = [bytes([letter]) * 32 for letter in b"ABC"]
LIMITS = MempoolLimits(
    count_max=9, bytes_max=2_500, per_sender_max=6, gapped_max=2, life_ms=100, replace_percent=110
)


OFFERS = st.tuples(
    st.sampled_from(SENDERS),
    st.sampled_from([0, 0, 1, 1, 2, 3, 4, 5, 6, 7, -1]),  # ahead of the committed nonce
    st.sampled_from([1_000, 1_000, 1_099, 1_100, 1_300, 3_000]),
    st.sampled_from([0, 0, 0, 300, 900]),
    st.sampled_from([150, 150, 150, 40, 0, -1]),
)


class Item(NamedTuple):
    id: TxId
    size: int
    tx: Transaction
    arrived_ms: int

    @property
    def rank(self) -> tuple[int, bytes]:
        return self.tx.fee * 1_000_000 // self.size, self.id


@dataclass
class Twin:
    """The rules of docs/spec/ledger.md, "Mempool", as they stand there."""

    nonces: dict[bytes, int]
    balances: dict[bytes, int]
    items: list[Item] = field(default_factory=list)

    def of(self, sender: bytes) -> dict[int, Item]:
        return {item.tx.nonce: item for item in self.items if item.tx.sender == sender}

    def missing(self, sender: bytes) -> int:
        nonce = self.nonces[sender]
        while nonce in self.of(sender):
            nonce += 1
        return nonce

    def gapped(self, sender: bytes) -> int:
        return sum(nonce > self.missing(sender) for nonce in self.of(sender))

    def add(self, item: Item) -> str:
        """The reason of the refusal, or nothing."""
        tx = item.tx
        if any(item.id == known.id for known in self.items):
            return ""
        self.expire(item.arrived_ms)
        if tx.valid_until_ms < item.arrived_ms:
            return "expired"
        old = self.of(tx.sender).get(tx.nonce)
        refusal = self.place(tx, old)
        if refusal:
            return refusal
        kept = [known for known in self.items if known is not old]
        waiting = sum(known.tx.fee for known in kept if known.tx.sender == tx.sender)
        if waiting + tx.fee > self.balances[tx.sender]:
            return "insufficient_funds"
        return self.fit(kept, item)

    def place(self, tx: Transaction, old: Item | None) -> str:
        first, missing = self.nonces[tx.sender], self.missing(tx.sender)
        if tx.nonce < first:
            return "bad_nonce"
        if tx.nonce >= first + LIMITS.per_sender_max:
            return "sender_limited" if tx.nonce == missing else "nonce_gap"
        if old is not None:
            return "fee_too_low" if tx.fee * 10 < old.tx.fee * 11 else ""
        is_full = tx.nonce > missing and self.gapped(tx.sender) >= LIMITS.gapped_max
        return "nonce_gap" if is_full else ""

    def fit(self, kept: list[Item], item: Item) -> str:
        while len(kept) >= LIMITS.count_max or _size(kept) + item.size > LIMITS.bytes_max:
            victim = min(kept, key=lambda known: known.rank)
            if victim.rank[0] >= item.rank[0] or victim.tx.sender == item.tx.sender:
                return "mempool_full"
            kept = [
                known
                for known in kept
                if known.tx.sender != victim.tx.sender or known.tx.nonce < victim.tx.nonce
            ]
        self.items = [*kept, item]
        return ""

    def expire(self, now_ms: int) -> None:
        for sender in SENDERS:
            alive = [
                item
                for item in self.of(sender).values()
                if item.tx.valid_until_ms >= now_ms and now_ms - item.arrived_ms <= LIMITS.life_ms
            ]
            lost = len(alive) < len(self.of(sender))
            self.items = [item for item in self.items if item.tx.sender != sender] + alive
            while lost and self.gapped(sender) > LIMITS.gapped_max:
                last = max(self.of(sender).values(), key=lambda item: item.tx.nonce)
                self.items.remove(last)

    def ready(self) -> list[TxId]:
        nonces, chosen = dict(self.nonces), list[TxId]()
        while True:
            heads = [item for item in self.items if item.tx.nonce == nonces[item.tx.sender]]
            if not heads:
                return chosen
            best = min(heads, key=lambda item: (-item.rank[0], item.id))
            chosen.append(best.id)
            nonces[best.tx.sender] += 1

    def commit(self, ids: list[TxId], spent: int, earned: int) -> list[bytes]:
        touched = []
        for item in sorted(self.items, key=lambda item: item.tx.nonce):
            if item.id not in ids:
                continue
            self.nonces[item.tx.sender] += 1
            self.balances[item.tx.sender] -= item.tx.fee
            touched.append(item.tx.sender)
            self.items.remove(item)
        for sender in touched:
            self.balances[sender] = max(0, self.balances[sender] - spent) + earned
            self.recheck(sender)
        return touched

    def recheck(self, sender: bytes) -> None:
        fees = 0
        for nonce, item in sorted(self.of(sender).items()):
            fees += item.tx.fee if nonce >= self.nonces[sender] else 0
            if nonce < self.nonces[sender] or fees > self.balances[sender]:
                self.items.remove(item)


def _size(items: list[Item]) -> int:
    return sum(item.size for item in items)


class MempoolMachine(RuleBasedStateMachine):
    """Both get the same; both must hold the same and answer the same."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin(dict.fromkeys(SENDERS, 0), dict.fromkeys(SENDERS, 9_000))
        accounts = Accounts(lambda who: self.twin.nonces[who], lambda who: self.twin.balances[who])
        self.pool = Mempool(accounts, limits=LIMITS)
        self.now_ms = 0

    @rule(offers=st.lists(OFFERS, min_size=1, max_size=8))
    def add(self, offers: list[tuple[bytes, int, int, int, int]]) -> None:
        for offer in offers:
            self.offer(*offer)

    def offer(self, sender: bytes, ahead: int, fee: int, size: int, lives_ms: int) -> None:
        tx = Transaction(
            version=1,
            chain_id=bytes(8),
            kind=1,
            sender=sender,
            nonce=max(0, self.twin.nonces[sender] + ahead),
            fee=fee,
            payload=bytes(size),
            valid_until_ms=max(0, self.now_ms + lives_ms),
            signature=bytes(64),
        )
        raw = encode(tx)
        expected = self.twin.add(Item(transaction_id(raw), len(raw), tx, self.now_ms))
        found = ""
        try:
            self.pool.add(raw, tx, self.now_ms)
        except LocalError as refusal:
            found = refusal.reason
        assert found == expected

    @rule(ms=st.integers(0, 60))
    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        self.twin.expire(self.now_ms)
        self.pool.drop_expired(self.now_ms)

    @rule(
        count=st.integers(1, 4),
        spent=st.sampled_from([0, 0, 500, 5_000]),
        earned=st.sampled_from([0, 2_000, 9_000]),
    )
    def commit(self, count: int, spent: int, earned: int) -> None:
        ids = self.twin.ready()[:count]
        assert [transaction_id(raw) for raw in self.pool.ready(count)] == ids
        self.pool.drop_committed(ids, self.twin.commit(ids, spent, earned))

    @rule(sender=st.sampled_from(SENDERS), count=st.integers(1, 3))
    def commit_others(self, sender: bytes, count: int) -> None:
        """Another node put transactions of the same account into a block."""
        self.twin.nonces[sender] += count
        self.twin.recheck(sender)
        self.pool.drop_committed([], [sender])

    @invariant()
    def holds_the_same(self) -> None:
        twin, pool = self.twin, self.pool
        assert set(pool._by_id) == {item.id for item in twin.items}
        assert pool.size_bytes == _size(twin.items) <= LIMITS.bytes_max
        assert len(pool) <= LIMITS.count_max
        assert pool.has_ready == bool(twin.ready())
        assert [transaction_id(raw) for raw in pool.ready(100)] == twin.ready()
        for sender in SENDERS:
            assert pool.next_nonce(sender) == twin.missing(sender)
            assert twin.gapped(sender) <= LIMITS.gapped_max


TestMempool = pytest.mark.slow(MempoolMachine.TestCase)
TestMempool.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
