"""The worker pipe: what daemon, fork server and children say to each other, and their errors.

Frames are those of the wire (protocol/framing); tensors travel raw in the tail. Both ends run on
one machine, yet what comes back from a child is read with the same suspicion as a peer's bytes:
a child has held a stranger's model.
"""

import hashlib
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import LocalError
from prsm.protocol.framing import Refusal
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.limits import (
    ARRAY_LENGTH_MAX,
    MIB,
    SHARD_WEIGHTS_MAX,
    TENSOR_BYTES_MAX,
    TENSORS_PER_MESSAGE_MAX,
    TEXT_BYTES_MAX,
    WORK_STAGES_MAX,
)
from prsm.protocol.messages import chats, forms, steps
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.registry import Registry
from prsm.protocol.tensors import TensorHead

# A run may carry several boundary tensors; two full ones and their heads fit.
PIPE_FRAME_BYTES_MAX: Final = 2 * TENSOR_BYTES_MAX + 4 * MIB
CONTROL_FRAME_BYTES_MAX: Final = 64 * 1024
FILE_PART_BYTES_MAX: Final = 1 * MIB
PREPARED_SHARDS_MAX: Final = 256  # as in ModelManifest
BATCH_ROWS_MAX: Final = ARRAY_LENGTH_MAX

SIDE_NAME_CHARS_MAX: Final = 255

FileName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9.-]{0,62}\Z")]
_Text = Annotated[str, msgspec.Meta(max_length=256)]
_Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_Heads = Annotated[tuple[TensorHead, ...], msgspec.Meta(max_length=TENSORS_PER_MESSAGE_MAX)]
_Specs = Annotated[tuple[TensorSpec, ...], msgspec.Meta(max_length=TENSORS_PER_MESSAGE_MAX)]
_SideNames = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=SIDE_NAME_CHARS_MAX)], ...],
    msgspec.Meta(max_length=SHARD_WEIGHTS_MAX),
]
_Stages = Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)]


class WorkerFailed(LocalError):
    """A child or the fork server died, or answered what no worker answers."""

    reason = "worker_failed"


class OutOfMemory(LocalError):
    """The job needed more memory than its child may have."""

    reason = "out_of_memory"


class InputMismatch(LocalError):
    """A tensor's name, dtype or shape is not what the graph takes, or a float is NaN or Inf."""

    reason = "input_mismatch"


class ModelRefused(LocalError):
    """The static gate, the runtime or the equality check refuses the model or tokenizer."""

    reason = "model_refused"


class NoCut(ModelRefused):
    """The graph cannot be cut into that many stages; the text names the counts that exist."""

    reason = "no_cut_for_k"


class DoesNotFit(OutOfMemory):
    """A shard or model needs more memory than a child of this machine may have; nothing ran."""

    reason = "does_not_fit"


class DeadlinePassed(LocalError):
    """The job ran into its limit of wall or processor time and was ended."""

    reason = "deadline_passed"


class Cancelled(LocalError):
    """The run was ended by a CANCEL of its caller."""

    reason = "cancelled"


_ERRORS: Final = {
    cls.reason: cls
    for cls in (
        WorkerFailed,
        OutOfMemory,
        DoesNotFit,
        InputMismatch,
        ModelRefused,
        NoCut,
        DeadlinePassed,
        Cancelled,
        steps.PositionMismatch,
        steps.QuotaFull,
    )
}


# What to do next, by reason; a child cannot know how the daemon is configured.
_HINTS: Final = {
    OutOfMemory.reason: "send fewer rows or shorter ones, or give workers more memory",
    InputMismatch.reason: "send the names, dtypes and shapes that the message says the graph takes",
    ModelRefused.reason: "export it again: weights inside, standard operators, no control flow",
    NoCut.reason: "ask for one of the counts that exist",
    DeadlinePassed.reason: "send fewer rows at a time, or allow more time",
    WorkerFailed.reason: "try again; if it stays, look into the log of the node",
}


def refusal(error: LocalError) -> Refusal:
    """Write a typed error as the body of an ERROR frame; long texts are cut."""
    return Refusal(error.reason, error.what[: TEXT_BYTES_MAX // 4], 0)


def refused(body: Refusal) -> LocalError:
    """Read an ERROR frame back as the error to raise; unknown reasons become `WorkerFailed`."""
    return _ERRORS.get(body.reason, WorkerFailed)(body.what, hint=_HINTS.get(body.reason, ""))


class Role(IntEnum):
    """What a child is for; each role has its own sandbox profile."""

    SESSION = 1  # loads one shard, answers runs
    PREPARE = 2  # scans, pins and cuts a raw model; may write into one temporary directory
    TEXT = 3  # tokenises
    SPEECH = 4  # tokenises a prompt, then turns tokens into text as they come
    COMPRESS = 5  # makes weights smaller and measures it; writes as PREPARE does
    TEMPLATE = 6  # writes a conversation by a model's own program


class Ready(Record, frozen=True):
    """Fork server to daemon, once, when its imports are done."""

    runtime: _Text
    layers: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=8)]  # of the sandbox


class Spawn(Record, frozen=True):
    """Call: fork a child; its file descriptors travel beside the frame, the pipe first."""

    child: UInt
    role: Role
    memory_bytes: UInt  # RLIMIT_AS
    cpu_seconds: UInt  # RLIMIT_CPU over the child's whole life
    file_bytes: UInt  # RLIMIT_FSIZE
    folder: _Path  # becomes the current directory: empty; writable for PREPARE only


class Spawned(Record, frozen=True):
    """Answer to `Spawn`."""

    child: UInt
    pid: UInt


class Kill(Record, frozen=True):
    """Daemon to fork server: end a child at once."""

    child: UInt


