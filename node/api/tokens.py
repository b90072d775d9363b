"""Handlers of token_: nobody hands out more than they have.

A caller gives scopes of its own only, of its own tenant, no longer than its own time; one that is
bound to some methods or to a budget hands out nothing, since two children would spend it twice.

Knows: the tokens' store, login codes. Must not know: HTTP, how a token is checked.
"""

from collections.abc import Callable
from typing import Final, cast

from prsm.node.api.logins import LOGIN_MS, Logins
from prsm.node.callers.tokens import ROLES, Limits, Token, Tokens
from prsm.node.clock import Clock, utc_text
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.errors import BadParams, Forbidden
from prsm.node.rpc.methods import tokens as api
from prsm.node.rpc.spec import ALL_SCOPES, Caller, NoParams, Scope
from prsm.protocol.errors import Unsupported

_ORDER: Final = tuple(Scope)


class TokensApi:
    """Answers about tokens.

    Args:
        tokens: of this node.
        logins: codes of the dashboard.
        clock: of the node.
        base_url: where a browser finds the node, `http://127.0.0.1:8480`.
        is_on: whether the door lets tokens in: `rpc.jwt`.
    """

    def __init__(
        self,
        tokens: Tokens,
        logins: Logins,
        clock: Clock,
        base_url: Callable[[], str],
        *,
        is_on: bool = True,
    ) -> None:
        self._is_on = is_on
        self._tokens = tokens
        self._logins = logins
        self._clock = clock
        self._base_url = base_url

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "token_create": self.create,
            "token_list": self.list,
            "token_revoke": self.revoke,
            "token_rotateKey": self.rotate_key,
            "token_whoami": self.whoami,
            "token_createLogin": self.create_login,
        }

    async def create(self, params: api.CreateTokenParams, caller: Caller) -> api.NewToken:
        """Make a token.

        Raises:
            BadParams: not exactly one of role and scopes, or a key that has a token.
            BadToken: the caller's own ended meanwhile.
            Forbidden: more than the caller has.
            TooManyTokens: no place is left.
            Unsupported: the node lets no tokens in.
        """
        self._refuse_off()
        if bool(params.scopes) == (params.role is not None):
            raise BadParams(
                "a token has a role or scopes, one of both",
                hint="prsm token new NAME --role observer",
                field="scopes",
            )
        scopes = _ordered({"read", *(ROLES[params.role] if params.role else params.scopes)})
        self._refuse_more(caller, scopes, params.tenant)
        token = Token(
            id="",
            name=params.name,
            scopes=scopes,
            created_ms=0,
            role=params.role or "",
            tenant=caller.tenant or params.tenant or "",
            methods=params.methods,
            spend_limit=_number(params.spend_limit),
            daily_cap=_number(params.daily_cap),
            expires_ms=self._end(caller, params.ttl_s),
            made_by=caller.token_id,
            public_key=params.public_key or "",
        )
        made, text = await self._tokens.add(token)
        return api.NewToken(
            id=made.id,
            token=text,
            name=made.name,
            scopes=_words(made.scopes),
            tenant=made.tenant,
            expires=_when(made.expires_ms),
        )

    async def list(self, params: api.ListTokensParams, caller: Caller) -> api.TokenList:
        """A page of tokens; of the caller's tenant only, if it has one."""
        rows = self._tokens.listed(caller.tenant)
        ids = [row.id for row in rows]
        start = ids.index(params.cursor) + 1 if params.cursor in ids else 0
        page = rows[start : start + params.limit]
        more = start + len(page) < len(rows)
        return api.TokenList(
            items=tuple(self._shown(row) for row in page),
            next_cursor=page[-1].id if more else None,
        )

    async def revoke(self, params: api.TokenParams, caller: Caller) -> api.Revoked:
        """Take a token back, with those made with it.

        Raises:
            TokenUnknown: no token, or several, of that id.
        """
        found = self._tokens.resolve(params.id, caller.tenant)
        return api.Revoked(ids=await self._tokens.revoke(found.id))

    async def rotate_key(self, params: api.RotateParams, caller: Caller) -> api.Rotated:
        """Sign tokens with a new key.

        Raises:
            Forbidden: the caller belongs to a tenant: the key is everybody's.
        """
        if caller.tenant:
            raise Forbidden(f"{caller.name} belongs to a tenant; the key is of all tokens")
        live = [one for one in self._tokens.listed() if one.key_id and self._is_live(one)]
        now = self._clock.wall_ms()
        key_id = await self._tokens.rotate_key(params.grace_s * 1000)
        ends = utc_text(now + params.grace_s * 1000)
        return api.Rotated(key_id=key_id, ending=len(live), ends=ends)

    async def whoami(self, _params: NoParams, caller: Caller) -> api.WhoAmI:
        """Who the caller is."""
        token = self._tokens.find(caller.token_id) if caller.token_id else None
        limits = self._tokens.limits(caller.token_id) if token else Limits()
        return api.WhoAmI(
            name=caller.name,
            scopes=_words(_ordered(caller.scopes)),
            tenant=caller.tenant,
            methods=caller.methods,
            token_id=caller.token_id,
            expires=_when(token.expires_ms) if token else None,
            spend_limit=_text(limits.spend_limit),
            daily_cap=_text(limits.daily_cap),
        )

    async def create_login(self, _params: NoParams, caller: Caller) -> api.Login:
        """Make a code; the token it buys reads what the caller may read, for half a day.

        Raises:
            Forbidden: the caller's own came so, and gives way to newer ones: nothing would end it.
            Unsupported: the node lets no tokens in.
        """
        self._refuse_off()
        own = self._tokens.find(caller.token_id)
        if own is not None and not own.is_kept:
            raise Forbidden(
                f"{caller.name} is of a login itself: it opens no other dashboard",
                hint="ask with the token or the cookie that made it",
            )
        token = Token(
            id="",
            name="dashboard",
            scopes=(Scope.READ.value,),
            created_ms=0,
            role="observer",
            tenant=caller.tenant,
            methods=caller.methods,
            expires_ms=self._end(caller, LOGIN_MS // 1000),
            made_by=caller.token_id,
            is_kept=False,
        )
        code, ends_ms = self._logins.offer(token)
        url = f"{self._base_url()}/#login={code}"
        return api.Login(code=code, url=url, expires=utc_text(ends_ms))

    def _refuse_off(self) -> None:
        if not self._is_on:
            raise Unsupported(
                "rpc.jwt is false: this node lets no tokens in",
                hint="prsm config set rpc.jwt true, then start the node again",
            )

    def _refuse_more(self, caller: Caller, scopes: tuple[str, ...], tenant: str | None) -> None:
        missing = set(scopes) - set(caller.scopes)
        if missing:
            raise Forbidden(
                f"{caller.name} has no {', '.join(sorted(missing))} to hand on",
                hint="use run/.cookie of the node's home, which has all scopes",
            )
        if caller.tenant and tenant not in {None, caller.tenant}:
            raise Forbidden(f"{caller.name} belongs to another tenant than {tenant!r}")
        limits = self._tokens.limits(caller.token_id) if caller.token_id else Limits()
        if caller.methods or limits != Limits():
            raise Forbidden(f"{caller.name} is bound to some methods or a budget: it hands on none")

    def _end(self, caller: Caller, ttl_s: int | None) -> int | None:
        """When a token of the caller's ends: never after the caller's own."""
        own = self._tokens.find(caller.token_id) if caller.token_id else None
        ends = [own.expires_ms] if own is not None and own.expires_ms is not None else []
        if ttl_s is not None:
            ends.append(self._clock.wall_ms() + ttl_s * 1000)
        return min(ends) if ends else None

    def _is_live(self, token: Token) -> bool:
        return not self._tokens.why_dead(token)

    def _shown(self, token: Token) -> api.TokenInfo:
        state = self._tokens.why_dead(token) or "live"
        return api.TokenInfo(
            id=token.id,
            name=token.name,
            state=cast("api.TokenState", state),  # the words of `why_dead`
            role=token.role,
            scopes=_words(token.scopes),
            tenant=token.tenant,
            methods=token.methods,
            spend_limit=_text(token.spend_limit),
            daily_cap=_text(token.daily_cap),
            public_key=token.public_key,
            made_by=token.made_by,
            created=utc_text(token.created_ms),
            expires=_when(token.expires_ms),
        )


def _ordered(scopes: set[str] | frozenset[Scope]) -> tuple[str, ...]:
    return tuple(one.value for one in _ORDER if one in scopes and one in ALL_SCOPES)


def _words(scopes: tuple[str, ...]) -> "tuple[api.ScopeWord, ...]":
    return cast("tuple[api.ScopeWord, ...]", scopes)  # `Scope` spells them


def _number(amount: str | None) -> int | None:
    return None if amount is None else int(amount)


def _text(amount: int | None) -> str | None:
    return None if amount is None else str(amount)


def _when(wall_ms: int | None) -> str | None:
    return None if wall_ms is None else utc_text(wall_ms)
