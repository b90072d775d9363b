"""One account's waiting transactions, by nonce: which may wait, which replace another.

Pure. Knows the bounds of a queue. Must not know other accounts, balances or the room in the pool.
Invariants: `missing` is the first nonce from `next` on that does not wait here; `fees` is the sum
over all that wait. Source: docs/spec/ledger.md, "Mempool".
"""

from dataclasses import dataclass, field
from typing import Final

from prsm.consensus.ledger.errors import BadNonce, FeeTooLow
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import TxId, address_text
from prsm.protocol.limits import MIB

RETRY_AFTER_MS: Final = 1_000  # a few blocks under load


class SenderLimited(LocalError):
    """One account has as many transactions waiting as it may; a block makes room."""

    reason = "sender_limited"
    retry_after_ms = RETRY_AFTER_MS


class NonceGap(BadNonce):
    """Too much of one account waits behind a transaction nobody has sent yet."""

    reason = "nonce_gap"
    retry_after_ms = RETRY_AFTER_MS


class Underpaid(FeeTooLow):
    """A replacement that pays too little more; by then the first is normally in a block."""

    reason = "fee_too_low"
    retry_after_ms = RETRY_AFTER_MS


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
class Entry:
    """A transaction that waits."""

    raw: bytes
    id: TxId
    sender: bytes
    nonce: int
    fee: int
    valid_until_ms: int
    arrived_ms: int
    rate: int = 0  # micro-FTNS a million bytes: an integer, so that order needs no float

    def __post_init__(self) -> None:
        self.rate = self.fee * 1_000_000 // len(self.raw)


@dataclass(slots=True)
class NonceQueue:
    """What waits of one account."""

    next: int  # the committed next nonce
    missing: int
    entries: dict[int, Entry] = field(default_factory=dict)
    fees: int = 0
    offered: TxId | None = None  # the head its pool has noted as ready

    @property
    def gapped(self) -> int:
        """How many wait behind a missing nonce."""
        return len(self.entries) - (self.missing - self.next)

    def check_place(self, entry: Entry, limits: MempoolLimits) -> Entry | None:
        """Say which transaction another would replace, if it may wait at all.

        Raises:
            BadNonce: committed already.
            SenderLimited: the queue is full.
            NonceGap: further ahead than a queue is long, or too many wait behind a missing one.
            Underpaid: it pays less than a tenth more than the one of its nonce.
        """
        if entry.nonce < self.next:
            raise BadNonce(
                f"nonce {entry.nonce}, the next one is {self.next}",
                hint=f"use nonce {self.missing}",
            )
        if entry.nonce >= self.next + limits.per_sender_max:
            self._refuse_far(entry, limits)
        old = self.entries.get(entry.nonce)
        if old is not None:
            if entry.fee * 100 < old.fee * limits.replace_percent:
                least = -(-old.fee * limits.replace_percent // 100)
                raise Underpaid(
                    f"fee of {entry.fee} micro-FTNS, at least {least} to replace nonce "
                    f"{entry.nonce}",
                    hint=f"offer {least} micro-FTNS, or use nonce {self.missing}",
                )
            return old
        if entry.nonce > self.missing and self.gapped >= limits.gapped_max:
            raise NonceGap(
                f"nonce {entry.nonce} waits behind missing {self.missing}, {limits.gapped_max} "
                f"wait so",
                hint=f"send nonce {self.missing} first",
            )
        return None

    def put(self, entry: Entry) -> None:
        """Add one whose place was checked."""
        self.entries[entry.nonce] = entry
        self.fees += entry.fee
        self.look_from(self.missing)

    def take(self, entry: Entry) -> None:
        """Remove one."""
        del self.entries[entry.nonce]
        self.fees -= entry.fee
        if entry.nonce >= self.next:
            self.missing = min(self.missing, entry.nonce)
        if self.offered == entry.id:
            self.offered = None

    def look_from(self, nonce: int) -> None:
        """Find the first missing nonce; those before `nonce` wait here or are committed."""
        self.missing = max(nonce, self.next)
        while self.missing in self.entries:
            self.missing += 1

    def _refuse_far(self, entry: Entry, limits: MempoolLimits) -> None:
        if entry.nonce == self.missing:
            raise SenderLimited(
                f"{len(self.entries)} transactions of {address_text(entry.sender)} wait, at most "
                f"{limits.per_sender_max}",
                hint=f"offer it again in {RETRY_AFTER_MS} ms",
            )
        raise NonceGap(
            f"nonce {entry.nonce}, the next one is {self.next} and at most "
            f"{limits.per_sender_max} wait",
            hint=f"send nonce {self.missing} first",
        )
