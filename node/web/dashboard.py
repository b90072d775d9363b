"""The dashboard's files: one page, one script, one style sheet, an icon, and their licences.

They hold no secret and are served to whoever reaches the door, as /livez is; what the page shows it
asks over the public RPC with a token of its own. The policy of contents lets the page load these
files and speak to this node, nothing else. Sources: node/web/ui, built by scripts/dashboard.py.

Knows: the files in node/web/static, HTTP caching. Must not know: methods, tokens, the node.
"""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from prsm.node.rpc.errors import WrongHttp
from prsm.node.web.answers import answer_refusal, trace_of
from prsm.node.web.auth import Gate

FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/app.css": ("app.css", "text/css; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
    "/licences.txt": ("licences.txt", "text/plain; charset=utf-8"),
}
# `require-trusted-types-for` makes the browser refuse every place where text could become markup.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",  # ask each time: 304 while the node is the same version
    "vary": "accept-encoding",
}


def dashboard_pages(_gate: Gate) -> Sequence[BaseRoute]:
    """Routes of the dashboard; its files are read once, some 200 KiB."""
    folder = resources.files("prsm.node.web").joinpath("static")
    return [
        Route(path, endpoint=_File.load(folder.joinpath(name).read_bytes(), kind), methods=["GET"])
        for path, (name, kind) in FILES.items()
    ]


@dataclass(frozen=True, slots=True)
class _File:
    """One file in memory, plain and packed."""

    kind: str
    plain: bytes
    packed: bytes
    digest: str

    @classmethod
    def load(cls, plain: bytes, kind: str) -> "_File":
        packed = gzip.compress(plain, mtime=0)
        return cls(kind, plain, packed, hashlib.sha256(plain).hexdigest()[:24])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            fault = WrongHttp("a page takes no body", field="body")
            await answer_refusal(scope, receive, send, fault)
            return
        is_packed = "gzip" in headers.get("accept-encoding", "")
        tag = f'"{self.digest}{"-gz" if is_packed else ""}"'
        fields = {**_HEADERS, "etag": tag, "x-request-id": trace_of(scope)}
        status, body = 200, self.packed if is_packed else self.plain
        if tag in headers.get("if-none-match", ""):
            status, body = 304, b""
        else:
            fields |= {"content-type": self.kind, "content-length": str(len(body))}
            if is_packed:
                fields["content-encoding"] = "gzip"
        raw = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        shown = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": shown, "more_body": False})
