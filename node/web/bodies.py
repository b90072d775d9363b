"""The body of a request, counted while it is read.

Knows: ASGI messages, two bounds. Must not know: what is in it.
"""

from typing import Final

import trio
from starlette.datastructures import Headers
from starlette.types import Receive

from prsm.node.rpc.dispatch import BODY_BYTES_MAX
from prsm.node.rpc.errors import CallTimeout, CallTooLarge

BODY_DEADLINE_S: Final = 10.0


class ClientGone(Exception):
    """The client closed the connection before its body was complete."""


async def read_body(headers: Headers, receive: Receive, *, deadline_s: float) -> bytes:
    """The whole body.

    Raises:
        CallTooLarge: more than `BODY_BYTES_MAX`, as declared or as counted.
        CallTimeout: it was not complete by the deadline.
        ClientGone: it never will be.
    """
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > BODY_BYTES_MAX:
        raise CallTooLarge(f"a body of {declared[:20]} bytes, at most {BODY_BYTES_MAX}")
    body = bytearray()
    with trio.move_on_after(deadline_s):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientGone
            body += message.get("body", b"")
            if len(body) > BODY_BYTES_MAX:
                raise CallTooLarge(f"a body above {BODY_BYTES_MAX} bytes")
            if not message.get("more_body"):
                return bytes(body)
    raise CallTimeout(f"{len(body)} bytes of the body in {deadline_s:g} s")
