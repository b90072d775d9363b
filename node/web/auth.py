"""Who may come in: Host and Origin of every request, then cookie, token, key or unix peer.

A page of another site must not reach the node (DNS rebinding, cross-site calls), and no other
program of this machine without the token. No CORS header is ever sent and no HTTP cookie is set:
cookies of 127.0.0.1 go to every port. Source: docs/spec/rpc.md, "Doors".

Knows: headers, scopes, the cookie file, tokens. Must not know: methods, hypercorn.
"""

import functools
import hmac
import os
import re
import secrets
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import trio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from prsm.node.callers.tokens import BadToken, Token, Tokens
from prsm.node.home import write_private
from prsm.node.rpc.errors import Forbidden, Unauthorised
from prsm.node.rpc.spec import ALL_SCOPES, Caller
from prsm.node.rpc.spec import Scope as Right
from prsm.node.telemetry import logs
from prsm.node.web.answers import answer_refusal

_COOKIE_BYTES: Final = 32
_BAD_TOKENS_MAX: Final = 10
_BAD_TOKENS_WINDOW_S: Final = 60.0
_BAD_TOKEN_COST_S: Final = 1.0
_PEERCRED: Final = struct.Struct("3i")  # pid, uid, gid; unix(7)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_OF_UNIX: Final = ALL_SCOPES - {Right.SIGN}

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


@dataclass(frozen=True, slots=True)
class KeyPeer:
    """The holder of a key that signed this request, checked before any route sees it.

    Attributes:
        public_key: `0x…`, 32 bytes.
    """

    public_key: str


Peer = UnixPeer | KeyPeer


class Gate:
    """Recognises callers; counts bad tokens.

    Args:
        cookie: the token of this run, in hex.
        tokens: made by `token_create`; None: the cookie alone counts.
        uid: whose processes may use the unix socket; this process's own if None.

    Attributes:
        bad_tokens: how many were shown since the start.
    """

    def __init__(
        self, cookie: str, *, tokens: Tokens | None = None, uid: int | None = None
    ) -> None:
        self.bad_tokens = 0
        self._cookie = cookie.encode("ascii")
        self._tokens = tokens
        self._uid = os.getuid() if uid is None else uid
        self._bad: deque[float] = deque(maxlen=_BAD_TOKENS_MAX)

    async def admit(self, headers: Headers, peer: Peer | None, *, trace_id: str) -> Caller:
        """Say who calls. A good token is never delayed; after ten bad ones each costs a second.

        Raises:
            Unauthorised: no token and no unix peer of our user, or a token that is not ours.
        """
        token = _bearer(headers)
        known = self.recognise(token, peer, trace_id=trace_id)
        if known is not None:
            return known
        if token is not None:
            await self._refuse_bytes(token)
        if isinstance(peer, KeyPeer):
            return await self._admit_key(peer.public_key, trace_id)
        raise Unauthorised(
            "no token in the Authorization header",
            hint="send `Authorization: Bearer` with a token, or the content of run/.cookie",
        )

    def recognise(
        self,
        token: bytes | None,
        peer: Peer | None,
        *,
        trace_id: str,
        wait_gone: Callable[[], Awaitable[None]] | None = None,
    ) -> Caller | None:
        """Say who calls where that is plain; None: nobody is let in yet, and `admit` says why.

        Args:
            token: as the Authorization header has it; None without one.
            peer: the process behind a unix socket, of which only our user's counts.
            trace_id: of the request.
            wait_gone: returns once the caller hung up.
        """
        if token is None:
            is_own = isinstance(peer, UnixPeer) and peer.uid == self._uid
            return Caller("unix", _OF_UNIX, trace_id, wait_gone) if is_own else None
        if hmac.compare_digest(token, self._cookie):
            return Caller("cookie", ALL_SCOPES, trace_id, wait_gone)
        if self._tokens is None or token.count(b".") != 2:
            return None
        try:
            found = self._tokens.verify(token.decode("ascii", "replace"))
        except BadToken:
            return None
        return _caller(f"token {found.name}", found, trace_id, wait_gone)

    async def admit_token(self, token: str, *, trace_id: str) -> Caller:
        """Say who holds a token that came by another way than a header; costs as `admit`.

        Raises:
            Unauthorised: a token that is not ours, has ended or was taken back.
        """
        raw = token.encode("utf-8", "replace")
        known = self.recognise(raw, None, trace_id=trace_id)
        return known if known is not None else await self._refuse_bytes(raw)

    async def refuse(self, what: str, *, hint: str = "") -> NoReturn:
        """Count a bad proof of who calls, and make it cost.

        Raises:
            Unauthorised: always, saying `what`.
        """
        self.bad_tokens += 1
        now = trio.current_time()
        crowded = len(self._bad) == _BAD_TOKENS_MAX and now - self._bad[0] < _BAD_TOKENS_WINDOW_S
        self._bad.append(now)
        if crowded:
            log.warning("bad tokens", count=_BAD_TOKENS_MAX, window_s=_BAD_TOKENS_WINDOW_S)
            await trio.sleep(_BAD_TOKEN_COST_S)
        raise Unauthorised(what, hint=hint)

    def is_cookie(self, headers: Headers) -> bool:
        """Whether a request carries the cookie of this run."""
        return self.is_cookie_text(_bearer(headers))

    def is_cookie_text(self, token: bytes | None) -> bool:
        """Whether what a request shows is the cookie of this run."""
        return hmac.compare_digest(token or b"", self._cookie)

    def knows_key(self, public_key: str) -> bool:
        """Whether requests signed with that key, `0x…`, have any rights now."""
        return self._tokens is not None and self._tokens.has_key(public_key)

    def now_s(self) -> int:
        """The clock that tokens end by, in seconds since 1970; 0 where there are none."""
        return self._tokens.now_ms() // 1000 if self._tokens is not None else 0

    def is_live(self, caller: Caller) -> bool:
        """Whether what a caller came with still counts: its token has not ended since."""
        return not caller.token_id or (
            self._tokens is not None and self._tokens.is_live(caller.token_id)
        )

    def expires_ms(self, caller: Caller) -> int | None:
        """When a caller's token ends (ms since 1970); None: never."""
        token = self._tokens.find(caller.token_id) if self._tokens is not None else None
        return token.expires_ms if token is not None else None

    async def _refuse_bytes(self, token: bytes) -> NoReturn:
        if self._tokens is not None and token.count(b".") == 2:
            try:
                self._tokens.verify(token.decode("ascii", "replace"))
            except BadToken as error:
                await self.refuse(error.what, hint=error.hint)
        await self.refuse("the token is not the one of this run of the node")

    async def _admit_key(self, public_key: str, trace_id: str) -> Caller:
        if self._tokens is None:
            await self.refuse("this node takes no signed requests")
        try:
            found = self._tokens.of_key(public_key)
        except BadToken as error:
            await self.refuse(f"the key {public_key[:18]}… has no rights here: {error.what}")
        return _caller(f"key {found.name}", found, trace_id)


