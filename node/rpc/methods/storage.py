"""storage_: what this node's disk holds, how sound it is, what goes when room is needed."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.methods.tasks import TaskInfo
from prsm.node.rpc.pages import Page, PageParams
from prsm.node.rpc.spec import (
    CidText,
    Count,
    Method,
    NoParams,
    Params,
    Result,
    Scope,
    TaskIdText,
)

CAR_MS_MAX: Final = 600_000  # 1 GiB takes some ten seconds


class Disk(Result, frozen=True):
    """The disk of the node's folder; below 5 % or 2 GiB free no work and no shard is taken."""

    state: Literal["ok", "low", "read_only"]
    total_bytes: Count
    free_bytes: Count
    reserve_bytes: Count


class StorageStats(Result, frozen=True):
    """What the store holds, and what of its quota is left.

    `used_bytes` are those of files, of files on their way at their full size, of blocks, and
    reserved ones; pinned and leased files are among the files.
    """

    used_bytes: Count
    quota_bytes: Count
    files: Count
    files_bytes: Count
    partial_bytes: Count
    damaged_bytes: Count
    block_bytes: Count
    reserved_bytes: Count
    pinned_bytes: Count
    leased_bytes: Count
    models: Count
    offline: bool  # nobody is asked for blocks
    extra_stores: tuple[str, ...]
    sources: tuple[str, ...]  # peers and daemons that may be asked for blocks
    disk: Disk | None
    outbox: Count = 0  # what waits for validators: storage_listIntents


class SourceRow(Result, frozen=True):
    """Who may be asked for blocks; `next_try_ms` is from now, 0: it may be asked."""

    name: str
    kind: Literal["peer", "bitswap", "daemon", "gateway"]
    state: str
    latency_ms: Count
    rate_bytes_per_s: Count
    bytes: Count
    faults: Count
    last_error: str
    next_try_ms: Count


class Sources(Result, frozen=True):
    """All sources that are known now, class by class in the order they are tried."""

    offline: bool
    items: tuple[SourceRow, ...]


class PinRow(Result, frozen=True):
    """A file somebody wants kept, and how far that is."""

    cid: CidText
    of: str
    name: str
    owner: str
    state: Literal["held", "fetching", "waiting", "failed"]
    why: str


class Pins(Page, frozen=True):
    """All pins, by file and name."""

    items: tuple[PinRow, ...]


class GcParams(Params, frozen=True):
    """What may go."""

    dry_run: Annotated[bool, msgspec.Meta(description="only say what would go, and why")] = False
    partials: Annotated[
        bool, msgspec.Meta(description="also files on their way that nobody fetches now")
    ] = False


class GcRow(Result, frozen=True):
    """A file or block, and why it goes or stays; `id` is a CID, or a block's digest in hex."""

    id: str
    of: str
    size_bytes: Count
    goes: bool
    why: str


class Collected(Result, frozen=True):
    """What a collection removed, or would remove, and what stays and why."""

    dry_run: bool
    freed_bytes: Count
    used_bytes: Count
    quota_bytes: Count
    items: tuple[GcRow, ...]


class ScrubParams(Params, frozen=True):
    """Check everything now, or answer with the result of a task that did."""

    task: Annotated[
        TaskIdText | None, msgspec.Meta(description="answer with the result of this task")
    ] = None


class Damage(Result, frozen=True):
    """A file with damaged leaves; only those are fetched again."""

    cid: CidText
    of: str
    leaves: tuple[Count, ...]


class Scrubbed(Result, frozen=True):
    """What hashing every leaf of every file said."""

    ok: bool
    files: Count
    checked_bytes: Count
    items: tuple[Damage, ...]


class ExportParams(Params, frozen=True):
    """Of storage_export."""

    cid: Annotated[str, msgspec.Meta(description="a file, or a flat directory of such")]
    path: Annotated[str, msgspec.Meta(description="of the new CAR, absolute", max_length=4096)]


class ExportedCar(Result, frozen=True):
    """A CAR that was written."""

    cid: str
    path: str
    size_bytes: Count
    blocks: Count


class ImportParams(Params, frozen=True):
    """Of storage_import."""

    path: Annotated[str, msgspec.Meta(description="of a CAR, absolute", max_length=4096)]


class ImportedFile(Result, frozen=True):
    """A file of a CAR: its root there, and the one it has here."""

    path: str  # "" where the root of the CAR is a file
    cid: str
    root: str
    size_bytes: Count
    profile: str  # by which the CAR had it


class ImportedCar(Result, frozen=True):
    """A CAR whose files are stored now."""

    cid: str
    blocks: Count
    files: tuple[ImportedFile, ...]


class RemoveParams(Params, frozen=True):
    """Of storage_remove."""

    cid: Annotated[str, msgspec.Meta(description="of the CAR, as storage_import told it")]


class RemovedCar(Result, frozen=True):
    """What went; `kept` files belong to a model or another CAR, are pinned or in use."""

    cid: str
    files: Count
    freed_bytes: Count
    kept: Count


METHODS: Final = (
    Method(
        "storage_getStats",
        NoParams,
        StorageStats,
        Scope.READ,
        "What the store holds, the quota, the disk.",
        words=("storage", "stats"),
    ),
    Method(
        "storage_listSources",
        NoParams,
        Sources,
        Scope.READ,
        "Whom this node may ask for blocks, and how each of them does.",
        words=("storage", "sources"),
    ),
    Method(
        "storage_listPins",
        PageParams,
        Pins,
        Scope.READ,
        "Files somebody wants kept, and how far that is.",
        words=("storage", "pins"),
        page_by="cid",
    ),
    Method(
        "storage_gc",
        GcParams,
        Collected,
        Scope.WRITE,
        "Remove cached files that are used least, until there is room again.",
        words=("model", "gc"),
        deadline_ms=60_000,
        example=GcParams(dry_run=True),
    ),
    Method(
        "storage_scrub",
        ScrubParams,
        Scrubbed,
        Scope.WRITE,
        "Hash every leaf of every file now.",
        words=("storage", "scrub"),
        deadline_ms=600_000,
        example=ScrubParams(),
    ),
    Method(
        "storage_startScrub",
        ScrubParams,
        TaskInfo,
        Scope.WRITE,
        "As storage_scrub, but answers with the task at once.",
        example=ScrubParams(),
    ),
    Method(
        "storage_export",
        ExportParams,
        ExportedCar,
        # It writes any path the node may write, so a token for writes is not enough.
        Scope.ADMIN,
        "Write what is stored under a CID into a CAR.",
        deadline_ms=CAR_MS_MAX,
        example=ExportParams(
            "bafybeidhwvalnure6oiymx5auydpueikvveez6pbowbo6sjrbhdaw3ywmi", "/m.car"
        ),
    ),
    Method(
        "storage_import",
        ImportParams,
        ImportedCar,
        Scope.ADMIN,
        "Check a CAR, store the files in it, and keep them.",
        deadline_ms=CAR_MS_MAX,
        example=ImportParams("/m.car"),
    ),
    Method(
        "storage_remove",
        RemoveParams,
        RemovedCar,
        Scope.WRITE,
        "Delete what a CAR brought, but for what something else keeps.",
        words=("storage", "rm"),
        positional=("cid",),
        deadline_ms=60_000,
        example=RemoveParams("bafybeidhwvalnure6oiymx5auydpueikvveez6pbowbo6sjrbhdaw3ywmi"),
    ),
)
