"""storage_: what this node's disk holds, and whom it may ask for more."""

from typing import Annotated, Final

import msgspec

from prsm.node.rpc.spec import Count, Method, NoParams, Params, Result, Scope

CAR_MS_MAX: Final = 600_000  # 1 GiB takes some ten seconds


class StorageStats(Result, frozen=True):
    """What the block store holds."""

    files: Count
    used_bytes: Count
    quota_bytes: Count
    models: Count
    offline: bool  # nobody is asked for blocks
    sources: tuple[str, ...]  # peers that may be asked for blocks


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


METHODS: Final = (
    Method(
        "storage_getStats",
        NoParams,
        StorageStats,
        Scope.READ,
        "Blocks held, and the quota.",
        words=("storage", "stats"),
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
        "Check a CAR and store the files in it.",
        deadline_ms=CAR_MS_MAX,
        example=ImportParams("/m.car"),
    ),
)
