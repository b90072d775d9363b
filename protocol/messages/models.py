"""Models on the wire: the manifest of a prepared model, and range asks between stores.

Source: docs/spec/wire.md. A manifest's own CID is the raw sha2-256 of its canonical bytes, the
signature included; the ledger's registry holds that CID, so a name alone resolves to nothing.
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import Bytes32, ChainId, Signature, UInt
from prsm.protocol.limits import (
    MANIFEST_FILES_MAX,
    MANIFEST_KEYS_MAX,
    NAME_BYTES_MAX,
    RANGE_LEAVES_MAX,
    SHARD_WEIGHTS_MAX,
    TENSOR_RANK_MAX,
    TENSORS_PER_MESSAGE_MAX,
    WORK_STAGES_MAX,
)
from prsm.protocol.tensors import Dtype

CidBytes = Annotated[bytes, msgspec.Meta(min_length=36, max_length=36)]  # CIDv1, sha2-256
KeyId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
_Text = Annotated[str, msgspec.Meta(max_length=256)]
_Dim = Annotated[int, msgspec.Meta(ge=0)] | Annotated[str, msgspec.Meta(max_length=64)]


class TensorSpec(Record, frozen=True):
    """A graph input or output: a dimension is a size, or the name of a free axis."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    dtype: Dtype
    shape: Annotated[tuple[_Dim, ...], msgspec.Meta(max_length=TENSOR_RANK_MAX)]


_Specs = Annotated[tuple[TensorSpec, ...], msgspec.Meta(max_length=TENSORS_PER_MESSAGE_MAX)]


_Weights = Annotated[
    tuple[Annotated[int, msgspec.Meta(ge=0, le=MANIFEST_FILES_MAX)], ...],
    msgspec.Meta(max_length=SHARD_WEIGHTS_MAX),
]


class ManifestFile(Record, frozen=True):
    """A file of the model: relative path, root CID, size, and a second check beside the DAG."""

    path: _Text
    root: CidBytes
    size: UInt
    sha256: Bytes32


class Shard(Record, frozen=True):
    """Stage `index` of the split into `stages` parts; stages = 1 is the whole pinned graph."""

    stages: Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)]
    index: Annotated[int, msgspec.Meta(ge=0, le=WORK_STAGES_MAX)]
    file: Annotated[int, msgspec.Meta(ge=0, le=MANIFEST_FILES_MAX)]  # index into files
    golden: Annotated[int, msgspec.Meta(ge=0, le=MANIFEST_FILES_MAX)]  # index: golden input rows
    inputs: _Specs  # the cut tensor first, then the graph inputs this stage still uses
    outputs: _Specs
    weight_flops: UInt  # matmul weight elements, about FLOPs a row and token
    weight_bytes: UInt
    weights: _Weights  # indices of the files its graph names by their sha256; large models


class Compute(Record, frozen=True):
    """What must be equal for bits to be equal (determinism, docs/spec/work.md)."""

    runtime: _Text  # "onnxruntime 1.31.1"
    options: _Text  # session options in one canonical line
    raw_root: CidBytes  # CID of the model file before pinning
    pinned_sha256: Bytes32  # compute identity: sha256 of the pinned graph


ROWS_TOUCHING: Final = "rows=touching"  # words of `Compute.options`
CLASSES_APART: Final = "classes=apart"
TEMPLATE_PATH: Final = "chat_template.jinja"  # of the program that writes conversations
TOKENIZER_CONFIG_PATH: Final = "tokenizer_config.json"  # it may hold that program
ADAPTER_PATH: Final = "adapter.safetensors"  # of the file that makes a manifest an adapted model


def rows_touch(compute: Compute) -> bool:
    """Do rows of one micro-batch change one another (dynamic int8)? Then nobody joins requests."""
    return ROWS_TOUCHING in compute.options.split("; ")


def is_comparable(compute: Compute) -> bool:
    """May results of two determinism classes be compared by tolerance (fp32), or inside one only?

    Integers of another kind of CPU are 2e-4 to 3e-2 away, honestly computed.
    """
    return CLASSES_APART not in compute.options.split("; ")


class ModelManifest(Record, frozen=True):
    """A prepared model or a dataset: its files, its shards, the identity of its computation.

    The signature is the publisher's over `prsm1mf` and everything before it. Without one it is a
    draft: usable by its CID where it was made, found under no name.
    """

    version: Annotated[int, msgspec.Meta(ge=3, le=3)]  # 2 had no weights beside a graph
    name: Name
    semver: Annotated[str, msgspec.Meta(min_length=5, max_length=32)]
    kind: Annotated[str, msgspec.Meta(max_length=16)]  # "onnx", "dataset"
    profile: Annotated[str, msgspec.Meta(max_length=32)]  # "unixfs-v1-2025"
    files: Annotated[tuple[ManifestFile, ...], msgspec.Meta(min_length=1, max_length=1024)]
    shards: Annotated[tuple[Shard, ...], msgspec.Meta(max_length=256)]
    tokenizer: int | None  # index into files of tokenizer.json, if the model reads text
    compute: Compute
    licence: _Text  # SPDX
    publisher: Bytes32
    parents: Annotated[tuple[CidBytes, ...], msgspec.Meta(max_length=16)]
    created_ms: UInt
    sealing: Annotated[tuple[KeyId, ...], msgspec.Meta(max_length=MANIFEST_KEYS_MAX)]  # may read it
    card: CidBytes | None  # of its `Card`, a raw block
    chain_id: ChainId
    signature: Signature | None

    @property
    def total_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def adapter(self) -> int | None:
        """Index into `files` of the adapter every shard runs with, if the model is adapted."""
        return self.place(ADAPTER_PATH)

    def place(self, path: str) -> int | None:
        """Index into `files` of the one with that path, if there is one."""
        return next((i for i, file in enumerate(self.files) if file.path == path), None)


class AskHave(Record, frozen=True):
    """Call: which leaves of a root do you hold?"""

    root: CidBytes


class Have(Record, frozen=True):
    """Answer to `AskHave`: total bytes and leaf count of the file, and a bitset of held leaves."""

    size: UInt
    leaves: UInt
    bitset: Annotated[bytes, msgspec.Meta(max_length=65536)]  # bit i % 8 of byte i // 8


class AskNode(Record, frozen=True):
    """Call: send the block with this sha2-256 digest (an interior node or a manifest)."""

    digest: Bytes32


class AskRange(Record, frozen=True):
    """Call: send `count` successive leaves of a root, starting with `first`."""

    root: CidBytes
    first: UInt
    count: Annotated[int, msgspec.Meta(ge=1, le=RANGE_LEAVES_MAX)]


class Blocks(Record, frozen=True):
    """Answer to `AskNode` and `AskRange`: sizes of the blocks that follow raw in the tail."""

    sizes: Annotated[tuple[UInt, ...], msgspec.Meta(max_length=RANGE_LEAVES_MAX)]


KINDS: Final[dict[int, type[Record]]] = {
    50: AskHave,
    51: Have,
    52: AskNode,
    53: AskRange,
    54: Blocks,
}
