"""Where a node answers, and what a client shows to be let in.

Knows: endpoint and cookie files, addresses of this machine. Must not know: calls.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from prsm.node.home import Home
from prsm.node.rpc.errors import NodeUnreachable

_LOOPBACK: Final = ("127.", "localhost:", "[::1]:")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a node answers: a unix socket or host and port, and where its cookie lies."""

    socket_path: Path | None
    address: tuple[str, int] | None
    cookie: Path | None

    @property
    def text(self) -> str:
        """The place, for people."""
        if self.socket_path is not None:
            return f"unix:{self.socket_path}"
        assert self.address is not None
        return f"http://{self.host}"

    @property
    def host(self) -> str:
        """The Host header."""
        if self.address is None:
            return "localhost"
        name, port = self.address
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    def token(self) -> str:
        """What to send as bearer: the cookie as it is now; empty if there is none."""
        if self.cookie is None:
            return ""
        try:
            return self.cookie.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""  # the node says what is missing


class Endpoint(msgspec.Struct, frozen=True):
    """`run/endpoint.json`: where the running node answers."""

    pid: int
    http: str
    unix: str = ""


def find(home: Home, *, node: str = "") -> Target:
    """Where to ask: `node` if given, else what the home's running node wrote down.

    Args:
        home: whose cookie is sent, and whose endpoint is read.
        node: `http://127.0.0.1:PORT`, `127.0.0.1:PORT` or `unix:PATH`.

    Raises:
        NodeUnreachable: nothing runs in that home, or `node` is not on this machine.
        HomeMissing: no node was ever made there.
    """
    if node.startswith("unix:"):
        return Target(Path(node.removeprefix("unix:")), None, home.cookie)
    if node:
        return Target(None, _loopback(node), home.cookie)
    home.check()
    try:
        endpoint = msgspec.json.decode(home.endpoint.read_bytes(), type=Endpoint)
    except (OSError, msgspec.MsgspecError) as error:
        raise NodeUnreachable(
            f"no node runs in {home.root}", hint="start it with `prsm start`"
        ) from error
    if endpoint.unix:
        return Target(Path(endpoint.unix), None, home.cookie)
    return Target(None, _loopback(endpoint.http), home.cookie)


def _loopback(node: str) -> tuple[str, int]:
    place = node.removeprefix("http://").rstrip("/")
    host, _, port = place.rpartition(":")
    if not place.startswith(_LOOPBACK) or not port.isdecimal() or int(port) > 65535:
        raise NodeUnreachable(
            f"{node[:100]!r} is no address of this machine; the token would travel in clear text",
            hint="write http://127.0.0.1:8480 or unix:PATH; from afar use ssh -L",
        )
    return host.strip("[]"), int(port)
