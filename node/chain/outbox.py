"""What this node means to put on the ledger, kept until it is in a block, whatever happens between.

A wallet sends a transaction again for ten minutes and forgets it with the process; an intent here
outlives both: it is written down first, signed when a validator is there to take it, and over when
a block holds it or the ledger says that it never will. Knows: payloads, their kinds, when to try
again. Must not know: what an intent is for.

Invariants: one intent for each key, the latest; a signed transaction is durable here before
anybody else has it, and none is signed in its place while a block may still hold it, so each is
on the ledger once; so many intents and bytes at most; those of a subject go one after the other.
Source: docs/spec/storage.md, "Outbox".
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio

from prsm.consensus.ledger.errors import (
    BondState,
    Conflict,
    EscrowState,
    ModelHalted,
    TransactionRefused,
)
from prsm.node.chain.driver import Driver
from prsm.node.chain.intentbook import Entry, GivenUp, IntentBook
from prsm.node.chain.intents import Intent
from prsm.node.chain.wallet import Fate, TransactionExpired, TxResult
from prsm.node.clock import Clock
from prsm.node.telemetry import logs
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import TxId
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.transactions.payloads import (
    ACCEPT,
    LAPSE,
    PAYLOADS,
    PROVE,
    REGISTER_DATASET,
    REGISTER_MODEL,
    RELEASE,
    SET_CARD,
    SET_CHANNEL,
    YANK,
)
from prsm.storage.errors import NotFound

log = logs.get("outbox")

# What may wait: it means the same whenever it comes, and moves no money at a price of the moment.
KINDS: Final = frozenset(
    (
        *(REGISTER_MODEL, SET_CHANNEL, YANK, REGISTER_DATASET, SET_CARD),
        *(ACCEPT, PROVE, LAPSE, RELEASE),
    )
)
# The ledger refuses one of these that it has done, for ever: they may be signed anew even when
# nobody can say any more whether it has. A channel may point elsewhere by then.
REFUSED_TWICE: Final = frozenset((REGISTER_MODEL, REGISTER_DATASET, ACCEPT, PROVE, LAPSE, RELEASE))
DEFAULT: Final = "default"
COMMIT_SECONDS: Final = 620.0  # the wallet gives a transaction up after 600
LOOK_SECONDS: Final = 2.0
SIGN_SECONDS: Final = 2.0  # that a person waits for a signature; it comes at once
# The ledger has judged, and would judge so again.
_FINAL: Final = (Conflict, EscrowState, BondState, ModelHalted, TransactionRefused)


class CannotWait(LocalError):
    """No validator answers, and this is nothing to be done at some later time."""

    reason = "cannot_wait"


class IntentUnsure(LocalError):
    """A transaction may stand in a block this node has not, and doing it again is another thing."""

    reason = "intent_unsure"


class Sender(Protocol):
    """A wallet, as far as intents need it."""

    def rehearse(self, kind: int, payload: Record) -> None:
        """Raise what the ledger would refuse now."""
        ...

    async def submit(
        self, kind: int, payload: Record, *, keep: Callable[[bytes, int], Awaitable[None]]
    ) -> TxId:
        """Sign, have it kept, and send."""
        ...

    def submit_signed(self, raw: bytes) -> TxId:
        """Send what was signed before."""
        ...

    async def fate(self, raw: bytes, *, since: int) -> TxResult | Fate:
        """What became of it, or still may."""
        ...

    async def wait_committed(self, tx_id: TxId) -> TxResult:
        """Wait for its block."""
        ...

    def forget(self, tx_id: TxId) -> None:
        """Send it no more."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of an order until its caller was answered.

    Attributes:
        tx_id: of the transaction; None: nothing is signed yet.
        result: its place in a block; None: it is in none yet.
        queued: what it waits for, for people; empty if it waits for nothing.
    """

    tx_id: TxId | None
    result: TxResult | None
    queued: str


class Outbox:
    """Intents of the keys of one node.

    Args:
        path: of the database.
        wallet_of: the wallet of a key, by its name.
        clock: of the node.
        linked: how many validators answer, ourselves included, and how many there are.
    """

    def __init__(
        self,
        path: Path,
        wallet_of: Callable[[str], Sender],
        clock: Clock,
        linked: Callable[[], tuple[int, int]],
    ) -> None:
        self._book = IntentBook(path, clock.wall_ms)
        self._wallet_of, self._clock, self.linked = wallet_of, clock, linked
        self._news = trio.Event()

    @property
    def is_online(self) -> bool:
        """Is there a validator who could take a transaction?"""
        return self.linked()[0] > 0

    def intents(self) -> tuple[Intent, ...]:
        """What waits, the oldest first."""
        return tuple(each.intent for each in self._book.waiting())

    def ended(self) -> tuple[Intent, ...]:
        """What was over last, the newest first."""
        return tuple(self._book.ended())

    def check_now(self, what: str) -> None:
        """Refuse what cannot wait while nobody could take it.

        Raises:
            CannotWait: no validator answers.
        """
        here, of_all = self.linked()
        if not here:
            raise CannotWait(
                f"{what} is not kept for later, since its price may not hold then, and {here} of "
                f"{of_all} validators answer",
                hint="try again when they do: prsm net peers",
            )

    async def place(
        self,
        key: str,
        kind: int,
        payload: Record,
        *,
        subject: str,
        signer: str = DEFAULT,
        patience_s: float | None = None,
    ) -> Sent:
        """Order something for a person, who hears at once what the ledger would refuse.

        Args:
            key: what it is about.
            kind: of transaction, one of `KINDS`.
            payload: of that kind.
            subject: intents of one subject go one after the other.
            signer: name of the key that signs.
            patience_s: to wait for its block; None: until it is sent.

        Raises:
            WalletLocked: it needs a signature.
            LocalError: the ledger's refusal; nothing is kept.
            OutboxFull, Full, StoreUnavailable: as `put`.
        """
        if not any(each.intent.subject == subject for each in self._book.waiting()):
            self._wallet_of(signer).rehearse(kind, payload)  # behind others, only the block can say
        entry = await self._put(self._intent(key, kind, payload, subject=subject, signer=signer))
        event = entry.sent if patience_s is None else entry.over
        with trio.move_on_after(SIGN_SECONDS if patience_s is None else patience_s):
            if self.is_online:
                await event.wait()
        if entry.error is not None:
            raise entry.error
        tx_id = TxId(entry.intent.tx_id) if entry.intent.tx_id else None
        is_done = entry.result is not None or (patience_s is None and tx_id is not None)
        return Sent(tx_id, entry.result, "" if is_done else self.waits_for(entry.intent))

    async def put(
        self, key: str, kind: int, payload: Record, *, until_ms: int = 0, subject: str = ""
    ) -> None:
        """Write an intent of the node's own key down; it is sent when somebody is there.

        Args:
            key: what it is about.
            kind: of transaction, one of `KINDS`.
            payload: of that kind.
            until_ms: wall time after which nobody wants it any more; 0: it stays.
            subject: intents of one subject go one after the other.

        Raises:
            OutboxFull: so many wait already.
            Full, StoreUnavailable: the disk refused; nothing is kept.
            Unsupported: the node only starts, or stops.
        """
        await self._put(self._intent(key, kind, payload, until_ms=until_ms, subject=subject))

    async def cancel(self, key: str) -> Intent:
        """Take an intent back; a transaction that was sent may still come into a block.

        Raises:
            NotFound: none of that key waits.
        """
        entry = self._book.get(key)
        error = GivenUp(f"{key} was taken back")
        if entry is None or not await self._book.end(entry, "cancelled", error=error):
            raise NotFound(f"nothing waits as {key[:80]!r}", hint="see: prsm storage outbox")
        if entry.intent.tx_id:
            self._wallet_of(entry.intent.signer).forget(TxId(entry.intent.tx_id))
        return entry.intent

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send what waits while somebody is there, until cancelled.

        Raises:
            StoreUnavailable, Corrupt, Conflict: as for any database of the node.
        """
        await self._book.open()
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    for entry in await self._ready():
                        entry.is_busy = True
                        nursery.start_soon(self._settle, entry)
                    with trio.move_on_after(LOOK_SECONDS):
                        await self._news.wait()
                    self._news = trio.Event()
        finally:
            with trio.CancelScope(shield=True):
                await self._book.close()  # noqa: ASYNC102 - shielded above

    async def _put(self, intent: Intent) -> Entry:
        entry = await self._book.put(intent)
        self._news.set()
        return entry

    def _intent(
        self,
        key: str,
        kind: int,
        payload: Record,
        *,
        subject: str,
        until_ms: int = 0,
        signer: str = DEFAULT,
    ) -> Intent:
        assert kind in KINDS, "a kind that may not wait"
        made_ms = self._clock.wall_ms()
        return Intent(key, kind, encode(payload), made_ms, until_ms, signer=signer, subject=subject)

    async def _ready(self) -> list[Entry]:
        """What may be sent now, the oldest first; what is too late is over."""
        now_ms, now = self._clock.wall_ms(), trio.current_time()
        for entry in self._book.waiting():
            if entry.intent.until_ms and now_ms > entry.intent.until_ms and not entry.is_busy:
                await self._book.end(entry, "too_late", error=GivenUp("its time is over"))
        if not self.is_online:
            return []
        ready, subjects = [], set[str]()
        for entry in self._book.waiting():
            subject = entry.intent.subject
            if subject not in subjects and not entry.is_busy and entry.due <= now:
                ready.append(entry)
            subjects |= {subject} if subject else set()
        return ready

    async def _settle(self, entry: Entry) -> None:
        """Bring one intent into a block, or learn that it never will be."""
        how, error = "", None
        try:
            entry.result = await self._send(entry)
            how = entry.result.receipt.code.name.lower()
        except (*_FINAL, IntentUnsure, GivenUp) as refusal:
            how, error = refusal.what, refusal
        except (TransactionExpired, trio.TooSlowError) as late:
            entry.wait_longer(str(late) or "no block has come")
        except LocalError as passing:  # locked, poor, full: another time
            entry.wait_longer(passing.what)
        if how:
            await self._book.end(entry, how, error=error)
        entry.is_busy = False
        self._news.set()

    async def _send(self, entry: Entry) -> TxResult:
        """Sign and send, or send again what was signed: a second one only if the first is void."""
        intent, wallet = entry.intent, self._wallet_of(entry.intent.signer)
        fate: TxResult | Fate = Fate.VOID
        if intent.raw:
            fate = await wallet.fate(intent.raw, since=intent.since)
        if isinstance(fate, TxResult):
            return fate
        if fate is Fate.UNSEEN and intent.kind not in REFUSED_TWICE:
            raise IntentUnsure(
                f"0x{intent.tx_id.hex()} may stand in a block that this node has not",
                hint="look at the ledger, and order it again if it is not done",
            )
        if fate is Fate.OPEN:
            tx_id = wallet.submit_signed(intent.raw)
        else:
            payload = PAYLOADS.decode(intent.kind, intent.payload, size_max=TRANSACTION_BYTES_MAX)
            tx_id = await wallet.submit(intent.kind, payload, keep=partial(self._book.keep, entry))
        entry.sent.set()
        with trio.fail_after(COMMIT_SECONDS):
            return await wallet.wait_committed(tx_id)

    def waits_for(self, intent: Intent) -> str:
        """What an intent waits for, for people; empty once it is over."""
        here, of_all = self.linked()
        if intent.is_over:
            return ""
        if not here:
            return f"it will be sent when validators answer: none of {of_all} does now"
        if intent.why:
            return f"it will be tried again: {intent.why}"
        if not intent.tx_id:
            return "it will be sent when what was ordered before it is in a block"
        return f"it was sent and is in no block yet: {here} of {of_all} validators answer"


def validators_linked(driver: Driver) -> tuple[int, int]:
    """How many validators answer, ourselves included, and how many there are."""
    here = {info.peer for info in driver.network.peers()} | {driver.network.peer_id}
    validators = driver.validators.validators
    return sum(each.peer_id in here for each in validators), len(validators)
