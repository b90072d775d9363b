"""A provider of identities on loopback, for tests: device flow and a page of users.

It is a fake: it believes whatever `agree` says. `odd` makes it answer out of its role.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from typing_extensions import override


@dataclass
class Identity:
    """What the provider knows and was asked.

    Attributes:
        url: its issuer.
        claims: of the person who agreed; None: nobody did yet.
        error: what /token says instead of pending.
        odd: path -> (status, body, headers) in place of the right answer.
        asked: path and form of each request.
    """

    url: str = ""
    claims: dict[str, Any] | None = None
    error: str = "authorization_pending"
    interval: int = 5
    odd: dict[str, tuple[int, bytes, dict[str, str]]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def answer(  # noqa: PLR0911 - dispatch
        self, path: str, form: dict[str, str], bearer: str
    ) -> tuple[int, object]:
        """Status and document of one request."""
        match path:
            case "/.well-known/openid-configuration":
                return 200, {
                    "issuer": self.url,
                    "device_authorization_endpoint": f"{self.url}/device",
                    "token_endpoint": f"{self.url}/token",
                    "userinfo_endpoint": f"{self.url}/me",
                }
            case "/device":
                return 200, {
                    "device_code": "device-code-of-the-node",
                    "user_code": "WDJB-MJHT",
                    "verification_uri": f"{self.url}/go",
                    "expires_in": 900,
                    "interval": self.interval,
                }
            case "/token" if form.get("device_code") != "device-code-of-the-node":
                return 400, {"error": "invalid_grant"}
            case "/token" if self.claims is None:
                return 400, {"error": self.error}
            case "/token":
                return 200, {"access_token": "of-the-provider", "token_type": "Bearer"}
            case "/me" if bearer == "Bearer of-the-provider":
                return 200, self.claims
            case _:
                return 401, {"error": "invalid_token"}


@contextmanager
def serve_identity() -> Iterator[Identity]:
    """Serve on a free port while the block runs."""
    identity = Identity()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer({name: values[0] for name, values in parse_qs(raw).items()})

        def _answer(self, form: dict[str, str]) -> None:
            identity.asked.append((self.path, form))
            bearer = self.headers.get("Authorization", "")
            status, document = identity.answer(self.path, form, bearer)
            body, headers = json.dumps(document).encode(), dict[str, str]()
            if self.path in identity.odd:
                status, body, headers = identity.odd[self.path]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    identity.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield identity
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
