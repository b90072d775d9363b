"""A daemon's RPC and gateway on loopback that serve blocks from memory and fail as a script says.

Faults of both: hang (no answer), slow (a byte now and then), cut (breaks off at byte `cut_at`),
wrong (right length, other bytes), short (a byte less), surplus (more than announced), trailer (an
error behind a 200), and the answers of `REPLACED`. Of the gateway only: type, encoded, and those of
`ANSWERED`.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import ClassVar, Final
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from prsm.storage.cid import hash_block, parse_cid
from prsm.storage.dag.car import CarReader

Reply = tuple[int, str, bytes]  # status, content type, body
RAW_TYPE: Final = "application/vnd.ipld.raw"
BYTES_TYPE: Final = "application/octet-stream"

REPLACED: Final[dict[str, Reply]] = {
    "huge": (200, BYTES_TYPE, bytes(3 << 20)),
    "error": (500, "application/json", b'{"Message":"no","Code":0}'),
    "html": (502, "text/html", b"<h1>Bad gateway</h1>"),
    "json": (200, "application/json", b"{nonsense"),
}
# Status, headers; {here} is the path asked for, {away} the other server.
ANSWERED: Final[dict[str, tuple[int, dict[str, str]]]] = {
    "redirect": (302, {"Location": "/moved{here}"}),
    "away": (302, {"Location": "{away}{here}"}),
    "loop": (302, {"Location": "{here}"}),
    "busy": (429, {"Retry-After": "7"}),
    "late": (504, {}),
}


class FaultyDaemon:
    """State of the server: blocks by digest, and what to do wrong."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, bytes] = {}
        self.fault = ""
        self.cut_at = 0  # 0: in the middle
        self.away = ""  # where "away" redirects to
        self.named = ""  # in place of the CID it was asked about
        self.version = "0.18.1"
        self.requests: list[str] = []
        self.url = ""
        self.release = threading.Event()

    def reply(self, path: str, body: bytes) -> Reply:
        """The answer of the RPC."""
        url = urlsplit(path)
        arg = parse_qs(url.query).get("arg", [""])[0]
        status, kind, answer = 404, "text/plain", b"404 page not found"
        match url.path.removeprefix("/api/v0"):
            case "/version":
                status, kind, answer = _json({"Version": self.version})
            case "/id":
                status, kind, answer = _json({"ID": "12D3KooW"})
            case "/block/get":
                status, kind, answer = self._block(arg)
            case "/add":
                status, kind, answer = _json({"Name": "x", "Hash": str(hash_block(_file(body)))})
            case "/dag/import":
                car = CarReader(BytesIO(_file(body)))
                self.blocks |= {cid.digest: block for cid, block in car}
                status, kind, answer = 200, "application/json", b""
            case "/block/stat":
                status, kind, answer = self._stat(arg)
            case _:
                pass
        return status, kind, answer

    def gateway(self, path: str, accept: str) -> tuple[Reply, dict[str, str]]:
        """The answer of a trustless gateway, and headers besides."""
        url = urlsplit(path)
        if self.fault in ANSWERED and not url.path.startswith("/moved"):
            status, headers = ANSWERED[self.fault]
            filled = {
                name: each.format(here=path, away=self.away) for name, each in headers.items()
            }
            return (status, "text/plain", b""), filled
        asked = parse_qs(url.query).get("format") == ["raw"] and accept == RAW_TYPE
        block = self.blocks.get(parse_cid(url.path.rpartition("/")[2]).digest)
        if block is None or not asked:
            return (404 if block is None else 400, "text/plain", b"no"), {}
        kind = BYTES_TYPE if self.fault == "type" else RAW_TYPE
        return (200, kind, block), ({"Content-Encoding": "gzip"} if self.fault == "encoded" else {})

    def spoil(self, body: bytes) -> tuple[bytes, int]:
        """What is sent of a body, and the length that is announced."""
        match self.fault:
            case "cut":
                return body[: self.cut_at or len(body) // 2], len(body)
            case "wrong":
                return bytes(len(body)), len(body)
            case "short":
                return body[:-1], len(body) - 1
            case "surplus":
                return body + b"more than was announced", len(body)
            case _:
                return body, len(body)

    def _stat(self, arg: str) -> Reply:
        status, kind, block = self._block(arg)
        if status != 200:
            return status, kind, block
        return _json({"Key": self.named or arg, "Size": len(block)})

    def _block(self, arg: str) -> Reply:
        block = self.blocks.get(parse_cid(arg).digest)
        if block is None:
            return 500, "application/json", b'{"Message":"block not found","Code":0}'
        return 200, BYTES_TYPE, block


class _Handler(BaseHTTPRequestHandler):
    daemon: ClassVar[FaultyDaemon]

    def do_POST(self) -> None:
        self.daemon.requests.append(self.path)
        self._play(self.daemon.reply(self.path, self._body()), {})

    def do_GET(self) -> None:
        self.daemon.requests.append(self.path)
        self._play(*self.daemon.gateway(self.path, self.headers.get("Accept", "")))

    def _play(self, reply: Reply, headers: dict[str, str]) -> None:
        if self.daemon.fault == "hang":
            self.daemon.release.wait(20)
            return
        status, kind, body = REPLACED.get(self.daemon.fault, reply)
        body, length = self.daemon.spoil(body)
        is_chunked = self.daemon.fault == "trailer"
        if is_chunked:
            headers = headers | {"Transfer-Encoding": "chunked", "Trailer": "X-Stream-Error"}
        else:
            headers = headers | {"Content-Length": str(length)}
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):
            self._write(body)

    def _write(self, body: bytes) -> None:
        match self.daemon.fault:
            case "trailer":
                half = body[: len(body) // 2]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(half), half))
                self.wfile.write(b"0\r\nX-Stream-Error: it broke\r\n\r\n")
            case "slow":
                for at in range(len(body)):
                    self.wfile.write(body[at : at + 1])
                    if self.daemon.release.wait(0.2):
                        return
            case _:
                self.wfile.write(body)

    @override
    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


def _json(value: object) -> Reply:
    return 200, "application/json", json.dumps(value).encode()


def _file(body: bytes) -> bytes:
    """The file inside a multipart body."""
    start = body.index(b"\r\n\r\n") + 4
    return body[start : body.rindex(b"\r\n--")]


@contextmanager
def faulty_daemon() -> Iterator[FaultyDaemon]:
    """Serve on a free port of loopback until left."""
    daemon = FaultyDaemon()
    handler = type("Handler", (_Handler,), {"daemon": daemon})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    daemon.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield daemon
    finally:
        daemon.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
