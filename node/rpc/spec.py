"""What a method is, and the types its parameters and results are made of.

One `Method` makes the dispatch, the OpenRPC entry, the command of the CLI and the reference page.
Amounts are decimal strings of micro-FTNS, bytes are `0x…`, times RFC 3339 in UTC.

Knows: names, types, scopes. Must not know: handlers, transports.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import msgspec

if TYPE_CHECKING:  # a client that reads the table loads no logs
    from prsm.node.telemetry.events import Listening, Take

# `$` of Python's regex would let a newline pass behind it; `(?![\s\S])` means the end both there
# and in the ECMA dialect of JSON Schema.
_END: Final = r"(?![\s\S])"

# pattern -> what a person is told it means; filled by `_text`.
FORMS: Final[dict[str, str]] = {}


def _text(pattern: str, meaning: str) -> msgspec.Meta:
    whole = f"^{pattern}{_END}"
    FORMS[whole] = meaning
    return msgspec.Meta(pattern=whole, description=meaning)


AmountText = Annotated[str, _text(r"(0|[1-9][0-9]{0,18})", "micro-FTNS as a decimal string")]
Hex32 = Annotated[str, _text(r"0x[0-9a-f]{64}", "0x and 64 hex digits")]
HexBytes = Annotated[str, _text(r"0x([0-9a-f]{2})*", "0x and pairs of hex digits")]
ChainIdText = Annotated[str, _text(r"0x[0-9a-f]{16}", "0x and 16 hex digits")]
PeerIdText = Annotated[str, _text(r"[1-9A-HJ-NP-Za-km-z]{40,64}", "a peer id such as 12D3Koo…")]
CidText = Annotated[str, _text(r"[a-zA-Z0-9]{46,113}", "a CID such as bafy…")]
KeyName = Annotated[
    str, _text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "up to 64 letters, digits, dots and dashes")
]
JobIdText = Hex32  # the escrow's transaction names the job
TaskIdText = Annotated[
    str, _text(r"[a-z]{1,16}(-[0-9a-f]{0,8})?", "a task id such as pull-1f0c2a9b")
]
RefText = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=256, description="name, name@version or CID"),
]
ShortText = Annotated[str, msgspec.Meta(max_length=1024)]
PathText = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Ordinal = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
WaitMs = Annotated[int, msgspec.Meta(ge=0, le=60_000)]


class Scope(StrEnum):
    """What a caller may do. A method asks for one; a caller holds a set of them."""

    READ = "read"
    WRITE = "write"
    SIGN = "sign"
    ADMIN = "admin"


ALL_SCOPES: Final = frozenset(Scope)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all parameters: an unknown name is refused."""


class Result(msgspec.Struct, frozen=True):
    """Base of all results: newer nodes may add fields, older clients pass over them."""

    def _repr_html_(self) -> str:
        """Itself as a table, for notebooks."""
        from prsm.node.rpc.shown import html  # noqa: PLC0415 - only there

        return html(self)


class NoParams(Params, frozen=True):
    """For methods that take nothing."""


class Line(Protocol):
    """A connection that is told things without asking: what the sub_ methods need of a caller."""

    def add(self, begin: "Callable[[Take], Listening]") -> "tuple[str, Listening]":
        """Begin a subscription; its name, and what was begun. It is told after its answer.

        Raises:
            TooMany: this connection has as many as it may.
        """
        ...

    def drop(self, subscription: str) -> bool:
        """End one; was there such?"""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: how it was recognised, what it may do, and the trace its errors carry.

    Attributes:
        name: how logs and the audit log call it: "cookie", "unix", "token lab-ci", "nobody".
        scopes: what it may do.
        trace_id: of this request.
        wait_gone: returns once the caller hung up; None where nobody can tell.
        tenant: whose jobs, tasks and objects it sees; "" is the node's operator, who sees all.
        methods: patterns such as `job_*` it is limited to; empty: all its scopes allow.
        token_id: of the token it came with, whose limits its spending counts against; "" if none.
        expires_ms: when what it came with ends, ms since 1970; None: never.
        line: its WebSocket; None where nothing can be told without asking.
    """

    name: str
    scopes: frozenset[Scope]
    trace_id: str = ""
    wait_gone: Callable[[], Awaitable[None]] | None = None
    tenant: str = ""
    methods: tuple[str, ...] = ()
    token_id: str = ""
    expires_ms: int | None = None
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """One callable of the node.

    Attributes:
        name: `namespace_verbNoun`.
        params: struct of the parameters; its field order is that of positional calls.
        result: what the handler returns; msgspec writes it as JSON.
        scope: what the caller must hold.
        summary: one line for people.
        words: the command of the CLI, ("chain", "block"); empty if written by hand or absent.
        positional: fields the command takes without a flag.
        deadline_ms: how long a handler may take before the caller gets -32006.
        example: parameters a test calls it with; None if it takes none.
        page_by: of a list: the field that names a row; its params are `PageParams`, its result a
            `Page`.
        path: `/status`: where GET answers the result itself, its parameters in the query; of reads.
        tells_secret: its answer is shown this once, and written down nowhere.
    """

    name: str
    params: type[Params]
    result: Any
    scope: Scope
    summary: str
    words: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    deadline_ms: int = 10_000
    example: Params | None = None
    path: str = ""
    page_by: str = ""
    tells_secret: bool = False


_NAME: Final = re.compile(r"[a-z]+_[a-z][a-zA-Z]*")


def table(*groups: Iterable[Method]) -> Mapping[str, Method]:
    """Join groups of methods by name; a duplicate or a malformed entry is a bug of ours."""
    methods: dict[str, Method] = {}
    for method in (method for group in groups for method in group):
        fields = method.params.__struct_fields__
        assert _NAME.fullmatch(method.name), method.name
        assert method.name not in methods, f"{method.name} twice"
        assert set(method.positional) <= set(fields), method.name
        assert not method.path or method.scope is Scope.READ, method.name
        assert method.example is None or isinstance(method.example, method.params), method.name
        methods[method.name] = method
    return MappingProxyType(methods)
