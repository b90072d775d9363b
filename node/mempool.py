"""Transactions waiting for a block: nonce queues by sender, best fee first, all of it bounded.

Pure: time is handed in. Knows order, fees and bounds; must not check signatures (node/admission
did) nor balances (the ledger does when it selects).
Invariants: every entry is in its sender's queue, in `_by_id` and counted in `size_bytes`; a
sender's transactions leave in the order of their nonces. Source: docs/spec/ledger.md, "Mempool".
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, final

from prsm.consensus.ledger.errors import BadNonce, Expired, FeeTooLow
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import TxId
from prsm.protocol.limits import MIB
from prsm.protocol.transactions.envelope import Transaction, transaction_id

RETRY_AFTER_MS: Final = 1_000  # a few blocks under load


class MempoolFull(LocalError):
    """No room now; the same transaction may fit later.

    Args:
        what: which bound is reached.
        retry_after_ms: when to offer it again.
    """

    reason = "mempool_full"

    def __init__(self, what: str, *, retry_after_ms: int = RETRY_AFTER_MS) -> None:
        super().__init__(what, hint=f"offer it again in {retry_after_ms} ms, or raise the fee")
        self.retry_after_ms = retry_after_ms


@dataclass(frozen=True, slots=True)
class MempoolLimits:
    """Bounds of one pool; without them a queue is seconds of latency."""

    count_max: int = 20_000
    bytes_max: int = 8 * MIB
    per_sender_max: int = 64
    gapped_max: int = 16  # of one sender, held behind a missing nonce
    life_ms: int = 600_000
    replace_percent: int = 110  # of the fee it replaces

    def __post_init__(self) -> None:
        assert 0 < self.gapped_max <= self.per_sender_max <= self.count_max
        assert self.replace_percent > 100


@dataclass(slots=True)
class _Entry:
    raw: bytes
    id: TxId
    sender: bytes
    nonce: int
    fee: int
    arrived_ms: int

    @property
    def rate(self) -> int:
        """Micro-FTNS a million bytes: an integer, so that order never depends on a float."""
        return self.fee * 1_000_000 // len(self.raw)


@dataclass(slots=True)
class _Queue:
    next: int  # the committed next nonce
    entries: dict[int, _Entry] = field(default_factory=dict)

    def gapped(self) -> int:
        """How many wait behind a missing nonce."""
        ready = self.next
        while ready in self.entries:
            ready += 1
        return sum(nonce > ready for nonce in self.entries)


@final
class Mempool:
    """The transactions this node would put into a block."""

    def __init__(
        self, nonce_of: Callable[[bytes], int], *, limits: MempoolLimits | None = None
    ) -> None:
        """Start empty.

        Args:
            nonce_of: committed next nonce of an account.
            limits: the defaults if None.
        """
        self.limits = limits or MempoolLimits()
        self.size_bytes = 0
        self._nonce_of = nonce_of
        self._queues: dict[bytes, _Queue] = {}
        self._by_id: dict[TxId, _Entry] = {}
        self._arrivals: deque[tuple[int, TxId]] = deque()
        self._cheapest: list[tuple[int, TxId]] = []  # heap; ids that left are skipped

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, tx_id: object) -> bool:
        return tx_id in self._by_id

    def get(self, tx_id: TxId) -> bytes | None:
        """Bytes of a waiting transaction."""
        entry = self._by_id.get(tx_id)
        return None if entry is None else entry.raw

    def next_nonce(self, sender: bytes) -> int:
        """First nonce of a sender that is neither committed nor waiting."""
        queue = self._queues.get(sender)
        nonce = self._nonce_of(sender)
        while queue is not None and nonce in queue.entries:
            nonce += 1
        return nonce

    def add(self, raw: bytes, tx: Transaction, now_ms: int) -> TxId:
        """Take a checked transaction; one that waits already is the same answer again.

        Args:
            raw: its canonical bytes.
            tx: decoded, signature checked.
            now_ms: the node's clock.

        Raises:
            BadNonce: committed already, or too far behind missing ones.
            Expired: its `valid_until_ms` is past.
            FeeTooLow: it would replace one of the same nonce for less than 10 % more.
            MempoolFull: no room, and no cheaper transaction to put out.
        """
        identity = transaction_id(raw)
        if identity in self._by_id:
            return identity
        self.drop_expired(now_ms)
        if tx.valid_until_ms < now_ms:
            raise Expired(
                f"valid until {tx.valid_until_ms} ms, now is {now_ms}",
                hint="sign it again with a later time",
            )
        entry = _Entry(raw, identity, tx.sender, tx.nonce, tx.fee, now_ms)
        queue = self._queues.get(tx.sender) or _Queue(next=self._nonce_of(tx.sender))
        replaced = self._check_place(queue, entry)
        self._make_room(entry, replaced)
        if replaced is not None:
            self._remove(replaced)
        # Room may have come from this sender's own queue, and an empty queue is dropped.
        self._queues.setdefault(tx.sender, queue).entries[tx.nonce] = entry
        self._by_id[identity] = entry
        self.size_bytes += len(raw)
        self._arrivals.append((now_ms, identity))
        heapq.heappush(self._cheapest, (entry.rate, identity))
        return identity

    def ready(self, limit: int) -> list[bytes]:
        """What could stand in the next block: dearest first, a sender's in order."""
        heads = [
            (-queue.entries[queue.next].rate, sender, queue.next)
            for sender, queue in self._queues.items()
            if queue.next in queue.entries
        ]
        heapq.heapify(heads)
        chosen: list[bytes] = []
        while heads and len(chosen) < limit:
            _, sender, nonce = heapq.heappop(heads)
            entries = self._queues[sender].entries
            chosen.append(entries[nonce].raw)
            following = entries.get(nonce + 1)
            if following is not None:
                heapq.heappush(heads, (-following.rate, sender, nonce + 1))
        return chosen

    def drop_committed(self, tx_ids: Iterable[bytes], nonces: Mapping[bytes, int]) -> None:
        """Forget what a block holds, and what it made impossible.

        Args:
            tx_ids: of the block.
            nonces: the committed next nonce of every sender in the block.
        """
        for identity in tx_ids:
            self.drop(TxId(identity))
        for sender, nonce in nonces.items():
            queue = self._queues.get(sender)
            if queue is None:
                continue
            queue.next = nonce
            for old in [entry for entry in queue.entries.values() if entry.nonce < nonce]:
                self._remove(old)

    def drop_expired(self, now_ms: int) -> int:
        """Forget what has waited longer than its life; returns how many."""
        count = 0
        while self._arrivals and now_ms - self._arrivals[0][0] > self.limits.life_ms:
            arrived, identity = self._arrivals.popleft()
            entry = self._by_id.get(identity)
            if entry is not None and entry.arrived_ms == arrived:
                self._remove(entry)
                count += 1
        return count

    def drop(self, tx_id: TxId) -> None:
        """Forget one transaction, if it is here."""
        entry = self._by_id.get(tx_id)
        if entry is not None:
            self._remove(entry)

    def _check_place(self, queue: _Queue, entry: _Entry) -> _Entry | None:
        """Say which transaction it replaces, if it may wait at all."""
        limits = self.limits
        if not queue.next <= entry.nonce < queue.next + limits.per_sender_max:
            raise BadNonce(
                f"nonce {entry.nonce}, the next one is {queue.next} and at most "
                f"{limits.per_sender_max} wait",
                hint=f"use nonce {self.next_nonce(entry.sender)}",
            )
        old = queue.entries.get(entry.nonce)
        if old is not None:
            if entry.fee * 100 < old.fee * limits.replace_percent:
                least = -(-old.fee * limits.replace_percent // 100)
                raise FeeTooLow(
                    f"fee of {entry.fee} micro-FTNS, at least {least} to replace nonce "
                    f"{entry.nonce}",
                    hint=f"offer {least} micro-FTNS, or use a later nonce",
                )
            return old
        missing = self.next_nonce(entry.sender)
        if entry.nonce > missing and queue.gapped() >= limits.gapped_max:
            raise BadNonce(
                f"nonce {entry.nonce} waits behind missing {missing}, {limits.gapped_max} wait so",
                hint=f"send nonce {missing} first",
            )
        return None

    def _make_room(self, entry: _Entry, replaced: _Entry | None) -> None:
        freed = 0 if replaced is None else len(replaced.raw)
        while (
            len(self._by_id) - (replaced is not None) >= self.limits.count_max
            or self.size_bytes - freed + len(entry.raw) > self.limits.bytes_max
        ):
            victim = self._lowest()
            if victim is None or victim.rate >= entry.rate or victim.sender == entry.sender:
                raise MempoolFull(
                    f"{len(self._by_id)} transactions of {self.size_bytes} bytes wait, and "
                    f"no cheaper one of another sender can make room"
                )
            # Later ones of that sender could not run without it.
            later = self._queues[victim.sender].entries.values()
            for gone in [waiting for waiting in later if waiting.nonce >= victim.nonce]:
                self._remove(gone)

    def _lowest(self) -> _Entry | None:
        while self._cheapest:
            entry = self._by_id.get(self._cheapest[0][1])
            if entry is not None:
                return entry
            heapq.heappop(self._cheapest)
        return None

    def _remove(self, entry: _Entry) -> None:
        del self._by_id[entry.id]
        self.size_bytes -= len(entry.raw)
        queue = self._queues[entry.sender]
        del queue.entries[entry.nonce]
        if not queue.entries:
            del self._queues[entry.sender]
        stale_max = 2 * len(self._by_id) + 64
        if len(self._cheapest) > stale_max:  # mostly ids that left
            self._cheapest = sorted((left.rate, left.id) for left in self._by_id.values())
        if len(self._arrivals) > stale_max:
            self._arrivals = deque(
                sorted((left.arrived_ms, left.id) for left in self._by_id.values())
            )
