"""Whose things on this node are: tenants, their quotas, what each of them owns. One SQLite file.

Knows: names, kinds, ids, bytes. Must not know: what a kind is, who asks. An owner is a claim:
an object may have several, a job has one.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prsm.storage import outlays
from prsm.storage.database import Database

OWNED_MAX: Final = 100_000  # claims of one tenant; older ones of what is over go first
TENANTS_MAX: Final = 1_000
_MIGRATIONS: Final = (
    (
        (
            "CREATE TABLE tenant(name TEXT PRIMARY KEY, running_max INTEGER NOT NULL, "
            "storage_bytes_max INTEGER NOT NULL, calls_per_s INTEGER NOT NULL, "
            "made_ms INTEGER NOT NULL) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE claim(kind TEXT NOT NULL, id TEXT NOT NULL, tenant TEXT NOT NULL, "
            "bytes INTEGER NOT NULL, made_ms INTEGER NOT NULL, "
            "PRIMARY KEY(kind, id, tenant)) WITHOUT ROWID"
        ),
        "CREATE INDEX claim_of ON claim(tenant, kind, made_ms)",
        *outlays.TABLES,
    ),
)
_PUT_TENANT: Final = (
    "INSERT INTO tenant VALUES(?, ?, ?, ?, ?) ON CONFLICT(name) DO UPDATE SET "
    "running_max=excluded.running_max, storage_bytes_max=excluded.storage_bytes_max, "
    "calls_per_s=excluded.calls_per_s"
)
_CLAIM: Final = "INSERT INTO claim VALUES(?, ?, ?, ?, ?)"
_BYTES_OF: Final = "SELECT COALESCE(SUM(bytes), 0) FROM claim WHERE tenant=?"
_COLUMNS: Final = "SELECT name, running_max, storage_bytes_max, calls_per_s, made_ms FROM tenant "


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A tenant and what it may use at once."""

    name: str
    running_max: int  # jobs, plans and generations at work
    storage_bytes_max: int  # of objects it claims
    calls_per_s: int
    made_ms: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A thing that is somebody's, and its bytes."""

    kind: str
    id: str
    tenant: str
    size_bytes: int
    made_ms: int


