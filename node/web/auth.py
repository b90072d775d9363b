"""Who may come in: Host and Origin of every request, then the cookie or the unix peer.

A page of another site must not reach the node (DNS rebinding, cross-site calls), and no other
program of this machine without the token. No CORS header is ever sent and no HTTP cookie is set:
cookies of 127.0.0.1 go to every port. Source: docs/spec/rpc.md, "Doors".

Knows: headers, scopes, the cookie file. Must not know: methods, hypercorn.
"""

import hmac
import os
import re
import secrets
import socket
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from prsm.node import logs
from prsm.node.home import write_private
from prsm.node.rpc.errors import Forbidden, Unauthorised
from prsm.node.rpc.spec import ALL_SCOPES, Caller
from prsm.node.rpc.spec import Scope as Right
from prsm.node.web.answers import answer_refusal

_COOKIE_BYTES: Final = 32
_BAD_TOKENS_MAX: Final = 10
_BAD_TOKENS_WINDOW_S: Final = 60.0
_BAD_TOKEN_COST_S: Final = 1.0
_PEERCRED: Final = struct.Struct("3i")  # pid, uid, gid; unix(7)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

log: Final = logs.get("web")


@dataclass(frozen=True, slots=True)
class UnixPeer:
    """The process at the other end of a unix socket, as the kernel says."""

    pid: int
    uid: int


def read_unix_peer(stream: trio.socket.SocketType) -> UnixPeer:
    """SO_PEERCRED of a connected unix socket (Linux)."""
    raw = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, _gid = _PEERCRED.unpack(raw)
    return UnixPeer(pid, uid)


def write_cookie(path: Path) -> str:
    """Make the token of this run, in a file only its owner may read."""
    cookie = secrets.token_hex(_COOKIE_BYTES)
    logs.secrets.guard(cookie.encode())
    logs.secrets.guard(bytes.fromhex(cookie))
    write_private(path, cookie.encode() + b"\n")
    return cookie


class Gate:
    """Recognises callers; counts bad tokens."""

    def __init__(self, cookie: str, *, uid: int | None = None) -> None:
        self._cookie = cookie.encode("ascii")
        self._uid = os.getuid() if uid is None else uid
        self._bad: deque[float] = deque(maxlen=_BAD_TOKENS_MAX)

    async def admit(self, headers: Headers, peer: UnixPeer | None, *, trace_id: str) -> Caller:
        """Say who calls. A good token is never delayed; after ten bad ones each costs a second.

        Raises:
            Unauthorised: no token and no unix peer of our user, or a token that is not ours.
        """
        token = _bearer(headers)
        if token is not None:
            if hmac.compare_digest(token, self._cookie):
                return Caller("cookie", ALL_SCOPES, trace_id)
            await self._pay_for_bad_token()
            raise Unauthorised("the token is not the one of this run of the node")
        if peer is not None and peer.uid == self._uid:
            return Caller("unix", ALL_SCOPES - {Right.SIGN}, trace_id)
        raise Unauthorised(
            "no token in the Authorization header",
            hint="send `Authorization: Bearer` with the content of run/.cookie",
        )

    async def _pay_for_bad_token(self) -> None:
        now = trio.current_time()
        crowded = len(self._bad) == _BAD_TOKENS_MAX and now - self._bad[0] < _BAD_TOKENS_WINDOW_S
        self._bad.append(now)
        if crowded:
            log.warning("bad tokens", count=_BAD_TOKENS_MAX, window_s=_BAD_TOKENS_WINDOW_S)
            await trio.sleep(_BAD_TOKEN_COST_S)


def _bearer(headers: Headers) -> bytes | None:
    values = headers.getlist("authorization")
    if not values:
        return None
    kind, _, token = values[0].partition(" ")
    if len(values) > 1 or kind.lower() != "bearer":
        return b""
    return token.strip().encode("latin-1")


class OwnPagesOnly:
    """ASGI middleware for `http` and `websocket`: Host must be ours, Origin absent or ours."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = frozenset(f"http://{host}" for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 403 and a JSON-RPC body."""
        why = self._why_not(Headers(scope=scope), unix=scope.get("client") is None)
        if not why:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            fault = Forbidden(why, hint="open the address the node printed at its start")
            await answer_refusal(scope, receive, send, fault, status=403)

    def _why_not(self, headers: Headers, *, unix: bool) -> str:
        hosts = headers.getlist("host")
        origins = headers.getlist("origin")
        if not unix and (len(hosts) != 1 or hosts[0].lower() not in self._hosts):
            return f"Host is {_shown(hosts)}, which is not this node"
        if unix and origins:
            return "a page cannot call the unix socket"
        if len(origins) > 1 or (origins and origins[0].lower() not in self._origins):
            return f"Origin is {_shown(origins)}, which is not this node"
        site = headers.get("sec-fetch-site", "none")
        if site not in {"none", "same-origin"}:
            return f"Sec-Fetch-Site is {site[:40]!r}"
        return ""


def own_hosts(host: str, port: int) -> frozenset[str]:
    """The Host headers that mean this node."""
    name = f"[{host}]" if ":" in host else host
    return frozenset({f"{name}:{port}", f"localhost:{port}"})


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's X-Request-Id if it is harmless to write down, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _shown(values: list[str]) -> str:
    return repr(", ".join(values)[:80]) if values else "absent"
