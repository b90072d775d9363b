"""Files and flat directories put together from blocks that come parents first, as a CAR has them.

Knows: which block may come where. Must not know: who sends blocks, where bytes are kept (`Shelf`).
Blocks arrive verified; what they mean is nobody's promise, so that each node must have exactly the
shape its place in a file has, and what a DAG may cost is bounded before it is paid:

* bytes of all files together: `size_max`, held against the claim of a root before a byte is kept,
  and counted again for each place a shared subtree is linked from;
* directories: `ENTRIES_TOTAL_MAX` entries in all, `DIRECTORY_DEPTH_MAX` levels;
* memory: about 400 bytes a leaf, the interior nodes (51 KB a GiB), one block.
"""

from dataclasses import dataclass, field
from typing import Final, Protocol

from prsm.protocol.errors import Unsupported
from prsm.storage.cid import Cid, Codec
from prsm.storage.dag.dagpb import (
    PbLink,
    Sort,
    decode_directory,
    decode_file,
    decode_wrapped_leaf,
    sort_of,
    version_of,
)
from prsm.storage.dag.unixfs import (
    LEAVES_MAX,
    LEGACY,
    PROFILES,
    UNIXFS_V1_2025,
    Profile,
    Shape,
    check_node,
    leaf_block,
    leaf_data,
)
from prsm.storage.errors import BadDag, Full

ENTRIES_TOTAL_MAX: Final = 8_192
DIRECTORY_DEPTH_MAX: Final = 16
NOBODY_SAYS: Final = -1  # Tsize of a root, which no link claims

Data = bytes | memoryview