class Tenancy:
    """The tables of tenants and claims."""

    def __init__(self, database: Database) -> None:
        """Wrap an open file; `open_database` is the way in."""
        self.database = database

    async def tenants(self) -> Sequence[TenantRow]:
        """All tenants by name."""

        def read(db: sqlite3.Connection) -> list[TenantRow]:
            return [TenantRow(*row) for row in db.execute(_COLUMNS + "ORDER BY name")]

        return await self.database.read(read)

    async def put_tenant(self, row: TenantRow) -> None:
        """Keep a tenant; one that is there keeps the time it was made.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        values = (
            *(row.name, row.running_max, row.storage_bytes_max),
            *(row.calls_per_s, row.made_ms),
        )
        await self.database.write(lambda db: db.execute(_PUT_TENANT, values))

    async def remove_tenant(self, name: str) -> bool:
        """Forget a tenant and what it claimed; was there one? What it claimed stays, unowned."""

        def write(db: sqlite3.Connection) -> bool:
            db.execute("DELETE FROM claim WHERE tenant=?", (name,))
            return db.execute("DELETE FROM tenant WHERE name=?", (name,)).rowcount > 0

        return await self.database.write(write)

    async def claim(
        self, tenant: str, kind: str, ids: Sequence[str], *, size_bytes: int = 0, now_ms: int
    ) -> None:
        """Note that things are a tenant's; again: its size is put anew.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        rows = [(kind, one, tenant, size_bytes, now_ms) for one in ids]

        def write(db: sqlite3.Connection) -> None:
            db.executemany(
                f"{_CLAIM} ON CONFLICT(kind, id, tenant) DO UPDATE SET bytes=excluded.bytes", rows
            )
            db.execute(
                "DELETE FROM claim WHERE tenant=?1 AND kind=?2 AND id IN (SELECT id FROM claim "
                "WHERE tenant=?1 AND kind=?2 ORDER BY made_ms DESC LIMIT -1 OFFSET ?3)",
                (tenant, kind, OWNED_MAX),
            )

        await self.database.write(write)

    async def claim_within(
        self, claim: Claim, bytes_max: int, *, before: str | None = None
    ) -> tuple[bool, int]:
        """Claim a thing if there is room for it, in the transaction that found the room.

        Args:
            claim: of which thing, whose.
            bytes_max: of all that this tenant claims.
            before: whose it was until now, if nobody claims it.

        Returns:
            Whether the claim is new, and what was claimed before; with it above `bytes_max` nothing
            is written.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """

        def write(db: sqlite3.Connection) -> tuple[bool, int]:
            of_it = "SELECT 1 FROM claim WHERE kind=? AND id=?"
            thing = (claim.kind, claim.id)
            if db.execute(f"{of_it} AND tenant=?", (*thing, claim.tenant)).fetchone():
                return False, 0
            (used,) = db.execute(_BYTES_OF, (claim.tenant,)).fetchone()
            if used + claim.size_bytes <= bytes_max:
                if before is not None and not db.execute(of_it, thing).fetchone():
                    db.execute(_CLAIM, (*thing, before, 0, claim.made_ms))
                db.execute(_CLAIM, (*thing, claim.tenant, claim.size_bytes, claim.made_ms))
            return True, int(used)

        return await self.database.write(write)

    async def release(self, tenant: str, kind: str, one: str) -> None:
        """Give a claim up."""
        values = (kind, one, tenant)
        await self.database.write(
            lambda db: db.execute("DELETE FROM claim WHERE kind=? AND id=? AND tenant=?", values)
        )

    async def owns(self, tenant: str, kind: str, one: str) -> bool:
        """Has a tenant a claim to a thing?"""
        values = (kind, one, tenant)
        return await self.database.read(
            lambda db: (
                db.execute(
                    "SELECT 1 FROM claim WHERE kind=? AND id=? AND tenant=?", values
                ).fetchone()
                is not None
            )
        )

    async def owned(self, tenant: str, kind: str) -> frozenset[str]:
        """Ids of one kind a tenant has a claim to."""
        return await self.database.read(
            lambda db: frozenset(
                one
                for (one,) in db.execute(
                    "SELECT id FROM claim WHERE tenant=? AND kind=?", (tenant, kind)
                )
            )
        )

    async def owners(self, kind: str, one: str) -> frozenset[str]:
        """Tenants with a claim to a thing."""
        return await self.database.read(
            lambda db: frozenset(
                name
                for (name,) in db.execute(
                    "SELECT tenant FROM claim WHERE kind=? AND id=?", (kind, one)
                )
            )
        )

    async def claimed_by_anybody(self, kind: str) -> frozenset[str]:
        """Ids of one kind that some tenant claims."""
        return await self.database.read(
            lambda db: frozenset(
                one for (one,) in db.execute("SELECT id FROM claim WHERE kind=?", (kind,))
            )
        )

    async def newest_claims(
        self, kinds: Sequence[str], limit: int
    ) -> Sequence[tuple[str, str, str]]:
        """Kind, id and tenant of the newest claims of these kinds."""
        marks = ",".join("?" * len(kinds))
        query = f"SELECT kind, id, tenant FROM claim WHERE kind IN ({marks}) "  # noqa: S608 - marks
        query += "ORDER BY made_ms DESC LIMIT ?"

        def read(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
            return [(kind, one, name) for kind, one, name in db.execute(query, (*kinds, limit))]

        return await self.database.read(read)

    async def bytes_of(self, tenant: str) -> int:
        """Bytes of what a tenant claims."""
        return await self.database.read(
            lambda db: int(db.execute(_BYTES_OF, (tenant,)).fetchone()[0])
        )


async def open_database(path: Path) -> Database:
    """The file of tenants and outlays; whoever opens it closes it.

    Raises:
        Conflict, StoreUnavailable, Corrupt: as `Database.open`.
    """
    return await Database.open(path, migrations=_MIGRATIONS)
