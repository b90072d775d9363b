"""audit_: who told this node what, in lines that vouch for each other."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import Count, Hex32, Method, NoParams, Params, Result, Scope


class AuditListParams(Params, frozen=True):
    """Lines from the newest on."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    cursor: Annotated[
        str, msgspec.Meta(max_length=64, description="next_cursor of the page before")
    ] = ""


class AuditLine(Result, frozen=True):
    """A line: `call` before it is done, `end` after it (`fields.of` is the number of the call).

    `refused`: somebody without the scope asked, `fields.times` times since the last such line.
    """

    seq: Count
    ts: str
    event: str
    who: str
    tenant: str
    token_id: str
    subject: str
    trace_id: str
    fields: dict[str, str]
    prev: Hex32
    hash: Hex32


class AuditLines(Result, frozen=True):
    """A page of lines, newest first."""

    items: tuple[AuditLine, ...]
    next_cursor: str | None


class AuditVerifyParams(Params, frozen=True):
    """Anchors that were kept elsewhere are compared too: they find a log written anew."""

    tx_ids: Annotated[
        tuple[Hex32, ...], msgspec.Meta(max_length=16, description="transactions that anchored it")
    ] = ()


class AuditAnchor(Result, frozen=True):
    """A root on the ledger: `held` the line is here as it was then, `differs` it is not."""

    tx_id: Hex32
    seq: Count
    hash: str
    height: Count | None
    state: Literal["held", "pending", "differs", "unknown"]
    why: str


class AuditVerdict(Result, frozen=True):
    """What reading every line found, and what the ledger says; `broken_at` 0: the chain holds."""

    ok: bool
    first: Count
    last: Count
    root: Hex32
    broken_at: Count
    why: str
    anchored: Count  # lines up to this one are vouched for by the ledger
    anchors: tuple[AuditAnchor, ...]


class AuditAnchored(Result, frozen=True):
    """A root on its way to the ledger."""

    tx_id: Hex32
    seq: Count
    hash: Hex32


METHODS: Final = (
    Method(
        "audit_list",
        AuditListParams,
        AuditLines,
        Scope.ADMIN,
        "Calls that administered this node or signed for it.",
        words=("audit", "ls"),
        example=AuditListParams(limit=10),
    ),
    Method(
        "audit_verify",
        AuditVerifyParams,
        AuditVerdict,
        Scope.ADMIN,
        "Follow the chain of the audit log, and compare it with its anchors on the ledger.",
        words=("audit", "verify"),
        deadline_ms=60_000,
        example=AuditVerifyParams(),
    ),
    Method(
        "audit_anchor",
        NoParams,
        AuditAnchored,
        Scope.SIGN,
        "Write the root of the audit log to the ledger now.",
        words=("audit", "anchor"),
    ),
)
