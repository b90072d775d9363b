"""Reed-Solomon: a file as n shards of which any k give it back, each a file with a CID of its own.

A stripe is k leaves of the file; zfec makes n - k more of the same size. Shard i is leaf i of
every stripe, so the first k shards hold the file's own leaves and the others parity, and n shards
take n / k times the file, where copies take whole times. A shard that changed does not have its
CID and is left out. Knows: zfec (its only home), files, CIDs. Must not know: who keeps a shard.
All of it is synchronous: call it in a thread. Off unless a model asks for it: copies are read
without computing, and repairing one shard reads k others. Source: docs/spec/storage.md, "Erasure".
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Protocol

import msgspec

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import LocalError, RemoteError, Unsupported
from prsm.protocol.ids import UInt
from prsm.protocol.limits import BLOCK_BYTES_MAX, LEAF_BYTES
from prsm.protocol.messages.models import CidBytes
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, Importer
from prsm.storage.errors import Corrupt, NotFound

SHARDS_MAX: Final = 64  # of 256 that the field allows: each is a file somebody keeps


class BadCode(LocalError):
    """Numbers that are no code: k of n with 1 <= k < n <= 64."""

    reason = "bad_erasure_code"


class TooFewShards(LocalError):
    """Fewer good shards than the code needs; which are missing and which are damaged is said."""

    reason = "too_few_shards"


class FalseShards(RemoteError):
    """Shards that have their CIDs and give another file: whoever made them is at fault."""

    reason = "false_shards"


@dataclass(frozen=True, slots=True)
class Code:
    """Any `k` of `n` shards suffice.

    Raises:
        BadCode: k of n is no code.
    """

    k: int
    n: int

    def __post_init__(self) -> None:
        if not 1 <= self.k < self.n <= SHARDS_MAX:
            raise BadCode(
                f"{self.k} of {self.n} is no code: 1 <= k < n <= {SHARDS_MAX}",
                hint="4 of 6 outlives the loss of any two holders at 1.5 times the size",
            )


class ShardSet(Record, frozen=True):
    """What was made of a file; its own CID is the raw one of these canonical bytes."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    root: CidBytes  # of the file
    size: UInt
    k: Annotated[int, msgspec.Meta(ge=1, le=SHARDS_MAX - 1)]
    shards: Annotated[tuple[CidBytes, ...], msgspec.Meta(min_length=2, max_length=SHARDS_MAX)]

    @property
    def code(self) -> Code:
        """The code it is of."""
        return Code(self.k, len(self.shards))

    @property
    def shard_bytes(self) -> int:
        """Bytes of each shard."""
        return sum(length for length, _ in _stripes(self.size, self.k))


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How a file came back: from which shards, and which of those offered were damaged."""

    used: tuple[int, ...]
    damaged: tuple[int, ...]


def encode_set(shards: ShardSet) -> bytes:
    """Write a set down, to be kept as a raw block."""
    return encode(shards)


def decode_set(raw: bytes) -> ShardSet:
    """Read a set.

    Raises:
        WireError: no canonical bytes of one.
        BadCode: its numbers are no code.
    """
    shards = decode(raw, ShardSet, size_max=BLOCK_BYTES_MAX)
    _ = shards.code
    return shards


def encode_file(source: Path, out_dir: Path, code: Code) -> ShardSet:
    """Write the shards of a file as `shard-0`, `shard-1`, … into a folder.

    Raises:
        Unsupported: zfec is not installed.
        NotFound: the file cannot be read.
        LocalError: it is empty.
    """
    encoder = _zfec().Encoder(code.k, code.n)
    whole = Importer(UNIXFS_V1_2025, _forget)
    importers = [Importer(UNIXFS_V1_2025, _forget) for _ in range(code.n)]
    size = _size_of(source)
    with ExitStack() as stack:
        file = stack.enter_context(source.open("rb"))
        outs = [stack.enter_context(shard_path(out_dir, i).open("wb")) for i in range(code.n)]
        for length, count in _stripes(size, code.k):
            raw = file.read(count)
            if len(raw) != count:
                raise NotFound(f"{source.name} became shorter while it was read")
            _add(whole, raw)
            blocks = encoder.encode(_cut(raw, length, code.k), tuple(range(code.n)))
            for importer, out, block in zip(importers, outs, blocks, strict=True):
                out.write(block)
                _add(importer, bytes(block))
    roots = tuple(importer.finish().root.raw for importer in importers)
    return ShardSet(version=1, root=whole.finish().root.raw, size=size, k=code.k, shards=roots)


def rebuild_file(shards: ShardSet, paths: Mapping[int, Path], target: Path) -> Rebuilt:
    """Write the file again from any k good shards.

    Args:
        shards: the set.
        paths: by place in the set; more than k may be offered, damaged ones too.
        target: written, and removed again if it is not the file.

    Raises:
        Unsupported: zfec is not installed.
        TooFewShards: fewer than k are good.
        FalseShards: they are good and give another file.
    """
    used, damaged = _choose(shards, paths)
    whole = Importer(UNIXFS_V1_2025, _forget)
    try:
        with target.open("wb") as out:
            for raw in _read_stripes(shards, paths, used):
                out.write(raw)
                _add(whole, raw)
        _require(shards, whole.finish().root)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Rebuilt(used, damaged)


def _require(shards: ShardSet, found: Cid) -> None:
    if found.raw != shards.root:
        raise FalseShards(f"the shards of {decode_cid(shards.root)} give {found}")


def rebuild_shards(
    shards: ShardSet, paths: Mapping[int, Path], out_dir: Path, wanted: Collection[int]
) -> Rebuilt:
    """Write lost shards again from any k good ones; the file itself is never written.

    Raises:
        Unsupported, TooFewShards: as for `rebuild_file`.
        FalseShards: they are good and give other shards.
        BadCode: a wanted place is not in the set.
    """
    code, places = shards.code, sorted(set(wanted))
    if not places or not 0 <= places[0] <= places[-1] < code.n:
        raise BadCode(f"shards {places} of a set of {code.n}")
    used, damaged = _choose(shards, paths)
    encoder = _zfec().Encoder(code.k, code.n)
    importers = [Importer(UNIXFS_V1_2025, _forget) for _ in places]
    with ExitStack() as stack:
        outs = [stack.enter_context(shard_path(out_dir, i).open("wb")) for i in places]
        lengths = (length for length, _ in _stripes(shards.size, code.k))
        for length, raw in zip(lengths, _read_stripes(shards, paths, used), strict=True):
            blocks = encoder.encode(_cut(raw, length, code.k), tuple(places))
            for importer, out, block in zip(importers, outs, blocks, strict=True):
                out.write(block)
                _add(importer, bytes(block))
    for place, importer in zip(places, importers, strict=True):
        if importer.finish().root.raw != shards.shards[place]:
            shard_path(out_dir, place).unlink()
            raise FalseShards(f"shard {place} of {decode_cid(shards.root)} is not of this file")
    return Rebuilt(used, damaged)


def shard_path(folder: Path, place: int) -> Path:
    """Where `encode_file` writes a shard."""
    return folder / f"shard-{place}"


def root_of(path: Path) -> Cid:
    """CID of a file.

    Raises:
        NotFound: it cannot be read.
    """
    importer = Importer(UNIXFS_V1_2025, _forget)
    try:
        with path.open("rb") as file:
            while raw := file.read(LEAF_BYTES):
                importer.add(raw)
    except OSError as error:
        raise NotFound(f"{path.name} cannot be read: {error.strerror}") from error
    return importer.finish().root


def _choose(shards: ShardSet, paths: Mapping[int, Path]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Hash what is offered until k are good; the file's own leaves first: no computing."""
    used: list[int] = []
    damaged: list[int] = []
    for place in sorted(place for place in paths if 0 <= place < len(shards.shards)):
        if len(used) == shards.k:
            break
        try:
            is_good = root_of(paths[place]).raw == shards.shards[place]
        except NotFound:
            is_good = False
        (used if is_good else damaged).append(place)
    if len(used) < shards.k:
        missing = [place for place in range(len(shards.shards)) if place not in paths]
        raise TooFewShards(
            f"{len(used)} good shards of {decode_cid(shards.root)}, {shards.k} are needed: "
            f"{len(missing)} missing {missing}, {len(damaged)} damaged {damaged}",
            hint="bring another shard of the set into the folder",
        )
    return tuple(used), tuple(damaged)


