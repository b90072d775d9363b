"""POST /login: a one-time code of the dashboard becomes a token that may read.

The code came in a URL's fragment, which no request carries; the page sends it here once. No cookie
is set. Source: docs/spec/rpc.md, "Tokens".

Knows: HTTP, codes. Must not know: what the token may do.
"""

from typing import Final

import msgspec
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from prsm.node.api.logins import Logins
from prsm.node.callers.tokens import TooManyTokens
from prsm.node.clock import utc_text
from prsm.node.rpc.errors import BadParams, CallError, TooMany
from prsm.node.web.answers import answer, answer_refusal
from prsm.node.web.auth import Gate
from prsm.node.web.bodies import BODY_DEADLINE_S, read_body
from prsm.node.web.forms import refuse_form, status_of

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        try:
            refuse_form(scope, headers)
            body = await read_body(headers, receive, deadline_s=BODY_DEADLINE_S)
            granted = await self._redeem(body)
        except CallError as fault:
            await answer_refusal(scope, receive, send, fault, status=status_of(fault))
            return
        except TooManyTokens as error:
            full = TooMany(error.what, hint=error.hint)
            await answer_refusal(scope, receive, send, full, status=503)
            return
        await answer(scope, send, msgspec.json.encode(granted))

    async def _redeem(self, body: bytes) -> LoginGrant:
        try:
            ask = msgspec.json.decode(body, type=LoginAsk)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadParams('no login: send {"code": "…"}', field="code") from error
        found = await self._logins.redeem(ask.code[:_CODE_CHARS_MAX])
        if found is None:
            await self._gate.refuse(
                "the code is unknown, used or older than a minute", hint="prsm dashboard"
            )
        token, text = found
        expires = None if token.expires_ms is None else utc_text(token.expires_ms)
        return LoginGrant(text, expires, token.scopes)


def login_route(gate: Gate, logins: Logins) -> Route:
    """The route of the page, for `prsm.node.entrance`."""
    return Route("/login", endpoint=LoginPage(gate, logins), methods=None)
