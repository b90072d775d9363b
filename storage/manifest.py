"""What makes a model manifest one that this node accepts, beyond what the wire already bounds.

Knows: paths, indexes, sizes, the profile. Must not know: where files are.
"""

import unicodedata
from typing import Final

from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.limits import MANIFEST_BYTES_MAX, MANIFEST_FILES_MAX
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.storage.cid import Codec, decode_cid
from prsm.storage.unixfs import UNIXFS_V1_2025, Shape

_DEVICES: Final = frozenset(("con", "prn", "aux", "nul"))


def encode_manifest(manifest: ModelManifest) -> bytes:
    """Write a manifest that every node accepts.

    Raises:
        LocalError: a path, an index or a size is wrong, or it is too large.
    """
    if fault := manifest_fault(manifest):
        raise LocalError(f"manifest of {manifest.name}: {fault}")
    raw = encode(manifest)
    if len(raw) > MANIFEST_BYTES_MAX:
        raise LocalError(f"a manifest of {len(raw)} bytes, at most {MANIFEST_BYTES_MAX}")
    return raw


def decode_manifest(raw: bytes) -> ModelManifest:
    """Read a manifest from a peer or from disk.

    Raises:
        WireError: not canonical, out of bounds, or a path, an index or a size is wrong.
    """
    manifest = decode(raw, ModelManifest, size_max=MANIFEST_BYTES_MAX)
    if fault := manifest_fault(manifest):
        raise WireError(f"manifest: {fault}")
    return manifest


def manifest_fault(manifest: ModelManifest) -> str:
    """Say what is wrong with a manifest; empty if nothing is."""
    if manifest.profile != UNIXFS_V1_2025.name:
        return f"profile {manifest.profile!r}, known is {UNIXFS_V1_2025.name!r}"
    if len(manifest.files) > MANIFEST_FILES_MAX:
        return f"{len(manifest.files)} files, at most {MANIFEST_FILES_MAX}"
    paths = [file.path for file in manifest.files]
    if len({path.casefold() for path in paths}) != len(paths):
        return "two files of one path"
    faults = (_path_fault(file.path) or _file_fault(file) for file in manifest.files)
    return next(filter(None, faults), "") or _index_fault(manifest)


def _path_fault(path: str) -> str:
    parts = path.split("/")
    ok = (
        unicodedata.normalize("NFC", path) == path
        and path.isprintable()
        and "\\" not in path
        and ":" not in path
        and all(part not in {"", ".", ".."} for part in parts)
        and all(part.split(".")[0].casefold() not in _DEVICES for part in parts)
    )
    return "" if ok else f"{path[:80]!r} is no plain relative path"


def _file_fault(file: ManifestFile) -> str:
    try:
        cid = decode_cid(file.root)
        leaves = Shape.of(file.size).leaves
    except (WireError, LocalError) as error:
        return f"{file.path}: {error.what}"
    if (cid.codec is Codec.RAW) != (leaves == 1):
        return f"{file.path}: {file.size} bytes do not have a {cid.codec.name} root"
    return ""


def _index_fault(manifest: ModelManifest) -> str:
    count = len(manifest.files)
    tokenizer = manifest.tokenizer
    if tokenizer is not None and not 0 <= tokenizer < count:
        return f"tokenizer is file {tokenizer} of {count}"
    for shard in manifest.shards:
        if shard.index >= shard.stages:
            return f"shard {shard.index} of {shard.stages}"
        if shard.file >= count or shard.golden >= count:
            return f"shard {shard.index} names file {max(shard.file, shard.golden)} of {count}"
    return ""
