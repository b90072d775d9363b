"""dataset_: files of labelled rows that models are evaluated on."""

from typing import Annotated, Final

import msgspec

from prsm.node.rpc.pages import Page, PageParams
from prsm.node.rpc.spec import (
    AmountText,
    CidText,
    Count,
    Hex32,
    Method,
    Params,
    PathText,
    Result,
    Scope,
    ShortText,
)
from prsm.protocol.limits import NAME_BYTES_MAX

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
_Semver = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}(?![\s\S])")]
_Zero: Final = "0"


class AddDatasetParams(Params, frozen=True):
    """Check, store and register a file of slices that lies on the node's disk."""

    path: Annotated[PathText, msgspec.Meta(description="file of slices on the node's machine")]
    name: _Name
    semver: Annotated[_Semver, msgspec.Meta(description="version, such as 1.0.0")] = "1.0.0"
    licence: Annotated[ShortText, msgspec.Meta(description="SPDX name")] = "NOASSERTION"
    price: Annotated[AmountText, msgspec.Meta(description="micro-FTNS asked for a copy")] = _Zero
    register: Annotated[bool, msgspec.Meta(description="name it on the ledger")] = True
    card: Annotated[
        PathText | None, msgspec.Meta(description="JSON file with summary and task, signed by us")
    ] = None


class DatasetInfo(Result, frozen=True):
    """A dataset of the ledger, or one that was just added."""

    ref: str
    cid: CidText
    rows: Count
    size_bytes: Count
    price: AmountText
    registered: bool
    local: bool
    publisher: Hex32
    tx_id: Hex32 | None = None
    queued: str = ""  # what its name waits for, if it was ordered and is in no block yet


class DatasetList(Page, frozen=True):
    """Datasets on the ledger, in the order of their registration."""

    items: tuple[DatasetInfo, ...]


METHODS: Final = (
    Method(
        "dataset_add",
        AddDatasetParams,
        DatasetInfo,
        # It reads any path the node may read, so a token for writes is not enough.
        Scope.ADMIN,
        "Check, store and register a dataset.",
        words=("dataset", "add"),
        positional=("path",),
        deadline_ms=300_000,
        example=AddDatasetParams("/data/digits-test.slices", "digits-test"),
    ),
    Method(
        "dataset_list",
        PageParams,
        DatasetList,
        Scope.READ,
        "Datasets on the ledger.",
        words=("dataset", "ls"),
        page_by="cid",
    ),
)