class Exited(Record, frozen=True):
    """Fork server to daemon: a child is gone and reaped."""

    child: UInt
    status: Annotated[int, msgspec.Meta(ge=-255, le=255)]  # exit code, or minus the signal
    cpu_ms: UInt
    rss_bytes_max: UInt


class Load(Record, frozen=True):
    """Call: read, scan and load the shard; run the golden rows."""


class Loaded(Record, frozen=True):
    """Answer to `Load`."""

    inputs: _Specs
    outputs: _Specs
    runtime: _Text
    options: _Text
    shard_sha256: Bytes32
    output_root: Bytes32  # of the golden rows as computed here
    rss_bytes: UInt


class Run(Record, frozen=True):
    """Call: run the shard on the tensors in the tail."""

    tensors: _Heads


class Ran(Record, frozen=True):
    """Answer to `Run`: the graph's outputs in its own order, raw in the tail."""

    tensors: _Heads
    cpu_us: UInt
    rss_bytes: UInt


class Cancel(Record, frozen=True):
    """Daemon to child: end the run in progress between two operators."""


class Compare(Record, frozen=True):
    """Call: how far apart are two sets of outputs? The tail holds ours, then theirs."""

    ours: _Heads
    theirs: _Heads


class Compared(Record, frozen=True):
    """Answer to `Compare`: the largest relative L2 of a row, in parts per billion."""

    gap_ppb: UInt


class AskSideFiles(Record, frozen=True):
    """Call: which other files do the weights of this model lie in?"""


class SideFiles(Record, frozen=True):
    """Answer to `AskSideFiles`: names as the model gives them; the daemon opens what it accepts."""

    names: _SideNames


class Prepare(Record, frozen=True):
    """Call: scan, pin, cut, check; files come as `FilePart`, then one `PreparedModel`."""

    stages: Annotated[tuple[_Stages, ...], msgspec.Meta(max_length=WORK_STAGES_MAX)]
    has_tokenizer: bool
    sides: _SideNames  # of the descriptors behind model and tokenizer, in their order


class FilePart(Record, frozen=True):
    """Child to daemon: the next bytes of a file, raw in the tail; parts of a file follow in order.

    The child names the file, the daemon alone opens it.
    """

    name: FileName
    offset: UInt
    size: UInt  # of the whole file


class PreparedShard(Record, frozen=True):
    """One stage of a split; as `models.Shard`, but files by name."""

    stages: _Stages
    index: Annotated[int, msgspec.Meta(ge=0, lt=WORK_STAGES_MAX)]
    file: FileName
    golden: FileName
    inputs: _Specs
    outputs: _Specs
    weight_flops: UInt
    weight_bytes: UInt
    weights: Annotated[tuple[FileName, ...], msgspec.Meta(max_length=SHARD_WEIGHTS_MAX)]


class PreparedModel(Record, frozen=True):
    """Answer to `Prepare`."""

    shards: Annotated[
        tuple[PreparedShard, ...], msgspec.Meta(min_length=1, max_length=PREPARED_SHARDS_MAX)
    ]
    runtime: _Text
    options: _Text
    raw_sha256: Bytes32
    pinned_sha256: Bytes32
    stages_max: _Stages  # every count from 1 to this one exists


class Golden(Record, frozen=True):
    """Head of a golden file: u32 length | this | the input tensors of a shard, raw."""

    tensors: _Heads


class Tokenise(Record, frozen=True):
    """Call: the tail holds `texts` times u32 length and UTF-8 bytes."""

    texts: UInt
    rows_per_batch: Annotated[int, msgspec.Meta(ge=1, le=BATCH_ROWS_MAX)]
    tokens_max: Annotated[int, msgspec.Meta(ge=1, le=4096)]


class TextBatch(Record, frozen=True):
    """Child to daemon: one micro-batch; `rows` are the places of its texts in the call."""

    rows: Annotated[tuple[UInt, ...], msgspec.Meta(min_length=1, max_length=BATCH_ROWS_MAX)]
    tensors: _Heads


class Tokenised(Record, frozen=True):
    """Answer to `Tokenise`, after its batches."""

    batches: U32


def class_id(loaded: Loaded, adapted: forms.Adapted | None = None) -> bytes:
    """Return the determinism class of a shard on this worker, 32 bytes; an adapter is part of it.

    A class is proved by behaviour: equal ids mean equal bits on the golden rows under the same
    runtime and options (docs/spec/work.md, "Determinism and sandbox").
    """
    parts = (loaded.runtime, loaded.shard_sha256, loaded.options, loaded.output_root)
    base = hashlib.sha256(b"prsm/class/1" + encode(parts)).digest()
    if adapted is None:
        return base
    adapter = encode((base, adapted.sha256, adapted.output_root))
    return hashlib.sha256(b"prsm/class/1/adapted" + adapter).digest()


KINDS: Final[dict[int, type[Record]]] = {
    100: Ready,
    101: Spawn,
    102: Spawned,
    103: Kill,
    104: Exited,
    105: Compare,
    106: Compared,
    **steps.KINDS,  # 107 to 109, 115 to 119
    110: Load,
    111: Loaded,
    112: Run,
    113: Ran,
    114: Cancel,
    120: Prepare,
    121: FilePart,
    122: PreparedModel,
    **forms.KINDS,  # 123 to 128
    130: Tokenise,
    131: TextBatch,
    132: Tokenised,
    133: AskSideFiles,
    134: SideFiles,
    **chats.KINDS,  # 135, 136
}
# The pipe's own table: a child never decodes a record of the network.
PIPE: Final[Registry[Record]] = Registry("pipe message")
for _number, _cls in KINDS.items():
    PIPE.add(_number, _cls)
