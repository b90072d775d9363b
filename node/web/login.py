"""POST /login: a one-time code of the dashboard becomes a token that may read.

The code came in a URL's fragment, which no request carries; the page sends it here once. No cookie
is set. Source: docs/spec/rpc.md, "Tokens".

Knows: codes. Must not know: HTTP, what the token may do.
"""

from typing import Final

import msgspec
from starlette.routing import Route

from prsm.node.api.logins import Logins
from prsm.node.callers.tokens import TooManyTokens
from prsm.node.clock import utc_text
from prsm.node.rpc.errors import TooMany
from prsm.node.web.auth import Gate
from prsm.node.web.posted import PostedPage, read_posted

_CODE_CHARS_MAX: Final = 128


class LoginAsk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the page sends."""

    code: str


class LoginGrant(msgspec.Struct, frozen=True):
    """What it gets: a token, when it ends (RFC 3339; null: never), what it may do."""

    token: str
    expires: str | None
    scopes: tuple[str, ...]


class LoginPage:
    """Redeems codes; a wrong one costs as a wrong token does."""

    def __init__(self, gate: Gate, logins: Logins) -> None:
        self._gate = gate
        self._logins = logins

    async def redeem(self, body: bytes) -> LoginGrant:
        """A token for the code that was posted.

        Raises:
            BadParams: no code was.
            Unauthorised: the code is good for nothing.
            TooMany: no more tokens are kept.
        """
        ask = read_posted(body, LoginAsk, field="code")
        try:
            found = await self._logins.redeem(ask.code[:_CODE_CHARS_MAX])
        except TooManyTokens as error:
            raise TooMany(error.what, hint=error.hint) from error
        if found is None:
            await self._gate.refuse(
                "the code is unknown, used or older than a minute", hint="prsm dashboard"
            )
        token, text = found
        expires = None if token.expires_ms is None else utc_text(token.expires_ms)
        return LoginGrant(text, expires, token.scopes)


def login_route(gate: Gate, logins: Logins) -> Route:
    """The route of the page, for `prsm.node.entrance`."""
    return Route("/login", endpoint=PostedPage(LoginPage(gate, logins).redeem), methods=None)
