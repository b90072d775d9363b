"""Transactions waiting for a block: nonce queues by sender, best fee first, all of it bounded.

Pure: time is handed in. Knows order, fees and bounds, and asks the committed state for nonces and
balances. Must not check signatures (node/chain/admission did) nor what a payload does.
Invariants: every entry is in its sender's queue, in `_by_id` and counted in `size_bytes`; a
sender's transactions leave in the order of their nonces; the fees of a sender's queue are covered
by its balance as of the last block that touched it; what `has_ready` counts could stand in the
next block. Source: docs/spec/ledger.md, "Mempool".
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, final

from prsm.consensus.ledger.errors import Expired, InsufficientFunds
from prsm.node.chain.noncequeue import RETRY_AFTER_MS, Entry, MempoolLimits, NonceQueue
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import TxId, format_ftns
from prsm.protocol.transactions.envelope import Transaction, transaction_id

# Minus the rate, when it came, its id: the dearest first, of equals who waits longest. By id
# alone, what has a high one waits until nothing else does.
_Head = tuple[int, int, TxId]
STALE_MIN: Final = 64  # dead entries of an index that are not worth sweeping


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
class Accounts:
    """What is asked of the committed state.

    Attributes:
        nonce: of an account's next transaction.
        balance: spendable micro-FTNS.
    """

    nonce: Callable[[bytes], int]
    balance: Callable[[bytes], int]


@final
class Mempool:
    """The transactions this node would put into a block."""

    def __init__(self, accounts: Accounts, *, limits: MempoolLimits | None = None) -> None:
        """Start empty.

        Args:
            accounts: the committed state.
            limits: the defaults if None.
        """
        self.limits = limits or MempoolLimits()
        self.size_bytes = 0
        self._accounts = accounts
        self._queues: dict[bytes, NonceQueue] = {}
        self._by_id: dict[TxId, Entry] = {}
        # Indexes; ids that left are skipped, and swept out when they are most of it.
        self._arrivals: deque[tuple[int, TxId]] = deque()
        self._cheapest: list[tuple[int, TxId]] = []
        self._expiries: list[tuple[int, TxId]] = []
        self._heads: list[_Head] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, tx_id: object) -> bool:
        return tx_id in self._by_id

    @property
    def has_ready(self) -> bool:
        """Could any of it stand in the next block? What is behind a gap could not."""
        while self._heads:
            if self._is_head(self._heads[0][-1]):
                return True
            heapq.heappop(self._heads)
        return False

    def get(self, tx_id: TxId) -> bytes | None:
        """Bytes of a waiting transaction."""
        entry = self._by_id.get(tx_id)
        return None if entry is None else entry.raw

    def next_nonce(self, sender: bytes) -> int:
        """First nonce of a sender that is neither committed nor waiting."""
        queue = self._queues.get(sender)
        return self._accounts.nonce(sender) if queue is None else queue.missing

    def add(self, raw: bytes, tx: Transaction, now_ms: int) -> TxId:
        """Take a checked transaction; one that waits already is the same answer again.

        Args:
            raw: its canonical bytes.
            tx: decoded, signature checked.
            now_ms: the node's clock, not before the time of the next block.

        Raises:
            BadNonce, NonceGap, SenderLimited, Underpaid: its sender's queue has no place for it.
            Expired: its `valid_until_ms` is past.
            InsufficientFunds: the balance does not cover the fees of all that would wait.
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
        entry = Entry(raw, identity, tx.sender, tx.nonce, tx.fee, tx.valid_until_ms, now_ms)
        queue = self._queues.get(tx.sender)
        if queue is None:
            first = self._accounts.nonce(tx.sender)
            queue = NonceQueue(next=first, missing=first)
        replaced = queue.check_place(entry, self.limits)
        self._check_fees(queue, entry, replaced)
        self._make_room(entry, replaced)
        if replaced is not None:
            self._remove(replaced)
        self._queues[tx.sender] = queue  # an empty one was dropped
        self._insert(queue, entry)
        return identity

    def ready(self, limit: int) -> list[bytes]:
        """What could stand in the next block: dearest first, a sender's in order."""
        return [entry.raw for entry in self._ready(limit)]

    def ready_ids(self, limit: int, *, before_ms: int) -> list[TxId]:
        """Ids of the same that arrived before a time."""
        return [entry.id for entry in self._ready(limit) if entry.arrived_ms < before_ms]

    def drop_committed(self, tx_ids: Iterable[bytes], senders: Iterable[bytes]) -> list[int]:
        """Forget what a block holds, and what it made impossible.

        Args:
            tx_ids: of the block.
            senders: whose nonce or balance it may have lowered or moved on.

        Returns:
            When each of the block's transactions that waited here had come.
        """
        found = [self._by_id.get(TxId(identity)) for identity in tx_ids]
        gone = [entry for entry in found if entry is not None]
        for entry in gone:
            self._remove(entry)
        for sender in senders:
            queue = self._queues.get(sender)
            if queue is not None:
                self._recheck(sender, queue)
        return [entry.arrived_ms for entry in gone]

    def recheck(self) -> None:
        """Look at every sender again: the state was replaced as a whole."""
        for sender, queue in list(self._queues.items()):
            self._recheck(sender, queue)

    def drop_expired(self, now_ms: int) -> int:
        """Forget what no later block may hold, or has waited for its whole life.

        Args:
            now_ms: the node's clock, not before the time of the next block.

        Returns:
            How many were forgotten.
        """
        before = len(self._by_id)
        while self._arrivals and now_ms - self._arrivals[0][0] > self.limits.life_ms:
            arrived, identity = self._arrivals.popleft()
            entry = self._by_id.get(identity)
            if entry is not None and entry.arrived_ms == arrived:
                self._drop(entry)
        while self._expiries and self._expiries[0][0] < now_ms:
            _, identity = heapq.heappop(self._expiries)
            self.drop(identity)
        return before - len(self._by_id)

    def drop(self, tx_id: TxId) -> None:
        """Forget one transaction, if it is here."""
        entry = self._by_id.get(tx_id)
        if entry is not None:
            self._drop(entry)

    def _check_fees(self, queue: NonceQueue, entry: Entry, replaced: Entry | None) -> None:
        """Nobody waits for free: a block could hold none of what its sender cannot pay."""
        fees = queue.fees + entry.fee - (0 if replaced is None else replaced.fee)
        balance = self._accounts.balance(entry.sender)
        if fees > balance:
            raise InsufficientFunds(
                f"balance of {format_ftns(balance)} FTNS, the fees of all that would wait are "
                f"{format_ftns(fees)}",
                hint="send FTNS to this account first",
            )

    def _make_room(self, entry: Entry, replaced: Entry | None) -> None:
        """Put out cheaper ones if that is enough; otherwise everything stays."""
        count = len(self._by_id) + (replaced is None) - self.limits.count_max
        size = self.size_bytes + len(entry.raw) - self.limits.bytes_max
        size -= 0 if replaced is None else len(replaced.raw)
        looked: list[tuple[int, TxId]] = []
        gone: dict[TxId, Entry] = {}
        while count > 0 or size > 0:
            victim = self._next_cheapest(looked)
            if victim is not None and victim is replaced:
                continue
            if victim is None or victim.rate >= entry.rate or victim.sender == entry.sender:
                for item in looked:
                    heapq.heappush(self._cheapest, item)
                raise MempoolFull(
                    f"{len(self._by_id)} transactions of {self.size_bytes} bytes wait, and "
                    f"no cheaper ones of other senders can make room"
                )
            # Later ones of that sender could not run without it.
            for waiting in self._queues[victim.sender].entries.values():
                if waiting.nonce >= victim.nonce and waiting.id not in gone:
                    gone[waiting.id] = waiting
                    count, size = count - 1, size - len(waiting.raw)
        for waiting in gone.values():
            self._remove(waiting)

    def _next_cheapest(self, looked: list[tuple[int, TxId]]) -> Entry | None:
        while self._cheapest:
            item = heapq.heappop(self._cheapest)
            entry = self._by_id.get(item[1])
            if entry is not None:
                looked.append(item)
                return entry
        return None

    def _recheck(self, sender: bytes, queue: NonceQueue) -> None:
        """A block moved the sender's nonce, and perhaps its money."""
        queue.next = self._accounts.nonce(sender)
        queue.look_from(queue.next)
        balance, fees = self._accounts.balance(sender), 0
        for nonce, entry in sorted(queue.entries.items()):
            fees += entry.fee if nonce >= queue.next else 0
            if nonce < queue.next or fees > balance:
                self._remove(entry)
        self._offer(queue)

    def _is_head(self, identity: TxId) -> bool:
        entry = self._by_id.get(identity)
        return entry is not None and self._queues[entry.sender].next == entry.nonce

    def _offer(self, queue: NonceQueue) -> None:
        """Note the head of a queue, if it could run."""
        head = queue.entries.get(queue.next)
        if head is not None and head.id != queue.offered:
            queue.offered = head.id
            heapq.heappush(self._heads, _place(head))

    def _ready(self, limit: int) -> list[Entry]:
        chosen: list[Entry] = []
        begun: dict[TxId, _Head] = {}  # heads that were taken out of the heap
        heads = self._heads
        following: list[_Head] = []  # what a chosen one makes possible
        while len(chosen) < limit and (heads or following):
            if not following or (heads and heads[0] <= following[0]):
                item = heapq.heappop(heads)
                if item[-1] in begun or not self._is_head(item[-1]):
                    continue
                begun[item[-1]] = item
            else:
                item = heapq.heappop(following)
            entry = self._by_id[item[-1]]
            chosen.append(entry)
            later = self._queues[entry.sender].entries.get(entry.nonce + 1)
            if later is not None:
                heapq.heappush(following, _place(later))
        for item in begun.values():
            heapq.heappush(heads, item)
        return chosen

    def _insert(self, queue: NonceQueue, entry: Entry) -> None:
        queue.put(entry)
        self._by_id[entry.id] = entry
        self.size_bytes += len(entry.raw)
        self._arrivals.append((entry.arrived_ms, entry.id))
        heapq.heappush(self._cheapest, (entry.rate, entry.id))
        heapq.heappush(self._expiries, (entry.valid_until_ms, entry.id))
        self._offer(queue)

    def _drop(self, entry: Entry) -> None:
        """Remove one that is in no block: what follows it is behind a gap from now on."""
        queue = self._queues[entry.sender]
        self._remove(entry)
        while queue.gapped > self.limits.gapped_max:
            self._remove(queue.entries[max(queue.entries)])

    def _remove(self, entry: Entry) -> None:
        del self._by_id[entry.id]
        self.size_bytes -= len(entry.raw)
        queue = self._queues[entry.sender]
        queue.take(entry)
        if not queue.entries:
            del self._queues[entry.sender]
        self._sweep()

    def _sweep(self) -> None:
        """Rebuild the indexes that hold mostly ids that left."""
        stale_max = 2 * len(self._by_id) + STALE_MIN
        left = self._by_id.values()
        if len(self._cheapest) > stale_max:
            self._cheapest = sorted((entry.rate, entry.id) for entry in left)
        if len(self._expiries) > stale_max:
            self._expiries = sorted((entry.valid_until_ms, entry.id) for entry in left)
        if len(self._arrivals) > stale_max:
            self._arrivals = deque(sorted((entry.arrived_ms, entry.id) for entry in left))
        if len(self._heads) > stale_max:
            self._heads = sorted({item for item in self._heads if self._is_head(item[-1])})


def _place(entry: Entry) -> _Head:
    return -entry.rate, entry.arrived_ms, entry.id
