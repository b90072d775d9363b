"""Files as Merkle DAGs: an importer and a strict reader, by explicit profiles.

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
from prsm.protocol.limits import BLOCK_BYTES_MAX, KIB, LEAF_BYTES
from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.dag.dagpb import (
    File,
    PbLink,
    decode_file,
    decode_wrapped_leaf,
    encode_file,
    encode_wrapped_leaf,
    leaf_frame,
)
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

    @property
    def version(self) -> int:
        """Version of all CIDs of such a file."""
        return 0 if self.wrapped else 1

    def text(self, cid: Cid) -> str:
        """Write a root as programs of this profile print it."""
        return cid.text_v0() if self.wrapped and cid.codec is Codec.DAG_PB else str(cid)


UNIXFS_V1_2025: Final = Profile("unixfs-v1-2025", LEAF_BYTES, 1024)
# What other implementations made before 2025: read and checked, never written by this node.
LEGACY: Final = Profile("legacy", 256 * KIB, 174, wrapped=True)  # Kubo before 0.40, by default
V1_256K_174: Final = Profile("v1-256k-174", 256 * KIB, 174)  # Kubo --cid-version=1; js-ipfs
V1_1M_174: Final = Profile("v1-1m-174", 1024 * KIB, 174)
V1_256K_1024: Final = Profile("v1-256k-1024", 256 * KIB, 1024)
PROFILES: Final = {
    profile.name: profile
    for profile in (UNIXFS_V1_2025, LEGACY, V1_256K_174, V1_1M_174, V1_256K_1024)
}

assert all(profile.chunk <= BLOCK_BYTES_MAX for profile in PROFILES.values())
assert all(profile.width ** (DEPTH_MAX - 1) >= LEAVES_MAX for profile in PROFILES.values())


def profile_named(name: str) -> Profile:
    """Find a profile by its name.

    Raises:
        LocalError: there is none of that name.
    """
    if name not in PROFILES:
        raise LocalError(
            f"{name[:40]!r} is no profile", hint=f"known profiles: {', '.join(PROFILES)}"
        )
    return PROFILES[name]


def hash_leaf(data: bytes | memoryview, profile: Profile) -> Cid:
    """Name a leaf by the bytes of the file alone; a wrapped one is rebuilt around them."""
    if not profile.wrapped:
        return hash_block(data)
    before, behind = leaf_frame(len(data))
    digest = hashlib.sha256(before)
    digest.update(data)
    digest.update(behind)
    return Cid(Codec.DAG_PB, digest.digest())


def leaf_block(data: bytes, profile: Profile) -> bytes:
    """Return the block of a leaf: its bytes, wrapped where the profile says so."""
    return encode_wrapped_leaf(data) if profile.wrapped else data


def leaf_data(block: bytes, profile: Profile) -> bytes | memoryview:
    """Return the bytes of the file in the block of a leaf.

    Raises:
        BadDag: a wrapped leaf in another spelling.
    """
    return decode_wrapped_leaf(block) if profile.wrapped else block


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
        cid = hash_leaf(chunk, self._profile)
        if self._profile.wrapped:
            self._keep(cid, encode_wrapped_leaf(chunk))
        self._append(cid, len(chunk))
        return cid

    def add_hashed(self, digest: bytes, size: int) -> None:
        """Append a leaf whose block was hashed elsewhere; a wrapped one is not kept.

        Raises:
            LocalError: as for `add`.
        """
        self._check(size)
        self._append(Cid(Codec.DAG_PB if self._profile.wrapped else Codec.RAW, digest), size)

    def _append(self, cid: Cid, size: int) -> None:
        self._push(0, PbLink(cid, size, _leaf_bytes(size, self._profile)))

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
        raw = encode_file(File(tuple(links)), version=self._profile.version)
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
        check_codec(root, self._level, profile)
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
        version = self._shape.profile.version
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
        check_node(self._shape, (self._level, position), link, node, length)
        return node.links


def check_node(shape: Shape, place: tuple[int, int], link: PbLink, node: File, length: int) -> None:
    """Hold a node of `length` bytes against its place in a file; a root's `link` has Tsize -1.

    Args:
        shape: of the file.
        place: level and position there.
        link: by which the node was reached.
        node: as decoded.
        length: of its block, in bytes.

    Raises:
        BadDag: another number of links, size, codec or Tsize than this place has.
    """
    level, position = place
    tsize = length + sum(child.tsize for child in node.links)
    if link.tsize not in {-1, tsize}:
        raise BadDag(f"node {link.cid} has {tsize} bytes below, its parent says {link.tsize}")
    count = shape.children(level, position)
    if len(node.links) != count:
        raise BadDag(f"node {link.cid} has {len(node.links)} links, its file needs {count}")
    first = position * shape.profile.width
    for index, child in enumerate(node.links):
        size = shape.bytes_below(level - 1, first + index)
        if child.size != size:
            raise BadDag(f"link {index} of {link.cid} spans {child.size} bytes, not {size}")
        check_codec(child.cid, level - 1, shape.profile)
        if level == 1 and child.tsize != _leaf_bytes(size, shape.profile):
            raise BadDag(f"leaf {index} of {link.cid} has Tsize {child.tsize}")


def check_codec(cid: Cid, level: int, profile: Profile) -> None:
    """Hold the codec of a CID against its level; leaves are level 0.

    Raises:
        BadDag: raw where a node belongs, or the reverse.
    """
    expected = Codec.DAG_PB if level or profile.wrapped else Codec.RAW
    if cid.codec is not expected:
        raise BadDag(f"{cid} is {cid.codec.name}, at this place stands {expected.name}")


def _leaf_bytes(size: int, profile: Profile) -> int:
    """Return how long the block of a leaf is."""
    return size + sum(map(len, leaf_frame(size))) if profile.wrapped else size
