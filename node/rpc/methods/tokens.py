"""token_: who else may call this node, and what each may do."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import (
    AmountText,
    Count,
    Hex32,
    KeyName,
    Method,
    NoParams,
    Params,
    Result,
    Scope,
)

YEARS_S: Final = 10 * 365 * 86_400
GRACE_S_MAX: Final = 30 * 86_400

TokenId = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}(?![\s\S])", description="a token's id, or its beginning"
    ),
]
MethodPattern = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-zA-Z*][a-zA-Z_.*]{0,63}(?![\s\S])",
        description="a method or a pattern such as job_*",
    ),
]
Role = Literal["admin", "operator", "user", "observer"]
ScopeWord = Literal["read", "write", "sign", "admin"]
TokenState = Literal["live", "expired", "revoked", "rotated"]


class CreateTokenParams(Params, frozen=True):
    """A new token; exactly one of `role` and `scopes`. `read` is in every token.

    With `public_key` no secret is made: requests signed with that Ed25519 key have the rights.
    """

    name: KeyName
    role: Annotated[Role | None, msgspec.Meta(description="a named set of scopes")] = None
    scopes: Annotated[
        tuple[ScopeWord, ...], msgspec.Meta(max_length=4, description="what it may do")
    ] = ()
    ttl_s: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=YEARS_S)] | None,
        msgspec.Meta(description="seconds until it ends; null: never"),
    ] = 30 * 86_400
    tenant: Annotated[KeyName | None, msgspec.Meta(description="whose work it sees")] = None
    methods: Annotated[
        tuple[MethodPattern, ...],
        msgspec.Meta(max_length=64, description="only these methods, such as job_*"),
    ] = ()
    spend_limit: Annotated[
        AmountText | None, msgspec.Meta(description="micro-FTNS it may spend in all")
    ] = None
    daily_cap: Annotated[
        AmountText | None, msgspec.Meta(description="micro-FTNS it may spend in a day")
    ] = None
    public_key: Annotated[
        Hex32 | None, msgspec.Meta(description="of signed requests, instead of a secret")
    ] = None


class TokenInfo(Result, frozen=True):
    """A token without its secret; `expires` is null for one that never ends."""

    id: TokenId
    name: str
    state: TokenState
    role: str
    scopes: tuple[ScopeWord, ...]
    tenant: str
    methods: tuple[str, ...]
    spend_limit: AmountText | None
    daily_cap: AmountText | None
    public_key: str
    made_by: str
    created: str
    expires: str | None


class NewToken(Result, frozen=True):
    """A token with its secret, shown this once; "" for one of a public key."""

    id: TokenId
    token: str
    name: str
    scopes: tuple[ScopeWord, ...]
    tenant: str
    expires: str | None


class ListTokensParams(Params, frozen=True):
    """A page of tokens."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000
    cursor: Annotated[str, msgspec.Meta(max_length=64, description="of the page before")] = ""


class TokenList(Result, frozen=True):
    """Tokens, oldest first."""

    items: tuple[TokenInfo, ...]
    next_cursor: str | None = None


class TokenParams(Params, frozen=True):
    """Which token."""

    id: TokenId


class Revoked(Result, frozen=True):
    """The tokens that were taken back: the named one and those made with it."""

    ids: tuple[TokenId, ...]


class RotateParams(Params, frozen=True):
    """How long tokens of the old key still count."""

    grace_s: Annotated[
        int, msgspec.Meta(ge=0, le=GRACE_S_MAX, description="seconds the old tokens still count")
    ] = 0


class Rotated(Result, frozen=True):
    """The new key, and how many live tokens end with the old one and when."""

    key_id: str
    ending: Count
    ends: str


class WhoAmI(Result, frozen=True):
    """Who calls, and what the node lets it do."""

    name: str
    scopes: tuple[ScopeWord, ...]
    tenant: str
    methods: tuple[str, ...]
    token_id: str
    expires: str | None
    spend_limit: AmountText | None
    daily_cap: AmountText | None


class Login(Result, frozen=True):
    """A code that buys one read token of the dashboard, once, within a minute."""

    code: str
    url: str
    expires: str


METHODS: Final = (
    Method(
        "token_create",
        CreateTokenParams,
        NewToken,
        Scope.ADMIN,
        "Make a token for another program or person.",
        example=CreateTokenParams("lab-ci", role="observer"),
        tells_secret=True,
    ),
    Method(
        "token_list",
        ListTokensParams,
        TokenList,
        Scope.ADMIN,
        "Tokens that were made, what each may do, and which ended.",
        words=("token", "ls"),
    ),
    Method(
        "token_revoke",
        TokenParams,
        Revoked,
        Scope.ADMIN,
        "Take a token back, and those made with it.",
        words=("token", "revoke"),
        positional=("id",),
        example=TokenParams("tk-0"),
    ),
    Method(
        "token_rotateKey",
        RotateParams,
        Rotated,
        Scope.ADMIN,
        "Sign tokens with a new key; those of the old one end.",
    ),
    Method(
        "token_whoami",
        NoParams,
        WhoAmI,
        Scope.READ,
        "Who the node takes you for, and what you may do.",
        words=("token", "whoami"),
    ),
    Method(
        "token_createLogin",
        NoParams,
        Login,
        Scope.READ,
        "A code that opens the dashboard once, within a minute.",
        tells_secret=True,
    ),
)