class Shelf(Protocol):
    """Where the bytes of the files go; a path is relative, `""` where the root is a file."""

    def make_file(self, path: str, size: int) -> None:
        """Make an empty file that will have so many bytes."""
        ...

    def make_folder(self, path: str) -> None:
        """Make a folder."""
        ...

    def write(self, path: str, offset: int, data: Data) -> None:
        """Write verified bytes at their place."""
        ...

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Read again what was written."""
        ...


@dataclass(slots=True)
class Built:
    """One file of an assembly.

    `nodes` are its interior nodes, complete when the assembly is.
    """

    path: str
    root: Cid
    shape: Shape
    nodes: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.shape.size

    @property
    def profile(self) -> Profile:
        """By which it was made; a file of one raw block has that of this node."""
        return self.shape.profile


@dataclass(frozen=True, slots=True)
class _Root:
    """A place where a file or directory begins."""

    path: str
    depth: int
    link: PbLink


@dataclass(frozen=True, slots=True)
class _Below:
    """A place inside a file."""

    file: Built
    level: int
    position: int
    link: PbLink


_Place = _Root | _Below


class Assembly:
    """A root whose blocks come one after the other."""

    def __init__(self, root: Cid, shelf: Shelf, *, size_max: int) -> None:
        """Begin.

        Args:
            root: what is wanted.
            shelf: takes the bytes.
            size_max: bytes of all files together.
        """
        self._shelf = shelf
        self._left = size_max
        self._size_max = size_max
        self._entries = 0
        self._awaited: dict[bytes, list[_Place]] = {}
        self._nodes: dict[bytes, bytes] = {}
        self._leaves: dict[bytes, tuple[Built, int]] = {}
        self.files: list[Built] = []
        self.directories: list[bytes] = []  # their nodes, each once
        self._await(_Root("", 0, PbLink(root, 0, NOBODY_SAYS)))

    @property
    def is_complete(self) -> bool:
        """Whether nothing is awaited."""
        return not self._awaited

    @property
    def missing(self) -> int:
        """Blocks that are known to be awaited."""
        return len(self._awaited)

    def accept(self, cid: Cid, block: bytes) -> None:
        """Take a verified block: one that is awaited, or one that came before.

        Raises:
            BadDag: no block that came before links to it; or it has another shape, size or codec
                than its place.
            Unsupported: a HAMT directory, a symbolic link, metadata, or an unknown profile.
            Full: the files would have more than `size_max` bytes.
        """
        places = self._awaited.pop(cid.digest, None)
        if places is None:
            if cid.digest in self._nodes or cid.digest in self._leaves:
                return
            raise BadDag(f"block {cid} comes before any block that links to it")
        for place in places:
            self._put(place, block)

    def _await(self, place: _Place) -> None:
        """Ask for a block, or use it again if it came before."""
        digest = place.link.cid.digest
        if (node := self._nodes.get(digest)) is not None:
            self._put(place, node)
        elif (found := self._leaves.get(digest)) is not None:
            self._put(place, self._again(*found))
        else:
            self._awaited.setdefault(digest, []).append(place)

    def _again(self, file: Built, position: int) -> bytes:
        size = file.shape.bytes_below(0, position)
        data = self._shelf.read(file.path, position * file.profile.chunk, size)
        return leaf_block(data, file.profile)

    def _put(self, place: _Place, block: bytes) -> None:
        match place:
            case _Root():
                self._begin(place, block)
            case _Below(level=0):
                self._put_leaf(place, block)
            case _Below():
                self._put_node(place, block)

    def _begin(self, place: _Root, block: bytes) -> None:
        if place.link.cid.codec is Codec.RAW:
            self._begin_file(place, len(block), UNIXFS_V1_2025, block)
            return
        match sort_of(block):
            case Sort.DIRECTORY:
                self._open_directory(place, block)
            case Sort.LEAF:
                self._begin_file(place, len(decode_wrapped_leaf(block)), LEGACY, block)
            case Sort.FILE:
                profile, size = profile_of(block)
                self._begin_file(place, size, profile, block)

    def _begin_file(self, place: _Root, size: int, profile: Profile, block: bytes) -> None:
        self._left -= size
        if self._left < 0:
            raise Full(f"more than {self._size_max} bytes of files")
        # One raw block is its own file in every profile, whatever its length.
        chunk = max(profile.chunk, size) if place.link.cid.codec is Codec.RAW else profile.chunk
        if chunk != profile.chunk:
            profile = Profile(profile.name, chunk, profile.width)
        file = Built(place.path, place.link.cid, Shape.of(size, profile))
        self.files.append(file)
        self._shelf.make_file(place.path, size)
        top = _Below(file, len(file.shape.counts) - 1, 0, place.link)
        self._put(top, block)

    def _open_directory(self, place: _Root, block: bytes) -> None:
        if place.depth >= DIRECTORY_DEPTH_MAX:
            raise BadDag(f"directories below each other, at most {DIRECTORY_DEPTH_MAX} deep")
        entries = decode_directory(block, version=version_of(block))
        self._entries += len(entries)
        if self._entries > ENTRIES_TOTAL_MAX:
            raise BadDag(f"{self._entries} directory entries, at most {ENTRIES_TOTAL_MAX} in all")
        tsize = len(block) + sum(link.tsize for link in entries.values())
        if place.link.tsize not in {NOBODY_SAYS, tsize}:
            raise BadDag(f"{place.link.cid} has {tsize} bytes below, its link says otherwise")
        if place.link.cid.digest not in self._nodes:
            self.directories.append(block)
            self._nodes[place.link.cid.digest] = block
        self._shelf.make_folder(place.path)
        for name, link in entries.items():
            path = f"{place.path}/{name}" if place.path else name
            self._await(_Root(path, place.depth + 1, link))

    def _put_node(self, place: _Below, block: bytes) -> None:
        shape, digest = place.file.shape, place.link.cid.digest
        node = decode_file(block, version=shape.profile.version)
        check_node(shape, (place.level, place.position), place.link, node, len(block))
        self._nodes[digest] = place.file.nodes[digest] = block
        first = place.position * shape.profile.width
        for index, link in enumerate(node.links):
            self._await(_Below(place.file, place.level - 1, first + index, link))

    def _put_leaf(self, place: _Below, block: bytes) -> None:
        shape = place.file.shape
        size = shape.bytes_below(0, place.position)
        data = leaf_data(block, shape.profile)
        if len(data) != size:
            raise BadDag(f"leaf {place.link.cid} has {len(data)} bytes, its place has {size}")
        if place.link.tsize not in {NOBODY_SAYS, len(block)}:
            raise BadDag(f"{place.link.cid} has {len(block)} bytes, its link says otherwise")
        self._shelf.write(place.file.path, place.position * shape.profile.chunk, data)
        self._leaves.setdefault(place.link.cid.digest, (place.file, place.position))


def profile_of(root: bytes) -> tuple[Profile, int]:
    """Find by which known profile a file of several leaves was made, from its root node.

    Raises:
        BadDag: no node of a file, or one larger than a file may be.
        Unsupported: a shape that no known profile has.
    """
    version = version_of(root)
    node = decode_file(root, version=version)
    size = sum(link.size for link in node.links)
    for profile in PROFILES.values():
        if profile.version != version or -(-size // profile.chunk) > LEAVES_MAX:
            continue
        shape = Shape.of(size, profile)
        level = len(shape.counts) - 1
        fits = level and len(node.links) == shape.children(level, 0)
        if fits and node.links[0].size == shape.bytes_below(level - 1, 0):
            codec = Codec.DAG_PB if level > 1 or profile.wrapped else Codec.RAW
            if node.links[0].cid.codec is codec:
                return profile, size
    raise Unsupported(
        f"a file of {size} bytes with {len(node.links)} links at its root is of no known profile",
        hint=f"known profiles: {', '.join(PROFILES)}",
    )
