"""The ports of the exchange: where blocks come from, and where they go.

Knows: what a source and a place to write promise. Must not know: transports, disks. One battery
(`tests/tools/source_battery.py`) runs on every source.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar, runtime_checkable

from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a file: its place, the sha2-256 it must have, and its size in bytes."""

    index: int
    digest: bytes
    size: int


# Sources of a later tier are asked when those before give little (`exchange`).
TIER_PEER: Final = 0  # nodes of this network, over range streams
TIER_BITSWAP: Final = 1
TIER_DAEMON: Final = 2  # the operator's own IPFS daemons
TIER_GATEWAY: Final = 3


@dataclass(frozen=True, slots=True)
class Traits:
    """How a source likes to be asked.

    Attributes:
        tier: the lower one is asked first.
        asks_max: calls of `fetch` open at once.
        run_leaves: leaves in one of them.
    """

    tier: int = TIER_PEER
    asks_max: int = 4
    run_leaves: int = 8


@runtime_checkable
class Described(Protocol):
    """A source that says how it likes to be asked."""

    @property
    def traits(self) -> Traits:
        """Constant."""
        ...


class Source(Protocol):
    """Somebody who may hold blocks. Everything it returns is unverified: the exchange hashes.

    Every method is a checkpoint, may be cancelled at any await, and sets no deadline of its own
    (the caller does; a library's socket timeout below that is allowed). Each may raise
    `NotFound` (it says it does not hold that), `SourceDown`, `SourceSlow`, `SourceBroken` or
    `SourceFailed`; any of them but `NotFound`, and a `SourceSlow` that names a time to come back,
    makes the exchange drop the source for the session.
    """

    @property
    def name(self) -> str:
        """Who this is, for people and for penalties: a peer id, or a daemon's URL."""
        ...

    async def have(self, root: Cid) -> Have | None:
        """Say which leaves of a root it holds; None if it cannot tell without trying.

        Raises:
            NotFound: it holds nothing of that root.
        """
        ...

    async def node(self, digest: bytes) -> bytes:
        """Return the block of this sha2-256 digest: an interior node or a manifest.

        Raises:
            NotFound: it does not hold it.
        """
        ...

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        """Return the blocks of successive leaves, in that order; a shorter answer is a prefix.

        Raises:
            NotFound: it does not hold the first of them.
        """
        ...


def traits_of(source: Source) -> Traits:
    """How a source likes to be asked; one that says nothing is taken for a peer."""
    return source.traits if isinstance(source, Described) else Traits()


class Landing(Protocol):
    """A file on its way here: `resume.Partial`, and memory in tests."""

    @property
    def root(self) -> Cid:
        """What is fetched."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        ...

    @property
    def verified_bytes(self) -> int:
        """Bytes that are here and right."""
        ...

    def wanted_nodes(self) -> Sequence[bytes]:
        """Digests of the interior nodes needed before leaves can be asked for."""
        ...

    async def put_node(self, raw: bytes) -> None:
        """Take an interior node; BadDag if it is none of this file's."""
        ...

    def missing(self) -> Sequence[Leaf]:
        """The leaves that are not here, in order; only when no node is wanted."""
        ...

    def holds(self, leaf: Leaf) -> bool:
        """Whether a leaf is here and right."""
        ...

    async def write_run(self, leaves: Sequence[Leaf], blocks: Sequence[bytes]) -> None:
        """Hash and write leaves up to the first that does not match, which is SourceCorrupt."""
        ...


_L = TypeVar("_L", bound=Landing)


class FileStore(Protocol[_L]):
    """Where fetched files go: `model_store.ModelStore`, and memory in tests."""

    async def has(self, root: Cid) -> bool:
        """Whether a file is here, whole."""
        ...

    async def begin_fetch(self, root: Cid, size: int) -> _L:
        """Start or go on with a file."""
        ...

    async def end_fetch(self, partial: _L) -> None:
        """Close a fetch: a whole file is there from now on, else it can go on later."""
        ...