def _read_stripes(
    shards: ShardSet, paths: Mapping[int, Path], used: tuple[int, ...]
) -> Iterator[bytes]:
    """Yield the file's bytes stripe by stripe from k good shards."""
    decoder = _zfec().Decoder(shards.k, len(shards.shards))
    with ExitStack() as stack:
        files = [stack.enter_context(paths[place].open("rb")) for place in used]
        for length, count in _stripes(shards.size, shards.k):
            blocks = [_read(file, length) for file in files]
            yield b"".join(decoder.decode(blocks, used))[:count]


def _read(file: BinaryIO, length: int) -> bytes:
    raw = file.read(length)
    if len(raw) != length:
        raise Corrupt(f"a shard became shorter while it was read: {len(raw)} of {length} bytes")
    return raw


def _stripes(size: int, k: int) -> Iterator[tuple[int, int]]:
    """Yield for each stripe the length of a block of it, and how many bytes of the file it holds.

    All but the last are k leaves; the last is cut evenly, so that a small file has small shards.
    """
    while size > 0:
        count = min(size, k * LEAF_BYTES)
        yield -(-count // k), count
        size -= count


def _cut(raw: bytes, length: int, k: int) -> list[bytes]:
    """Cut a stripe into k blocks, the last ones filled up with zeros."""
    return [raw[i * length : (i + 1) * length].ljust(length, b"\x00") for i in range(k)]


def _add(importer: Importer, raw: bytes) -> None:
    for at in range(0, len(raw), LEAF_BYTES):
        importer.add(raw[at : at + LEAF_BYTES])


def _size_of(source: Path) -> int:
    try:
        size = source.stat().st_size
    except OSError as error:
        raise NotFound(f"{source.name} cannot be read: {error.strerror}") from error
    if not size:
        raise LocalError(f"{source.name} is empty: there is nothing to make shards of")
    return size


def _forget(_cid: Cid, _raw: bytes) -> None:
    """Interior nodes of a shard are made again where it is kept."""


class _Encoder(Protocol):
    def encode(self, blocks: Sequence[bytes], wanted: Sequence[int], /) -> Sequence[bytes]: ...


class _Decoder(Protocol):
    def decode(self, blocks: Sequence[bytes], places: Sequence[int], /) -> Sequence[bytes]: ...


class _Library(Protocol):
    def Encoder(self, k: int, n: int, /) -> _Encoder: ...  # noqa: N802 - the library's name
    def Decoder(self, k: int, n: int, /) -> _Decoder: ...  # noqa: N802 - likewise


def _zfec() -> _Library:
    try:
        import zfec  # noqa: PLC0415 - an extra: most nodes keep whole copies
    except ImportError as error:
        raise Unsupported(
            "erasure coding needs the library zfec", hint="install the extra: prsm-node[erasure]"
        ) from error
    library: _Library = zfec
    return library
