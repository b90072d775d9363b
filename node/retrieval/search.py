"""Search by meaning over what the ledger registers: `prsm model search`.

The index is brought up to date by the search itself, as far as its time allows: what could not be
read is counted, never guessed. Knows: the order of steps. Must not know: how a card is checked, a
text embedded, a vector compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.consensus.ledger.releases import Release
from prsm.node.retrieval.catalogue import (
    Filters,
    Listing,
    Reading,
    read_listing,
    searchable,
    stamp_of,
)
from prsm.node.retrieval.embedder import DIMENSION, Embedder
from prsm.node.retrieval.vectors import VectorProcess
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, PrsmError
from prsm.storage.vectors.interface import LIMIT_MAX, Condition, Entry, Hit, Label

log = logs.get("retrieval")

QUERY_CHARACTERS_MAX: Final = 1_000
READ_SECONDS: Final = 10.0  # for cards of peers, in one search
READERS: Final = 8
EMBEDDED_AT_ONCE: Final = 64


class BadQuery(LocalError):
    """A question with nothing in it, or with too much."""

    reason = "invalid_params"


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One name that fits: what it means now, and how near its card is to the question."""

    cid: bytes
    name: str
    semver: str
    subject: str
    score: float  # cosine, six decimals
    summary: str
    task: str  # empty: no card
    licence: str
    size_bytes: int
    price_per_row: int | None  # micro-FTNS; None: no card
    has_card: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The answer, and what it is an answer over.

    Attributes:
        rows: score descending, then name.
        indexed: names that were compared.
        registered: names on the ledger that could be found.
        unread: names whose card or manifest was not to be had or not to be believed.
        backend: how vectors were compared, `exact` or `hnsw`.
    """

    rows: tuple[FoundModel, ...]
    indexed: int
    registered: int
    unread: int
    backend: str


class CardSearch:
    """Keeps vectors of cards beside the ledger and searches them."""

    def __init__(self, reading: Reading, embedder: Embedder, vectors: VectorProcess) -> None:
        """Take where cards are read, who embeds, and where vectors are kept."""
        self._reading, self._embedder, self._vectors = reading, embedder, vectors
        self._lock = trio.Lock()
        self._stamps: dict[bytes, str] = {}  # of the entries, as far as this process knows

    async def search(self, query: str, *, filters: Filters, limit: int = 10) -> Found:
        """The names whose cards are nearest to a question; the caller sets the deadline.

        Raises:
            BadQuery: an empty or too long question, or a limit out of 1 to 500.
            Unsupported: this machine cannot embed; the hint says what to install.
            LocalError: the worker or the process of vectors failed.
        """
        if not query.strip() or len(query) > QUERY_CHARACTERS_MAX:
            raise BadQuery(f"a question of {len(query)} characters, 1 to {QUERY_CHARACTERS_MAX}")
        if not 1 <= limit <= LIMIT_MAX:
            raise BadQuery(f"{limit} results, 1 to {LIMIT_MAX}")
        (vector,) = await self._embedder.embed([query])
        wanted, unread = await self._bring_up()
        rows = await self._nearest(vector, limit, filters.conditions())
        entries, backend = await self._vectors.count()
        return Found(rows, entries, len(wanted), unread, backend)

    async def nearest(
        self, vectors: Sequence[bytes], *, limit: int = 10
    ) -> list[tuple[FoundModel, ...]]:
        """The names whose cards are nearest to each vector, as `search` ranks them.

        Args:
            vectors: float32 little-endian (384,) each, of the model that reads cards.
            limit: results of each.

        Raises:
            BadQuery: a vector of another width, or a limit out of 1 to 500.
            LocalError: as `search`.
        """
        if not 1 <= limit <= LIMIT_MAX:
            raise BadQuery(f"{limit} results, 1 to {LIMIT_MAX}")
        wrong = next((len(each) // 4 for each in vectors if len(each) != 4 * DIMENSION), None)
        if wrong is not None:
            raise BadQuery(
                f"a vector of {wrong} numbers, cards are found by {DIMENSION}",
                hint="embed with MiniLM",
            )
        await self._bring_up()
        return [await self._nearest(vector, limit, ()) for vector in vectors]

    async def _bring_up(self) -> tuple[Mapping[bytes, Release], int]:
        """The index as of now: what could be found, and how many names could not be read."""
        # All records of the registry are read: beside the loop, for there may be many.
        wanted = await trio.to_thread.run_sync(searchable, self._reading.view)
        async with self._lock:
            return wanted, await self._refresh(wanted)

    async def _nearest(
        self, vector: bytes, limit: int, where: Sequence[Condition]
    ) -> tuple[FoundModel, ...]:
        hits = await self._vectors.search(vector, limit=limit, where=where)
        return tuple(sorted(map(_row, hits), key=lambda row: (-row.score, row.name)))

    async def _refresh(self, wanted: Mapping[bytes, Release]) -> int:
        """Bring the index up to date; how many names could not be read."""
        known = await self._known()
        await self._delete([each for each in known if each not in wanted])
        stale = [release for cid, release in wanted.items() if known.get(cid) != stamp_of(release)]
        listings = await self._read(stale)
        for start in range(0, len(listings), EMBEDDED_AT_ONCE):
            part = listings[start : start + EMBEDDED_AT_ONCE]
            vectors = await self._embedder.embed([listing.text for listing in part])
            await self._vectors.upsert(
                [
                    Entry(listing.release.manifest, vector, listing.labels)
                    for listing, vector in zip(part, vectors, strict=True)
                ]
            )
            known.update((each.release.manifest, stamp_of(each.release)) for each in part)
        read = {listing.release.manifest for listing in listings}
        gone = [each.manifest for each in stale if each.manifest not in read]
        await self._delete([cid for cid in gone if cid in known])  # said otherwise before
        return len(gone)

    async def _known(self) -> dict[bytes, str]:
        """Stamps of the entries; read anew when there are more or fewer than is known."""
        entries, _ = await self._vectors.count()
        if entries != len(self._stamps):
            labels = await self._vectors.labels()
            self._stamps = {each: _text(found, "stamp") for each, found in labels.items()}
        return self._stamps

    async def _delete(self, ids: Sequence[bytes]) -> None:
        await self._vectors.delete(ids)
        for each in ids:
            del self._stamps[each]

    async def _read(self, releases: Sequence[Release]) -> list[Listing]:
        """Cards of releases, as many as are to be had in time, in the order given."""
        found: dict[bytes, Listing] = {}
        limiter = trio.CapacityLimiter(READERS)

        async def read(release: Release) -> None:
            async with limiter:
                try:
                    found[release.manifest] = await read_listing(release, self._reading)
                except PrsmError as error:
                    log.info("card is not read", name=release.name, why=error.what)

        with trio.move_on_after(READ_SECONDS):
            async with trio.open_nursery() as nursery:
                for release in releases:
                    nursery.start_soon(read, release)
        return [found[each.manifest] for each in releases if each.manifest in found]


def _row(hit: Hit) -> FoundModel:
    labels = hit.labels
    price = labels.get("price")
    return FoundModel(
        cid=hit.id,
        name=_text(labels, "name"),
        semver=_text(labels, "semver"),
        subject=_text(labels, "subject"),
        score=hit.score / 1_000_000,
        summary=_text(labels, "summary"),
        task=_text(labels, "task"),
        licence=_text(labels, "licence"),
        size_bytes=int(labels.get("size", 0)),
        price_per_row=price if isinstance(price, int) else None,
        has_card=bool(labels.get("card")),
    )


def _text(labels: Mapping[str, Label], name: str) -> str:
    return str(labels.get(name, ""))
