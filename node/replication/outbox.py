"""What this node means to put on the ledger, kept until it is in a block, whatever happens between.

A wallet sends a transaction again for ten minutes and forgets it with the process; an intent here
outlives both: it is written down first, signed when somebody is there to take it, and struck out
when a block holds it or the ledger says that it never will. Knows: payloads, their kinds, when to
try again. Must not know: what an intent is for.

Invariants: one intent for each key, the latest; only kinds the ledger does not do twice; so many
intents and bytes at most; an intent is struck out only after it is settled.
Source: docs/spec/storage.md, "Outbox".
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
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
from prsm.node.chain.wallet import TransactionExpired, TxResult
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
from prsm.storage.database import Database, Migration

log = logs.get("outbox")

# Doing one of these twice is refused by the ledger, so an intent may be signed anew after a crash
# between its block and its line here. A Transfer is none of them.
KINDS: Final = frozenset(
    (
        REGISTER_MODEL,
        SET_CHANNEL,
        YANK,
        REGISTER_DATASET,
        SET_CARD,
        ACCEPT,
        PROVE,
        LAPSE,
        RELEASE,
    )
)
INTENTS_MAX: Final = 1_000
BYTES_MAX: Final = 8 * 2**20
KEY_MAX: Final = 128
RETRY_FIRST_SECONDS: Final = 2.0
RETRY_LONGEST_SECONDS: Final = 60.0
COMMIT_SECONDS: Final = 620.0  # the wallet gives a transaction up after 600
LOOK_SECONDS: Final = 2.0
# The ledger has judged, and would judge so again.
_FINAL: Final = (Conflict, EscrowState, BondState, ModelHalted, TransactionRefused)
_MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        """CREATE TABLE intent(
            key TEXT PRIMARY KEY, kind INTEGER NOT NULL, payload BLOB NOT NULL,
            made_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL)""",
    ),
)


class OutboxFull(LocalError):
    """As many intents wait as this node keeps."""

    reason = "outbox_full"


class Sender(Protocol):
    """The wallet, as far as intents need it."""

    async def submit(self, kind: int, payload: Record) -> TxId:
        """Sign and send."""
        ...

    async def wait_committed(self, tx_id: TxId) -> TxResult:
        """Wait for its block."""
        ...


@dataclass(frozen=True, slots=True)
class Intent:
    """Something to put on the ledger.

    Attributes:
        key: what it is about; a later intent of the same key takes its place.
        kind: of transaction.
        payload: canonical bytes.
        made_ms: wall time.
        until_ms: wall time after which nobody wants it any more; 0: it stays.
        why: what the last try ended with; empty before it.
    """

    key: str
    kind: int
    payload: bytes
    made_ms: int
    until_ms: int = 0
    why: str = ""


class Outbox:
    """Intents of one wallet; `open` is the way in.

    Args:
        database: of intents.
        sender: the wallet.
        clock: of the node.
        is_online: is there anybody who could take a transaction?
    """

    def __init__(
        self, database: Database, sender: Sender, clock: Clock, is_online: Callable[[], bool]
    ) -> None:
        self._database, self._sender, self._clock = database, sender, clock
        self._is_online = is_online
        self._intents: dict[str, Intent] = {}
        self._due: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        self._busy: set[str] = set()
        self._news = trio.Event()

    @classmethod
    async def open(
        cls, path: Path, sender: Sender, clock: Clock, is_online: Callable[[], bool]
    ) -> "Outbox":
        """Open or make the file, with what it held.

        Raises:
            StoreUnavailable, Corrupt, Conflict: as for any database of the node.
        """
        outbox = cls(await Database.open(path, migrations=_MIGRATIONS), sender, clock, is_online)
        outbox._intents = {each.key: each for each in await outbox._database.read(_all)}
        return outbox

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    def intents(self) -> tuple[Intent, ...]:
        """What waits, the oldest first."""
        return tuple(sorted(self._intents.values(), key=lambda each: (each.made_ms, each.key)))

    async def put(self, key: str, kind: int, payload: Record, *, until_ms: int = 0) -> None:
        """Write an intent down; it is sent when somebody is there.

        Args:
            key: what it is about.
            kind: of transaction, one of `KINDS`.
            payload: of that kind.
            until_ms: wall time after which nobody wants it any more; 0: it stays.

        Raises:
            OutboxFull: so many wait already.
            Full, StoreUnavailable: the disk refused; nothing is kept.
        """
        assert kind in KINDS, "a kind that the ledger would do twice"
        assert len(key) <= KEY_MAX
        raw = encode(payload)
        intent = Intent(key, kind, raw, self._clock.wall_ms(), until_ms)
        others = [each for each in self._intents.values() if each.key != key]
        size = len(raw) + sum(len(each.payload) for each in others)
        if len(others) >= INTENTS_MAX or size > BYTES_MAX:
            raise OutboxFull(
                f"{len(others)} intents wait, {size} bytes: at most {INTENTS_MAX}, {BYTES_MAX}",
                hint="see why they wait: prsm chain status",
            )
        await self._database.write(lambda db: _write(db, intent))
        self._intents[key] = intent
        self._due.pop(key, None)
        self._news.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send what waits while somebody is there, until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                for intent in await self._ready():
                    self._busy.add(intent.key)
                    nursery.start_soon(self._settle, intent)
                with trio.move_on_after(LOOK_SECONDS):
                    await self._news.wait()
                self._news = trio.Event()

    async def _ready(self) -> list[Intent]:
        """What may be sent now, the oldest first; what is too late is struck out."""
        now_ms, now = self._clock.wall_ms(), trio.current_time()
        for intent in self.intents():
            if intent.until_ms and now_ms > intent.until_ms and intent.key not in self._busy:
                await self._strike(intent, "its time is over")
        if not self._is_online():
            return []
        waiting = (each for each in self.intents() if each.key not in self._busy)
        return [each for each in waiting if self._due.get(each.key, 0.0) <= now]

    async def _settle(self, intent: Intent) -> None:
        """Bring one intent into a block, or learn that it never will be."""
        try:
            payload = PAYLOADS.decode(intent.kind, intent.payload, size_max=TRANSACTION_BYTES_MAX)
            tx_id = await self._sender.submit(intent.kind, payload)
            with trio.fail_after(COMMIT_SECONDS):
                result = await self._sender.wait_committed(tx_id)
        except _FINAL as refusal:
            await self._strike(intent, refusal.what)
        except (TransactionExpired, trio.TooSlowError) as error:
            self._wait(intent, str(error))
        except LocalError as error:  # locked, poor, full: another time
            self._wait(intent, error.what)
        else:
            await self._strike(intent, result.receipt.code.name.lower())
        finally:
            self._busy.discard(intent.key)
            self._news.set()

    def _wait(self, intent: Intent, why: str) -> None:
        pause = self._pause.get(intent.key, RETRY_FIRST_SECONDS)
        self._pause[intent.key] = min(RETRY_LONGEST_SECONDS, 2 * pause)
        self._due[intent.key] = trio.current_time() + pause
        if self._intents.get(intent.key) is intent:
            waiting = Intent(
                intent.key, intent.kind, intent.payload, intent.made_ms, intent.until_ms, why
            )
            self._intents[intent.key] = waiting
        log.info("an intent waits", key=intent.key, why=why)

    async def _strike(self, intent: Intent, why: str) -> None:
        """Forget an intent that is settled, unless a later one took its place."""
        self._due.pop(intent.key, None)
        self._pause.pop(intent.key, None)
        found = self._intents.get(intent.key)
        if found is None or found.payload != intent.payload or found.made_ms != intent.made_ms:
            return
        await self._database.write(
            lambda db: db.execute("DELETE FROM intent WHERE key=?", (intent.key,))
        )
        self._intents.pop(intent.key, None)
        log.info("an intent is settled", key=intent.key, how=why)


def _all(db: sqlite3.Connection) -> list[Intent]:
    rows = db.execute("SELECT key, kind, payload, made_ms, until_ms FROM intent")
    return [Intent(*row) for row in rows]


def _write(db: sqlite3.Connection, intent: Intent) -> None:
    db.execute(
        """INSERT INTO intent VALUES(?1,?2,?3,?4,?5)
           ON CONFLICT(key) DO UPDATE SET kind=?2, payload=?3, made_ms=?4, until_ms=?5""",
        (intent.key, intent.kind, intent.payload, intent.made_ms, intent.until_ms),
    )
