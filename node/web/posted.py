"""Pages that take JSON by POST and answer JSON, without a token: how one logs in.

Knows: the form of such a request, the status of its refusals. Must not know: what is asked.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from prsm.node.rpc.errors import BadParams, CallError
from prsm.node.web.answers import answer, answer_refusal
from prsm.node.web.bodies import BODY_DEADLINE_S, read_body
from prsm.node.web.forms import refuse_form
from prsm.protocol.jsontext import UNREADABLE

T = TypeVar("T")


class PostedPage:
    """An endpoint; `give` makes a struct of the body, and raises `CallError` to refuse it."""

    def __init__(self, give: Callable[[bytes], Awaitable[msgspec.Struct]]) -> None:
        self._give = give

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        try:
            refuse_form(scope, headers)
            body = await read_body(headers, receive, deadline_s=BODY_DEADLINE_S)
            given = await self._give(body)
        except CallError as fault:
            await answer_refusal(scope, receive, send, fault)
            return
        await answer(scope, send, msgspec.json.encode(given))


def read_posted(body: bytes, form: type[T], *, field: str) -> T:
    """What was posted, of a form with that one field.

    Raises:
        BadParams: anything else.
    """
    try:
        return msgspec.json.decode(body, type=form)
    except UNREADABLE as error:
        raise BadParams(f'no login: send {{"{field}": "…"}}', field=field) from error
