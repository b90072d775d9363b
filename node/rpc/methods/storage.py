"""storage_: what this node's disk holds, and whom it may ask for more."""

from typing import Final

from prsm.node.rpc.spec import Count, Method, NoParams, Result, Scope


class StorageStats(Result, frozen=True):
    """What the block store holds."""

    files: Count
    used_bytes: Count
    quota_bytes: Count
    models: Count
    offline: bool  # nobody is asked for blocks
    sources: tuple[str, ...]  # peers that may be asked for blocks


METHODS: Final = (
    Method(
        "storage_getStats",
        NoParams,
        StorageStats,
        Scope.READ,
        "Blocks held, and the quota.",
        words=("storage", "stats"),
    ),
)
