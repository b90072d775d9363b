"""The intents of a node, in its file and in memory, which change together.

Knows: which of them wait, are over, are one after the other. Must not know: wallets, validators.

Invariants: one intent for each key, the latest; so many and so many bytes at most; what is over
does not change any more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import trio

from prsm.node.chain.intents import (
    MIGRATIONS,
    Intent,
    delete_intents,
    insert_intent,
    read_intents,
    update_intent,
)
from prsm.node.chain.wallet import TxResult
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, Unsupported
from prsm.protocol.transactions.envelope import transaction_id
from prsm.storage.database import Database

log = logs.get("outbox")

INTENTS_MAX: Final = 1_000
ENDED_MAX: Final = 64  # that are remembered
BYTES_MAX: Final = 8 * 2**20
KEY_MAX: Final = 160
RETRY_FIRST_SECONDS: Final = 2.0
RETRY_LONGEST_SECONDS: Final = 60.0


class OutboxFull(LocalError):
    """As many intents wait as this node keeps."""

    reason = "outbox_full"


class GivenUp(LocalError):
    """Somebody took an intent back, its time is over, or another one took its place."""

    reason = "cancelled"


@dataclass(slots=True, eq=False)
class Entry:
    """An intent, and how it goes in this run of the node.

    Attributes:
        intent: as the file has it, with what the last try ended with.
        due: of the event loop's clock, before which it is not tried again.
        pause: seconds between the next two tries.
        is_busy: is somebody at work on it?
        sent: it was given to validators, or is over.
        over: it is over.
        result: its place in a block.
        error: why it has none.
    """

    intent: Intent
    due: float = 0.0
    pause: float = field(default_factory=lambda: RETRY_FIRST_SECONDS)
    is_busy: bool = False
    sent: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)
    result: TxResult | None = None
    error: LocalError | None = None

    def wait_longer(self, why: str) -> None:
        """Note a try that failed."""
        self.due = trio.current_time() + self.pause
        self.pause = min(RETRY_LONGEST_SECONDS, 2 * self.pause)
        self.intent = replace(self.intent, why=why)
        log.info("an intent waits", key=self.intent.key, why=why)

    def tell(self, error: LocalError | None) -> None:
        """Wake who waits for it."""
        self.error = self.error or error
        self.sent.set()
        self.over.set()


class IntentBook:
    """What one node keeps of its intents.

    Args:
        path: of the database.
        now_ms: wall clock.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int]) -> None:
        self._path, self._now_ms = path, now_ms
        self._database: Database | None = None
        self._entries: dict[str, Entry] = {}  # the oldest first
        self._turn = trio.Lock()

    async def open(self) -> None:
        """Open or make the file, with what it held.

        Raises:
            StoreUnavailable, Corrupt, Conflict: as for any database of the node.
        """
        self._database = await Database.open(self._path, migrations=MIGRATIONS)
        self._entries = {each.key: Entry(each) for each in await self._file.read(read_intents)}

    async def close(self) -> None:
        """Close the file."""
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    def waiting(self) -> list[Entry]:
        """What is not over, the oldest first."""
        return [each for each in self._entries.values() if not each.intent.is_over]

    def ended(self) -> list[Intent]:
        """What was over last, the newest first."""
        over = (each.intent for each in self._entries.values() if each.intent.is_over)
        return sorted(over, key=lambda each: each.ended_ms, reverse=True)

    def get(self, key: str) -> Entry | None:
        """What waits under a key."""
        entry = self._entries.get(key)
        return None if entry is None or entry.intent.is_over else entry

    async def put(self, intent: Intent) -> Entry:
        """Write an intent down; the same one that waits already is that one.

        Raises:
            OutboxFull: so many wait already.
            Full, StoreUnavailable: the disk refused; nothing is kept.
            Unsupported: the file is not open.
        """
        assert len(intent.key) <= KEY_MAX
        async with self._turn:
            waits = self.get(intent.key)
            if waits is not None and _is_same(waits.intent, intent):
                return waits
            self._check_room(intent)
            await self._file.write(lambda db: insert_intent(db, intent))
            before = self._entries.pop(intent.key, None)
            entry = self._entries[intent.key] = Entry(intent)
            if before is not None:
                before.tell(GivenUp(f"another {intent.key} took its place"))
        return entry

    async def keep(self, entry: Entry, raw: bytes, height: int) -> None:
        """Note the transaction that an intent has become, and the ledger's height.

        Raises:
            GivenUp: nobody wants it any more.
            Full, StoreUnavailable: the disk refused; nothing is kept.
        """
        async with self._turn:
            if not self._is_present(entry):
                raise GivenUp(f"{entry.intent.key} is not wanted any more")
            tx_id = transaction_id(raw)
            await self._change(entry, replace(entry.intent, raw=raw, tx_id=tx_id, since=height))

    async def end(self, entry: Entry, how: str, *, error: LocalError | None = None) -> bool:
        """Note what became of an intent; false if it was over before.

        Raises:
            Full, StoreUnavailable: the disk refused; it waits as before.
        """
        async with self._turn:
            is_present = self._is_present(entry)
            if is_present:
                intent = replace(
                    entry.intent, payload=b"", raw=b"", how=how, ended_ms=self._now_ms()
                )
                await self._change(entry, intent)
                await self._forget_old()
                log.info("an intent is over", key=intent.key, how=how)
        entry.tell(error)
        return is_present

    async def _change(self, entry: Entry, intent: Intent) -> None:
        await self._file.write(lambda db: update_intent(db, intent))
        entry.intent = intent

    async def _forget_old(self) -> None:
        old = [each.key for each in self.ended()[ENDED_MAX:]]
        if old:
            await self._file.write(lambda db: delete_intents(db, old))
            for key in old:
                del self._entries[key]

    def _is_present(self, entry: Entry) -> bool:
        """Is it still what its key stands for, and not over?"""
        return self.get(entry.intent.key) is entry

    def _check_room(self, intent: Intent) -> None:
        others = [each.intent for each in self.waiting() if each.intent.key != intent.key]
        size = len(intent.payload) + sum(len(each.payload) for each in others)
        if len(others) >= INTENTS_MAX or size > BYTES_MAX:
            raise OutboxFull(
                f"{len(others)} intents wait, {size} bytes: at most {INTENTS_MAX}, {BYTES_MAX}",
                hint="see why they wait: prsm storage outbox",
            )

    @property
    def _file(self) -> Database:
        if self._database is None:
            raise Unsupported("intents are not open", hint="try again in a second")
        return self._database


def _is_same(one: Intent, other: Intent) -> bool:
    return (one.kind, one.payload, one.signer) == (other.kind, other.payload, other.signer)
