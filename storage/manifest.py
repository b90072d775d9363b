"""What makes a model manifest one that this node accepts, beyond what the wire already bounds.

Knows: paths, indexes, sizes, the profile, who signed it. Must not know: where files are, or what
the ledger says of a name (its caller does).
"""

import unicodedata
from typing import Final

import msgspec

from prsm.protocol.codec import decode_value, encode, shape_value
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.limits import MANIFEST_BYTES_MAX, MANIFEST_FILES_MAX
from prsm.protocol.messages.models import Compute, ManifestFile, ModelManifest
from prsm.protocol.signing import MANIFEST_TAG, sha256
from prsm.storage.cid import Codec, decode_cid
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, Shape

MODEL_KIND: Final = "onnx"
DATASET_KIND: Final = "dataset"
_DEVICES: Final = frozenset(("con", "prn", "aux", "nul"))


class ForeignManifest(LocalError):
    """A manifest or card that is not signed by its publisher, or not what the ledger says it is."""

    reason = "foreign_manifest"


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
    """Read a manifest from a peer or from disk; its signature is not checked here.

    Raises:
        WireError: not canonical, out of bounds, of version 1 or 2, or a path, an index or a size is
            wrong.
    """
    value = decode_value(raw, size_max=MANIFEST_BYTES_MAX)
    if isinstance(value, tuple) and value[:1] in {(1,), (2,)}:
        raise WireError(
            f"manifest of version {value[0]}: of a network before the first release",
            hint="add the model again: prsm model add",
            penalty=0,
        )
    manifest = shape_value(value, ModelManifest)
    if fault := manifest_fault(manifest):
        raise WireError(f"manifest: {fault}")
    return manifest


def manifest_statement(manifest: ModelManifest) -> bytes:
    """Bytes the publisher signs: the tag and every field before the signature."""
    return MANIFEST_TAG + encode(msgspec.structs.astuple(manifest)[:-1])


def sign_manifest(manifest: ModelManifest, signer: Signer) -> ModelManifest:
    """Return the manifest with its publisher's signature."""
    assert manifest.publisher == signer.public_key
    signature = signer.sign(manifest_statement(manifest))
    return msgspec.structs.replace(manifest, signature=signature)


def check_publisher(
    manifest: ModelManifest, *, publisher: bytes, chain_id: bytes, verifier: Verifier
) -> None:
    """Check that a manifest found under a name is its publisher's own word.

    Args:
        manifest: decoded.
        publisher: whom the ledger names.
        chain_id: of this network.
        verifier: libsodium's rule.

    Raises:
        ForeignManifest: unsigned, of another network, of another publisher, or forged.
    """
    called = f"{manifest.name}@{manifest.semver}"
    if manifest.signature is None:
        fault = "it is not signed"
    elif manifest.chain_id != chain_id:
        fault = f"it was signed for network {manifest.chain_id.hex()}, this is {chain_id.hex()}"
    elif manifest.publisher != publisher:
        fault = f"it is by 0x{manifest.publisher.hex()}, the ledger says 0x{publisher.hex()}"
    elif not verifier.verify(publisher, manifest_statement(manifest), manifest.signature):
        fault = "its signature does not hold"
    else:
        return
    raise ForeignManifest(
        f"manifest of {called} is refused: {fault}",
        hint="ask its publisher to register a signed manifest; a draft can be used by its CID",
    )


def dataset_identity(files: tuple[ManifestFile, ...]) -> Compute:
    """What stands for the computation in the manifest of a dataset, which has none.

    Its identity is the content: the root of the first file, and one digest over all of them.
    """
    listed = [(file.path, file.root, file.size, file.sha256) for file in files]
    return Compute(
        runtime="", options="", raw_root=files[0].root, pinned_sha256=sha256(encode(listed))
    )


def manifest_fault(manifest: ModelManifest) -> str:
    """Say what is wrong with a manifest; empty if nothing is."""
    if manifest.profile != UNIXFS_V1_2025.name:
        return f"profile {manifest.profile!r}, known is {UNIXFS_V1_2025.name!r}"
    if fault := _kind_fault(manifest):
        return fault
    if len(manifest.files) > MANIFEST_FILES_MAX:
        return f"{len(manifest.files)} files, at most {MANIFEST_FILES_MAX}"
    paths = [file.path for file in manifest.files]
    if len({path.casefold() for path in paths}) != len(paths):
        return "two files of one path"
    faults = (_path_fault(file.path) or _file_fault(file) for file in manifest.files)
    return next(filter(None, faults), "") or _index_fault(manifest)


def _kind_fault(manifest: ModelManifest) -> str:
    if manifest.kind == DATASET_KIND:
        if manifest.shards or manifest.compute != dataset_identity(manifest.files):
            return "a dataset with shards, or with another identity than its files'"
        return ""
    return "" if manifest.shards else f"no shards in a manifest of kind {manifest.kind!r}"


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
        named = (shard.file, shard.golden, *shard.weights)
        if max(named) >= count:
            return f"shard {shard.index} names file {max(named)} of {count}"
        if len(set(shard.weights)) != len(shard.weights):
            return f"shard {shard.index} names a file of weights twice"
    return ""
