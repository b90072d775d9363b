"""tenant_ spending_: who shares this node, within which quotas, and what their tokens spend."""

from typing import Annotated, Final

import msgspec

from prsm.node.rpc.spec import AmountText, Count, KeyName, Method, NoParams, Params, Result, Scope

_Running = Annotated[
    int, msgspec.Meta(ge=0, le=1_000, description="jobs, plans and texts at work at once")
]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**53, description="bytes of models it has here")]
_TokenId = Annotated[str, msgspec.Meta(max_length=64)]
_Calls = Annotated[int, msgspec.Meta(ge=1, le=100_000, description="calls a second")]


class NewTenantParams(Params, frozen=True):
    """A tenant and its quotas."""

    name: KeyName
    running_max: _Running = 4
    storage_bytes_max: _Bytes = 10 * 2**30
    calls_per_s: _Calls = 50


class SetTenantParams(Params, frozen=True):
    """Which quotas of a tenant change; those left out stay."""

    name: KeyName
    running_max: _Running | None = None
    storage_bytes_max: _Bytes | None = None
    calls_per_s: _Calls | None = None


class TenantParams(Params, frozen=True):
    """Which tenant."""

    name: KeyName


class OwnTenantParams(Params, frozen=True):
    """Which tenant; the caller's own if left out."""

    name: Annotated[KeyName | None, msgspec.Meta(description="the caller's own if left out")] = None


class TenantInfo(Result, frozen=True):
    """A tenant: its quotas, and what it uses of them now."""

    name: str
    running_max: Count
    running: Count
    storage_bytes_max: Count
    storage_bytes: Count
    calls_per_s: Count
    made: str


class TenantList(Result, frozen=True):
    """All tenants by name."""

    items: tuple[TenantInfo, ...]


class RemovedTenant(Result, frozen=True):
    """A tenant that is gone; what it had is the operator's."""

    name: str


class SpendingParams(Params, frozen=True):
    """Which token; the caller's own if left out."""

    token_id: Annotated[
        _TokenId | None, msgspec.Meta(description="the caller's own if left out")
    ] = None


class SpendingInfo(Result, frozen=True):
    """Micro-FTNS of a token; null: no limit. `spent` and `spent_today` (24 hours) hold `held`."""

    token_id: str
    spend_limit: AmountText | None
    daily_cap: AmountText | None
    spent: AmountText
    held: AmountText  # reserved for what is not settled
    spent_today: AmountText
    left: AmountText | None


METHODS: Final = (
    Method(
        "tenant_create",
        NewTenantParams,
        TenantInfo,
        Scope.ADMIN,
        "Make a tenant, with quotas of work, storage and calls.",
        words=("tenant", "new"),
        positional=("name",),
        example=NewTenantParams("lab-3"),
    ),
    Method(
        "tenant_list",
        NoParams,
        TenantList,
        Scope.ADMIN,
        "Who shares this node.",
        words=("tenant", "ls"),
    ),
    Method(
        "tenant_get",
        OwnTenantParams,
        TenantInfo,
        Scope.READ,
        "A tenant, its quotas, and what it uses of them.",
        words=("tenant", "show"),
        positional=("name",),
        example=OwnTenantParams("lab-3"),
    ),
    Method(
        "tenant_set",
        SetTenantParams,
        TenantInfo,
        Scope.ADMIN,
        "Change quotas of a tenant.",
        words=("tenant", "set"),
        positional=("name",),
        example=SetTenantParams("lab-3", running_max=8),
    ),
    Method(
        "tenant_remove",
        TenantParams,
        RemovedTenant,
        Scope.ADMIN,
        "Forget a tenant; what it had is the operator's, its tokens are not revoked.",
        words=("tenant", "rm"),
        positional=("name",),
        example=TenantParams("lab-3"),
    ),
    Method(
        "spending_get",
        SpendingParams,
        SpendingInfo,
        Scope.READ,
        "What a token has spent, and what it may still spend.",
        words=("tenant", "spending"),
        positional=("token_id",),
        example=SpendingParams("0123456789abcdef"),
    ),
)
