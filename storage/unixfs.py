"""Files as Merkle DAGs: an importer and a strict reader, profile `unixfs-v1-2025`.

Knows: dag-pb, UnixFS, and that size and profile fix the whole shape of a DAG. Must not know:
where blocks are stored or fetched. Source: docs/spec/storage.md, "CID profile"; IPIP-499.

The reader takes a root and a size that somebody vouched for (a manifest), so every node has
exactly one admissible number of children, sizes and codecs: a hostile DAG (shared subtrees that
multiply, deep chains, false sizes) is refused at its first node that differs.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prsm.protocol.errors import LocalError
from prsm.protocol.limits import BLOCK_BYTES_MAX, LEAF_BYTES
from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.dagpb import File, PbLink, decode_file, encode_file, encode_wrapped_leaf
from prsm.storage.errors import BadDag
from prsm.storage.interfaces import Leaf

# The bitset of a `Have` answer is at most 65,536 bytes; 512 GiB in one file.
LEAVES_MAX: Final = 65_536 * 8
DEPTH_MAX: Final = 4

Keep = Callable[[Cid, bytes], None]


@dataclass(frozen=True, slots=True)
class Profile:
    """Every parameter a root depends on; a default relied on would be a different CID.

    `wrapped` is the form of old daemons: version 0, leaves inside dag-pb.
    """

    name: str
    chunk: int
    width: int
    wrapped: bool = False


UNIXFS_V1_2025: Final = Profile("unixfs-v1-2025", LEAF_BYTES, 1024)
# What other implementations made before 2025; read, and used by the vectors.
LEGACY: Final = Profile("legacy", 256 * 1024, 174, wrapped=True)

assert UNIXFS_V1_2025.chunk <= BLOCK_BYTES_MAX
assert UNIXFS_V1_2025.width ** (DEPTH_MAX - 1) >= LEAVES_MAX


@dataclass(frozen=True, slots=True)
class Dag:
    """A finished import: root, bytes of the file, bytes of all blocks, number of leaves."""

    root: Cid
    size: int
    tsize: int
    leaves: int


class Importer:
    """Builds the DAG of one file from its chunks; holds at most one node a level."""

    def __init__(self, profile: Profile, keep: Keep) -> None:
        """Begin a file.

        Args:
            profile: the parameters.
            keep: called with each interior node (and wrapped leaf) as soon as it is whole.
        """
        self._profile = profile
        self._keep = keep
        self._levels: list[list[PbLink]] = [[]]
        self._leaves = 0
        self._ended = False

    def add(self, chunk: bytes) -> Cid:
        """Append the next chunk; only the last one may be shorter than the profile's.

        Raises:
            LocalError: a chunk after a short one, or too long; nothing was added.
        """
        self._check(len(chunk))
        if self._profile.wrapped:
            raw = encode_wrapped_leaf(chunk)
            cid = hash_block(raw, Codec.DAG_PB)
            self._keep(cid, raw)
            self._push(0, PbLink(cid, len(chunk), len(raw)))
        else:
            cid = hash_block(chunk)
            self._push(0, PbLink(cid, len(chunk), len(chunk)))
        return cid

    def add_hashed(self, digest: bytes, size: int) -> None:
        """Append a raw leaf that was hashed elsewhere.

        Raises:
            LocalError: as for `add`.
        """
        assert not self._profile.wrapped
        self._check(size)
        self._push(0, PbLink(Cid(Codec.RAW, digest), size, size))

    def finish(self) -> Dag:
        """Close the file and return its root."""
        if not self._leaves:
            self.add(b"")
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._close_node(level)
            level += 1
        root = self._levels[level][0]
        return Dag(root.cid, root.size, root.tsize, self._leaves)

    def _check(self, size: int) -> None:
        if self._ended or size > self._profile.chunk:
            raise LocalError(
                f"a chunk of {size} bytes after {self._leaves} chunks"
                f"{', the last one short' if self._ended else ''}: {self._profile.chunk} each"
            )
        self._ended = size < self._profile.chunk
        self._leaves += 1

    def _push(self, level: int, link: PbLink) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(link)
        if len(self._levels[level]) == self._profile.width:
            self._close_node(level)

    def _close_node(self, level: int) -> None:
        links, self._levels[level] = self._levels[level], []
        raw = encode_file(File(tuple(links)), version=0 if self._profile.wrapped else 1)
        cid = hash_block(raw, Codec.DAG_PB)
        self._keep(cid, raw)
        size = sum(link.size for link in links)
        tsize = len(raw) + sum(link.tsize for link in links)
        self._push(level + 1, PbLink(cid, size, tsize))


def import_chunks(chunks: Iterable[bytes], *, profile: Profile, keep: Keep) -> Dag:
    """Build the DAG of a file from its chunks.

    Raises:
        LocalError: a chunk is too long, or one follows a short one.
    """
    importer = Importer(profile, keep)
    for chunk in chunks:
        importer.add(chunk)
    return importer.finish()


@dataclass(frozen=True, slots=True)
class Shape:
    """How many nodes of which size a file has on each level; leaves are level 0."""

    size: int
    profile: Profile
    counts: tuple[int, ...]

    @classmethod
    def of(cls, size: int, profile: Profile = UNIXFS_V1_2025) -> "Shape":
        """Derive it from the size alone.

        Raises:
            LocalError: larger than one file may be.
        """
        count = max(1, -(-size // profile.chunk))
        if size < 0 or count > LEAVES_MAX:
            raise LocalError(f"a file of {size} bytes has {count} leaves, at most {LEAVES_MAX}")
        counts = [count]
        while counts[-1] > 1:
            counts.append(-(-counts[-1] // profile.width))
        return cls(size, profile, tuple(counts))

    @property
    def leaves(self) -> int:
        """Number of leaves."""
        return self.counts[0]

    def children(self, level: int, position: int) -> int:
        """Return how many children the node at `position` of `level` has."""
        width = self.profile.width
        return min(width, self.counts[level - 1] - position * width)

    def bytes_below(self, level: int, position: int) -> int:
        """Return how many bytes of the file lie below a node."""
        span: int = self.profile.chunk * self.profile.width**level
        return min(span, self.size - position * span)


class DagReader:
    """Finds the leaves of a file from its root, node by node; asks for what it needs next."""

    def __init__(self, root: Cid, size: int, profile: Profile = UNIXFS_V1_2025) -> None:
        """Begin at a root whose size is vouched for.

        Raises:
            LocalError: larger than one file may be.
            BadDag: a root of the wrong codec for that size.
        """
        self._shape = Shape.of(size, profile)
        self._level = len(self._shape.counts) - 1
        self._row = [PbLink(root, size, -1)]  # the root's Tsize is nobody's claim
        self._nodes: dict[bytes, tuple[File, int]] = {}
        self._leaves: tuple[Leaf, ...] = ()
        _check_codec(root, self._level)
        self._expand()

    @property
    def shape(self) -> Shape:
        """Sizes and counts of the file."""
        return self._shape

    @property
    def is_complete(self) -> bool:
        """Whether all leaves are known."""
        return self._level == 0

    def wanted(self) -> tuple[bytes, ...]:
        """Return the digests of the nodes needed next, each once; empty when complete."""
        if self.is_complete:
            return ()
        digests = dict.fromkeys(link.cid.digest for link in self._row)
        return tuple(digest for digest in digests if digest not in self._nodes)

    def accept(self, raw: bytes) -> bytes:
        """Take a node that was asked for, and return its digest.

        Raises:
            BadDag: not a block that is wanted now, or no node of this profile and size.
        """
        digest = hashlib.sha256(raw).digest()
        if digest not in self.wanted():
            raise BadDag(f"block {digest.hex()[:16]} is not wanted", penalty=50)
        version = 0 if self._shape.profile.wrapped else 1
        self._nodes[digest] = (decode_file(raw, version=version), len(raw))
        try:
            self._expand()
        except BadDag:
            self._nodes.clear()
            raise
        return digest

    def leaves(self) -> tuple[Leaf, ...]:
        """Return all leaves in order; only when complete."""
        assert self.is_complete
        if not self._leaves:
            self._leaves = tuple(
                Leaf(index, link.cid.digest, link.size) for index, link in enumerate(self._row)
            )
        return self._leaves

    def _expand(self) -> None:
        """Go down while nodes of the present level are known."""
        while self._level > 0 and not self.wanted():
            row: list[PbLink] = []
            for position, link in enumerate(self._row):
                row += self._children(position, link)
            self._row, self._level, self._nodes = row, self._level - 1, {}

    def _children(self, position: int, link: PbLink) -> Sequence[PbLink]:
        node, length = self._nodes[link.cid.digest]
        tsize = length + sum(child.tsize for child in node.links)
        if link.tsize not in {-1, tsize}:
            raise BadDag(f"node {link.cid} has {tsize} bytes below, its parent says {link.tsize}")
        count = self._shape.children(self._level, position)
        if len(node.links) != count:
            raise BadDag(f"node {link.cid} has {len(node.links)} links, its file needs {count}")
        first = position * self._shape.profile.width
        for index, child in enumerate(node.links):
            size = self._shape.bytes_below(self._level - 1, first + index)
            if child.size != size:
                raise BadDag(f"link {index} of {link.cid} spans {child.size} bytes, not {size}")
            _check_codec(child.cid, self._level - 1 + self._shape.profile.wrapped)
            is_raw = self._level == 1 and not self._shape.profile.wrapped
            if is_raw and child.tsize != child.size:
                raise BadDag(f"raw leaf {index} of {link.cid} has Tsize {child.tsize}")
        return node.links


def _check_codec(cid: Cid, level: int) -> None:
    expected = Codec.DAG_PB if level else Codec.RAW
    if cid.codec is not expected:
        raise BadDag(f"{cid} is {cid.codec.name}, at this place stands {expected.name}")