def _caller(
    name: str,
    token: Token,
    trace_id: str,
    wait_gone: Callable[[], Awaitable[None]] | None = None,
) -> Caller:
    return Caller(
        name,
        _rights(token.scopes),
        trace_id,
        wait_gone,
        tenant=token.tenant,
        methods=token.methods,
        token_id=token.id,
        expires_ms=token.expires_ms,
    )


@functools.lru_cache(maxsize=64)
def _rights(scopes: tuple[str, ...]) -> frozenset[Right]:
    return frozenset(map(Right, scopes))


def _bearer(headers: Headers) -> bytes | None:
    values = headers.getlist("authorization")
    if not values:
        return None
    kind, _, token = values[0].partition(" ")
    if len(values) > 1 or kind.lower() != "bearer":
        return b""
    return token.strip().encode("latin-1")


@dataclass(frozen=True, slots=True)
class Own:
    """How this node is called: the Host headers that mean it, and by which scheme."""

    hosts: frozenset[str]
    scheme: str = "http"

    def why_foreign(self, headers: Headers, *, unix: bool) -> str:
        """Empty for a request that Host and Origin say is meant for this node, else why not."""
        hosts = headers.getlist("host")
        origins = headers.getlist("origin")
        if not unix and (len(hosts) != 1 or hosts[0].lower() not in self.hosts):
            return f"Host is {_shown(hosts)}, which is not this node"
        if unix and origins:
            return "a page cannot call the unix socket"
        if origins and (len(origins) > 1 or not self._is_origin(origins[0].lower())):
            return f"Origin is {_shown(origins)}, which is not this node"
        site = headers.get("sec-fetch-site", "none")
        if site not in {"none", "same-origin"}:
            return f"Sec-Fetch-Site is {site[:40]!r}"
        return ""

    def _is_origin(self, origin: str) -> bool:
        scheme, _, host = origin.partition("://")
        return scheme == self.scheme and host in self.hosts


class OwnPagesOnly:
    """ASGI middleware for `http` and `websocket`: Host must be ours, Origin absent or ours."""

    def __init__(self, app: ASGIApp, *, own: Own) -> None:
        self._app = app
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 403 and a JSON-RPC body."""
        why = self._own.why_foreign(Headers(scope=scope), unix=scope.get("client") is None)
        if not why:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            fault = Forbidden(why, hint="open the address the node printed at its start")
            await answer_refusal(scope, receive, send, fault)


def own_hosts(host: str, port: int, *names: str) -> frozenset[str]:
    """The Host headers that mean this node: its address, and `names` with or without a port."""
    name = f"[{host}]" if ":" in host else host
    given = {one.lower() for one in names}
    full = {one if re.search(r":[0-9]+$", one) else f"{one}:{port}" for one in given}
    bare = {one.removesuffix(":443") for one in full} if given else set[str]()
    return frozenset({f"{name}:{port}", f"localhost:{port}"} | full | bare)


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's X-Request-Id if it is harmless to write down, its trace's id, or a new one."""
    return given_id(headers) or fresh_id()


def given_id(headers: Mapping[str, str]) -> str:
    """The id that a request came with; empty if it has none that may be written down."""
    given = headers.get("x-request-id", "")
    if _REQUEST_ID.fullmatch(given):
        return given
    trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace is not None else ""


def fresh_id() -> str:
    """An id for a request that came without one, in 16 digits."""
    return os.urandom(8).hex()


def _shown(values: list[str]) -> str:
    return repr(", ".join(values)[:80]) if values else "absent"
