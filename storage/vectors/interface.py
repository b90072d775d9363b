"""The port behind which vectors are kept and searched; one battery runs on every implementation.

Knows: what a store promises. Must not know: numpy, files, who asks. A vector is bytes here,
float32 little-endian (dimension,), so that a caller needs no array library. A score is a whole
number of millionths of a cosine, so that equal scores are equal on every machine.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from prsm.protocol.errors import LocalError

ID_BYTES_MAX: Final = 64
LABELS_MAX: Final = 16
LIMIT_MAX: Final = 500  # hits, and ids of a page
BATCH_MAX: Final = 256  # entries of one upsert: one transaction
MILLION: Final = 1_000_000

Label = str | int
Relation = Literal["=", "<=", ">="]


class BadVector(LocalError):
    """Bytes that are no vector of this store, or an id or labels beyond their bounds."""

    reason = "invalid_params"


@dataclass(frozen=True, slots=True)
class Entry:
    """One vector: its id, float32 little-endian (dimension,), and what filters may ask."""

    id: bytes
    vector: bytes
    labels: Mapping[str, Label] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a label must be; an entry without that label, or with one of another type, is out."""

    label: str
    relation: Relation
    value: Label

    def holds(self, labels: Mapping[str, Label]) -> bool:
        """Does the entry with these labels pass?"""
        found = labels.get(self.label)
        if isinstance(found, str) and isinstance(self.value, str):
            return _compare(found, self.relation, self.value)
        if isinstance(found, int) and isinstance(self.value, int):
            return _compare(found, self.relation, self.value)
        return False


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry found: its cosine to the query in millionths, -1,000,000 to 1,000,000."""

    id: bytes
    score: int
    labels: Mapping[str, Label]


class VectorStore(Protocol):
    """Vectors on disk, in memory for search; one process, one thread.

    A write is durable when it returns, and whole or absent after a crash. Order of hits: score
    descending, then id ascending: the same bytes give the same list everywhere.
    """

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        ...

    @property
    def backend(self) -> str:
        """How it searches: `exact`, or `hnsw`."""
        ...

    def upsert(self, entries: Sequence[Entry]) -> None:
        """Put entries in, in place of those of the same ids; all of them or none.

        Raises:
            BadVector: one of them, or more than 256; none is put in.
        """
        ...

    def delete(self, ids: Sequence[bytes]) -> int:
        """Take entries out; how many there were of them."""
        ...

    def get(self, entry_id: bytes) -> Entry | None:
        """An entry, its vector of unit length."""
        ...

    def search(self, query: bytes, *, limit: int, where: Sequence[Condition] = ()) -> Sequence[Hit]:
        """The nearest entries that pass all conditions, at most `limit` (1 to 500).

        Raises:
            BadVector: the query is no vector of this store.
        """
        ...

    def ids(self, after: bytes, limit: int) -> Sequence[tuple[bytes, Mapping[str, Label]]]:
        """Ids above one, ascending, with their labels."""
        ...

    def count(self) -> int:
        """Entries."""
        ...

    def rebuild(self) -> None:
        """Make what is kept beside the entries anew, and give freed space back."""
        ...

    def close(self) -> None:
        """Close; twice is once."""
        ...


def check_entries(entries: Iterable[Entry]) -> None:
    """Check ids and labels; vectors are the store's to check.

    Raises:
        BadVector: says what is out of bounds.
    """
    listed = list(entries)
    if len(listed) > BATCH_MAX:
        raise BadVector(f"{len(listed)} entries at once, at most {BATCH_MAX}")
    if len({entry.id for entry in listed}) != len(listed):
        raise BadVector("two entries of one id at once")
    for entry in listed:
        if not 1 <= len(entry.id) <= ID_BYTES_MAX:
            raise BadVector(f"an id of {len(entry.id)} bytes, 1 to {ID_BYTES_MAX}")
        if len(entry.labels) > LABELS_MAX:
            raise BadVector(f"{len(entry.labels)} labels, at most {LABELS_MAX}")


def check_limit(limit: int) -> None:
    """Check how many hits are asked for.

    Raises:
        BadVector: none, or more than 500.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise BadVector(f"{limit} hits, 1 to {LIMIT_MAX}")


def _compare(found: Label, relation: Relation, value: Label) -> bool:
    match relation:
        case "=":
            return found == value
        case "<=":
            return found <= value  # type: ignore[operator]  # the caller saw to equal types
        case ">=":
            return found >= value  # type: ignore[operator]  # likewise
