"""A file, folders and a manifest that tests of the model store share."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from prsm.protocol.messages.models import Compute, ManifestFile, ModelManifest, Shard
from prsm.storage.cid import hash_block
from prsm.storage.store.eviction import Uses
from prsm.storage.store.index import Index
from prsm.storage.store.leases import Leases
from prsm.storage.store.model_store import ModelStore, wall_ms
from prsm.storage.store.recovery import recover
from prsm.storage.store.sealed import Folders
from prsm.storage.store.shelf import Shelf

MIB = 1 << 20
SIZE = 3 * MIB + 17
DATA = Random(1).randbytes(SIZE)
CHUNKS = [DATA[i : i + MIB] for i in range(0, SIZE, MIB)]


class Wall:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.ms = 1_000_000_000

    def __call__(self) -> int:
        return self.ms


async def store_over(
    index: Index, folder: Path, quota: int, now_ms: Callable[[], int] = wall_ms
) -> ModelStore:
    """Open a store over any index."""
    folders = Folders(folder)
    folders.make()
    shelf = Shelf(folders, index, Leases(now_ms), Uses(), now_ms)
    await recover(shelf)
    return ModelStore(shelf, quota=quota)


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def manifest(**changes: object) -> ModelManifest:
    root = hash_block(b"x").raw
    fields: dict[str, object] = {
        "version": 3,
        "name": "minilm",
        "semver": "1.0.0",
        "kind": "onnx",
        "profile": "unixfs-v1-2025",
        "files": (ManifestFile("a/model.onnx", root, 1, bytes(32)),),
        "shards": (Shard(1, 0, 0, 0, (), (), 1, 1, ()),),
        "tokenizer": None,
        "compute": Compute("onnxruntime", "", root, bytes(32)),
        "licence": "MIT",
        "publisher": bytes(32),
        "parents": (),
        "created_ms": 0,
        "sealing": (),
        "card": None,
        "chain_id": bytes(8),
        "signature": None,
    }
    return ModelManifest(**{**fields, **changes})  # type: ignore[arg-type]  # built by name
