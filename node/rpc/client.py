"""A client of the node for programs and people: HTTP over loopback TCP or the unix socket.

Own HTTP/1.1 over one kept socket: importing `http.client` took 32 ms of the 90 that `prsm status`
may take, and the other end is always the node's own server. A call is never sent twice.

Knows: HTTP, JSON-RPC, the cookie file. Must not know: trio, any room of the daemon.
"""

import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import msgspec

from prsm.node.home import Home, socket_address
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable
from prsm.node.rpc.reasons import Exit, entry_for

if TYPE_CHECKING:
    from prsm.node.rpc.spec import Params  # a client that sends plain objects needs no table

_HEAD_BYTES_MAX: Final = 64 * 1024
_ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
_LOOPBACK: Final = ("127.", "localhost:", "[::1]:")
T = TypeVar("T")


class RpcError(Exception):
    """The node's typed refusal.

    Attributes:
        code: JSON-RPC code.
        reason: stable word.
        what: what is wrong; `why` and `hint`: why it happens, what to type.
        data: everything the node said beside the message.
    """

    def __init__(self, code: int, what: str, data: Mapping[str, object]) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.data = dict(data)
        self.reason = str(data.get("reason", "internal"))
        entry = entry_for(self.reason)
        self.why = str(data.get("why", entry.why))
        self.hint = str(data.get("hint", entry.fix))
        self.prsm_code = str(data.get("prsm_code", entry.prsm_code))
        self.trace_id = str(data.get("trace_id", ""))
        self.exit_code: Exit = entry.exit_code


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


class Endpoint(msgspec.Struct, frozen=True):
    """`run/endpoint.json`: where the running node answers."""

    pid: int
    http: str
    unix: str = ""


class _Fault(msgspec.Struct):
    code: int
    message: str
    data: dict[str, object] = {}


