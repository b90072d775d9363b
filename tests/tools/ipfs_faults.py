"""A daemon's RPC on loopback that serves blocks from memory and fails as a script says."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from prsm.storage.cid import hash_block, parse_cid

Reply = tuple[int, str, bytes]  # status, content type, body

REPLACED: Final[dict[str, Reply]] = {
    "huge": (200, "application/octet-stream", bytes(3 << 20)),
    "error": (500, "application/json", b'{"Message":"no","Code":0}'),
    "html": (502, "text/html", b"<h1>Bad gateway</h1>"),
    "json": (200, "application/json", b"{nonsense"),
}


class FaultyDaemon:
    """State of the server: blocks by digest, and what to do wrong."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, bytes] = {}
        self.fault = ""  # "", hang, cut, wrong, or a key of REPLACED
        self.version = "0.18.1"
        self.requests: list[str] = []
        self.url = ""
        self.release = threading.Event()

    def reply(self, path: str, body: bytes) -> Reply:
        url = urlsplit(path)
        arg = parse_qs(url.query).get("arg", [""])[0]
        match url.path.removeprefix("/api/v0"):
            case "/version":
                return self._json({"Version": self.version})
            case "/id":
                return self._json({"ID": "12D3KooW"})
            case "/block/get":
                block = self.blocks.get(parse_cid(arg).digest)
                if block is None:
                    return 500, "application/json", b'{"Message":"block not found","Code":0}'
                return 200, "application/octet-stream", block
            case "/add":
                start = body.index(b"\r\n\r\n") + 4
                data = body[start : body.rindex(b"\r\n--")]
                return self._json({"Name": "x", "Hash": str(hash_block(data))})
            case _:
                return 404, "text/plain", b"404 page not found"

    def _json(self, value: dict[str, str]) -> Reply:
        return 200, "application/json", json.dumps(value).encode()


def _handler(daemon: FaultyDaemon) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            daemon.requests.append(self.path)
            status, kind, body = daemon.reply(self.path, self._body())
            if daemon.fault == "hang":
                daemon.release.wait(20)
                return
            status, kind, body = REPLACED.get(daemon.fault, (status, kind, body))
            length = len(body)
            if daemon.fault == "cut":
                body = body[: length // 2]
            elif daemon.fault == "wrong":
                body = bytes(length)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.end_headers()
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

    return Handler


@contextmanager
def faulty_daemon() -> Iterator[FaultyDaemon]:
    """Serve on a free port of loopback until left."""
    daemon = FaultyDaemon()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(daemon))
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
