"""A prepared model on this side of the pipe: its files, and the writer that receives them.

The child names and fills the files, this side alone opens and hashes them: parts must come in
order, under checked names, within a bound. Must not know what is in them.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prsm.node.inference.channel import Received
from prsm.protocol.errors import WireError
from prsm.protocol.limits import MANIFEST_FILES_MAX, MIB
from prsm.protocol.messages.pipe import (
    FilePart,
    ModelRefused,
    PreparedModel,
    PreparedShard,
    WorkerFailed,
)
from prsm.storage.wholefile import refused

TOKENIZER: Final = "tokenizer.json"
_TOKENIZER_BYTES_MAX: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class PreparedFile:
    """A file in the output directory; `path` is relative to it."""

    path: str
    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a manifest of this model needs, except CIDs and names.

    Attributes:
        out_dir: where the files are.
        files: all files written, in the order they came; `shards` name them by `path`.
        shards: by count of stages, then index; stages = 1 is the whole pinned graph.
        tokenizer: path of the tokenizer among `files`, or None.
        runtime: such as "onnxruntime 1.31.1".
        options: session options in one canonical line.
        raw_sha256: of the model file as given.
        pinned_sha256: of the pinned graph, the compute identity.
        stages_max: every count of stages from 1 to this exists for this graph.
    """

    out_dir: Path
    files: tuple[PreparedFile, ...]
    shards: tuple[PreparedShard, ...]
    tokenizer: str | None
    runtime: str
    options: str
    raw_sha256: bytes
    pinned_sha256: bytes
    stages_max: int

    def file_index(self, path: str) -> int:
        """Return the place of a path in `files`."""
        return next(i for i, file in enumerate(self.files) if file.path == path)


@dataclass(slots=True)
class FileWriter:
    """Files of a preparation: the child names and fills them, this side opens and hashes them."""

    out_dir: Path
    bytes_max: int
    _open: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> written, announced
    _digests: dict[str, "hashlib._Hash"] = field(default_factory=dict)

    def take(self, frame: Received) -> None:
        """Append a part to its file; called in a thread, for disks may block.

        Raises:
            WireError: parts out of order, too many files, or too many bytes.
            Full, StoreUnavailable: the disk refused.
        """
        part = frame.body
        if not isinstance(part, FilePart):
            raise WireError(f"{type(part).__name__} is no part of a file")
        if part.name not in self._open:
            self._begin(part)
        written, size = self._open[part.name]
        if part.offset != written or part.size != size or written + len(frame.tail) > size:
            raise WireError(f"file {part.name} has {written} of {size} bytes, a part does not fit")
        path = self.out_dir / part.name
        with refused(path), path.open("ab") as file:
            file.write(frame.tail)
        self._digests[part.name].update(frame.tail)
        self._open[part.name] = (written + len(frame.tail), size)

    def finish(self, model: PreparedModel, tokenizer: Path | None) -> Prepared:
        """Check that every announced file is whole and there; copy the tokenizer beside them.

        Raises:
            WorkerFailed: a file is missing, cut or surplus.
            ModelRefused: the tokenizer is too large.
            Full, StoreUnavailable: the disk refused.
        """
        named = {
            name for shard in model.shards for name in (shard.file, shard.golden, *shard.weights)
        }
        is_whole = all(written == size for written, size in self._open.values())
        if not is_whole or named != set(self._open):
            raise WorkerFailed("the worker did not send the files it announced")
        files = [
            PreparedFile(name, self._digests[name].digest(), size)
            for name, (size, _) in self._open.items()
        ]
        if tokenizer is not None:
            files.append(self._copy(tokenizer))
        return Prepared(
            self.out_dir,
            tuple(files),
            model.shards,
            TOKENIZER if tokenizer is not None else None,
            model.runtime,
            model.options,
            model.raw_sha256,
            model.pinned_sha256,
            model.stages_max,
        )

    def remove(self) -> None:
        """Remove what was written, after a failure."""
        for name in self._open:
            (self.out_dir / name).unlink(missing_ok=True)

    def _begin(self, part: FilePart) -> None:
        total = sum(size for _, size in self._open.values()) + part.size
        if len(self._open) >= MANIFEST_FILES_MAX - 1 or total > self.bytes_max:
            raise WireError(f"{len(self._open) + 1} files of {total} bytes are too many")
        self._open[part.name] = (0, part.size)
        self._digests[part.name] = hashlib.sha256()
        path = self.out_dir / part.name
        with refused(path):
            path.write_bytes(b"")

    def _copy(self, tokenizer: Path) -> PreparedFile:
        with refused(tokenizer), tokenizer.open("rb") as file:
            raw = file.read(_TOKENIZER_BYTES_MAX + 1)
        if len(raw) > _TOKENIZER_BYTES_MAX:
            raise ModelRefused(f"a tokenizer over {_TOKENIZER_BYTES_MAX} bytes")
        with refused(self.out_dir / TOKENIZER):
            (self.out_dir / TOKENIZER).write_bytes(raw)
        self._open[TOKENIZER] = (len(raw), len(raw))
        return PreparedFile(TOKENIZER, hashlib.sha256(raw).digest(), len(raw))