class _Reply(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw()
    error: _Fault | None = None


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


class Client:
    """One kept connection to one node; not for several threads at once."""

    def __init__(self, target: Target, *, timeout_s: float = 30.0) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._next_id = 0

    def __enter__(self) -> Self:
        """Use the client in a `with` block, which closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; a later call opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(
        self, method: str, params: "Params | Mapping[str, object] | None" = None, *, result: type[T]
    ) -> T:
        """Call a method and read its result as `result`.

        Raises:
            RpcError: the node refused.
            NodeUnreachable: nobody, or no PRSM node, answers.
            CallTimeout: no answer within `timeout_s`.
        """
        raw = self.call_raw(method, params)
        try:
            return msgspec.json.decode(raw, type=result)
        except msgspec.MsgspecError as error:
            raise NodeUnreachable(
                f"{self.target.text} answered {method} in another form: {error}",
                hint="compare `prsm version` with the node's version in `prsm status`",
            ) from error

    def call_raw(self, method: str, params: "Params | Mapping[str, object] | None" = None) -> bytes:
        """Call a method and return the bytes of its result, verbatim.

        Raises:
            RpcError, NodeUnreachable, CallTimeout: as `call`.
        """
        self._next_id += 1
        request = {"jsonrpc": "2.0", "id": self._next_id, "method": method}
        if params is not None:
            request["params"] = params
        body = msgspec.json.encode(request)
        cookie = self._cookie()
        status, answer = self._exchange("POST", "/rpc", body, cookie)
        if status == 401 and self._cookie() != cookie:
            # Refused before it ran: the node was restarted and wrote another cookie.
            status, answer = self._exchange("POST", "/rpc", body, self._cookie())
        try:
            reply = msgspec.json.decode(answer, type=_Reply)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._stranger(f"status {status} without a JSON-RPC answer") from error
        if reply.error is not None:
            raise RpcError(reply.error.code, reply.error.message, reply.error.data)
        if not bytes(reply.result):
            raise self._stranger(f"status {status} with neither result nor error")
        return bytes(reply.result)

    def get(self, path: str) -> tuple[int, bytes]:
        """GET one of the open pages, `/livez` or `/readyz`.

        Returns:
            Status and body.

        Raises:
            NodeUnreachable, CallTimeout: as `call`.
        """
        return self._exchange("GET", path, b"", "")

    def _cookie(self) -> str:
        if self.target.cookie is None:
            return ""
        try:
            return self.target.cookie.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""  # the node says what is missing

    def _exchange(self, verb: str, path: str, body: bytes, cookie: str) -> tuple[int, bytes]:
        deadline = time.monotonic() + self._timeout_s
        lines = [f"{verb} {path} HTTP/1.1", f"Host: {self.target.host}"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        if cookie:
            lines.append(f"Authorization: Bearer {cookie}")
        head = "\r\n".join([*lines, "\r\n"]).encode("ascii")
        done = False
        try:
            stream = self._connected(deadline)
            _send(stream, head + body, deadline)
            status, answer, keep = _receive(stream, deadline)
            done = keep
        except TimeoutError as error:
            raise CallTimeout(
                f"{self.target.text} did not answer in {self._timeout_s:g} s",
                hint="give it more with --timeout SECONDS",
            ) from error
        except OSError as error:
            raise NodeUnreachable(
                f"no node answers at {self.target.text}: {error.strerror or error}",
                hint="start it with `prsm start`, or name another with --node",
            ) from error
        except ValueError as error:
            raise self._stranger(str(error)) from error
        finally:
            if not done:
                self.close()
        return status, answer

    def _connected(self, deadline: float) -> socket.socket:
        if self._socket is not None and select.select([self._socket], [], [], 0)[0]:
            self.close()  # bytes or an end nobody asked for: the node closed an idle connection
        if self._socket is not None:
            return self._socket
        if self.target.socket_path is not None:
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(_left(deadline))
            try:
                with socket_address(self.target.socket_path) as place:
                    stream.connect(place)
            except BaseException:
                stream.close()
                raise
        else:
            assert self.target.address is not None
            stream = socket.create_connection(self.target.address, timeout=_left(deadline))
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = stream
        return stream

    def _stranger(self, why: str) -> NodeUnreachable:
        return NodeUnreachable(
            f"what answers at {self.target.text} is no PRSM node ({why[:160]})",
            hint="name the node with --node, or its folder with --home",
        )


def _loopback(node: str) -> tuple[str, int]:
    place = node.removeprefix("http://").rstrip("/")
    host, _, port = place.rpartition(":")
    if not place.startswith(_LOOPBACK) or not port.isdecimal() or int(port) > 65535:
        raise NodeUnreachable(
            f"{node[:100]!r} is no address of this machine; the token would travel in clear text",
            hint="write http://127.0.0.1:8480 or unix:PATH; from afar use ssh -L",
        )
    return host.strip("[]"), int(port)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _send(stream: socket.socket, data: bytes, deadline: float) -> None:
    stream.settimeout(_left(deadline))
    try:
        stream.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        # The node may have refused the body before reading all of it: its answer says why.
        return


def _receive(stream: socket.socket, deadline: float) -> tuple[int, bytes, bool]:
    """Read one answer: status, body, and whether the connection can be used again."""
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > _HEAD_BYTES_MAX:
            raise ValueError(f"more than {_HEAD_BYTES_MAX} bytes of head")
        stream.settimeout(_left(deadline))
        more = stream.recv(65536)
        if not more:
            raise ConnectionResetError(0, "the connection was closed before an answer came")
        data += more
    status, headers = _parse_head(bytes(data[:end]))
    body = data[end + 4 :]
    if "transfer-encoding" in headers:
        raise ValueError("a chunked answer")
    size = int(headers.get("content-length", "0"))
    if size > _ANSWER_BYTES_MAX:
        raise ValueError(f"an answer of {size} bytes, at most {_ANSWER_BYTES_MAX}")
    while len(body) < size:
        stream.settimeout(_left(deadline))
        more = stream.recv(min(1 << 20, size - len(body)))
        if not more:
            raise ConnectionResetError(0, f"the answer ended at {len(body)} of {size} bytes")
        body += more
    return status, bytes(body), headers.get("connection", "") != "close"


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise ValueError("no HTTP answer")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), {name.strip().lower(): value.strip().lower() for name, _, value in pairs}
