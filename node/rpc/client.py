"""The thin client of the command line: one call at a time over one kept socket.

A call is never sent twice; what retries, waits and reads pages is built on it in `sdk`.

Knows: sockets, the forms of `wire`. Must not know: trio, any room of the daemon.
"""

import select
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from prsm.node.home import socket_address
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable
from prsm.node.rpc.faults import RpcError
from prsm.node.rpc.target import Endpoint, Target, find
from prsm.node.rpc.wire import (
    READ_BYTES,
    Answer,
    AnswerReader,
    decode_reply,
    encode_call,
    encode_request,
)

if TYPE_CHECKING:
    from ssl import SSLContext

    from prsm.node.rpc.spec import Params  # a client that sends plain objects needs no table

__all__ = ["Client", "Endpoint", "RpcError", "Target", "find"]

T = TypeVar("T")


class Client:
    """One kept connection to one node; not for several threads at once."""

    def __init__(self, target: Target, *, timeout_s: float = 30.0) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._token = ""  # as it was when this connection was opened
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

    @property
    def is_open(self) -> bool:
        """Whether the connection of the last call is kept."""
        return self._socket is not None

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
        return decode_result(self.target, method, self.call_raw(method, params), result)

    def call_raw(
        self,
        method: str,
        params: "Params | Mapping[str, object] | None" = None,
        *,
        timeout_s: float | None = None,
    ) -> bytes:
        """Call a method and return the bytes of its result, verbatim.

        Args:
            method: its name.
            params: its parameters.
            timeout_s: how long this call may take, if not as long as all.

        Raises:
            RpcError, NodeUnreachable, CallTimeout: as `call`.
        """
        self._next_id += 1
        body = encode_call(self._next_id, method, params)
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        answer = self._exchange("POST", "/rpc", body, limit_s)
        if answer.status == 401 and self.target.token() != self._token:
            # Refused before it ran: the node was restarted and wrote another cookie.
            self.close()
            answer = self._exchange("POST", "/rpc", body, limit_s)
        try:
            return decode_reply(answer)
        except ValueError as error:
            raise stranger(self.target, str(error)) from error

    def get(self, path: str) -> tuple[int, bytes]:
        """GET one of the open pages, `/livez` or `/readyz`.

        Returns:
            Status and body.

        Raises:
            NodeUnreachable, CallTimeout: as `call`.
        """
        answer = self._exchange("GET", path, b"", self._timeout_s)
        return answer.status, answer.body

    def post(self, path: str, value: object) -> bytes:
        """POST JSON to a page that asks for no token, such as a login; the answer's body.

        Raises:
            RpcError, NodeUnreachable, CallTimeout: as `call`.
        """
        body = msgspec.json.encode(value)
        answer = self._exchange("POST", path, body, self._timeout_s)
        if answer.status == 200:
            return answer.body
        try:
            decode_reply(answer)
        except ValueError as error:
            raise stranger(self.target, str(error)) from error
        raise stranger(self.target, f"status {answer.status} without an error")

    def _exchange(self, verb: str, path: str, body: bytes, limit_s: float) -> Answer:
        """Send a request and read its answer; who asks is said at /rpc alone."""
        deadline = time.monotonic() + limit_s
        keep = False
        try:
            stream = self._connected(deadline)
            headers: dict[str, str] = {}
            if path == "/rpc":
                # The bearer as it was looked up, so that a second try can tell whether it is
                # another.
                headers = (
                    {"Authorization": f"Bearer {self._token}"}
                    if self._token
                    else self.target.proof(verb, path, body)
                )
            request = encode_request(verb, path, self.target.host, body=body, headers=headers)
            _send(stream, request, deadline)
            answer = _receive(stream, deadline)
            keep = answer.keep
        except TimeoutError as error:
            raise CallTimeout(
                f"{self.target.text} did not answer in {limit_s:g} s",
                hint="give it more with --timeout SECONDS",
            ) from error
        except OSError as error:
            raise unreachable(self.target, error) from error
        except ValueError as error:
            raise stranger(self.target, str(error)) from error
        finally:
            if not keep:
                self.close()
        return answer

    def _connected(self, deadline: float) -> socket.socket:
        if self._socket is not None and is_readable(self._socket, 0):
            self.close()  # bytes or an end nobody asked for: the node closed an idle connection
        if self._socket is None:
            # A node that was restarted has another cookie, and a new connection.
            self._token = self.target.token()
            self._socket = connect(self.target, deadline)
        return self._socket


def connect(target: Target, deadline: float) -> socket.socket:
    """Open a connection by `deadline` of the monotonic clock.

    Raises:
        OSError: nobody listens there.
        TimeoutError: it took longer.
    """
    if target.socket_path is None:
        assert target.address is not None
        stream = socket.create_connection(target.address, timeout=_left(deadline))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = target.context()
        return stream if context is None else _secured(stream, context, target.address[0])
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(_left(deadline))
    try:
        with socket_address(target.socket_path) as place:
            stream.connect(place)
    except BaseException:
        stream.close()
        raise
    return stream


def is_readable(stream: socket.socket, wait_s: float | None) -> bool:
    """Whether bytes, or an end, can be read within so many seconds; None: wait for ever."""
    pending = getattr(stream, "pending", None)  # TLS has read further than its reader
    if pending is not None and pending():
        return True
    watch = select.poll()
    watch.register(stream, select.POLLIN)
    return bool(watch.poll(None if wait_s is None else wait_s * 1000))


def _secured(stream: socket.socket, context: "SSLContext", host: str) -> socket.socket:
    try:
        return context.wrap_socket(stream, server_hostname=host)
    except BaseException:
        stream.close()
        raise


def decode_result(target: Target, method: str, raw: bytes, kind: type[T]) -> T:
    """Read a result.

    Raises:
        NodeUnreachable: it has another form than this client knows.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise NodeUnreachable(
            f"{target.text} answered {method} in another form: {error}",
            hint="compare `prsm version` with the node's version in `prsm status`",
        ) from error


def unreachable(target: Target, error: OSError) -> NodeUnreachable:
    """Nobody answers there."""
    return NodeUnreachable(
        f"no node answers at {target.text}: {error.strerror or error}",
        hint="start it with `prsm start`, or name another with --node",
    )


def stranger(target: Target, why: str) -> NodeUnreachable:
    """Somebody else answers there."""
    return NodeUnreachable(
        f"what answers at {target.text} is no PRSM node ({why[:160]})",
        hint="name the node with --node, or its folder with --home",
    )


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


def _receive(stream: socket.socket, deadline: float) -> Answer:
    reader = AnswerReader()
    while True:
        stream.settimeout(_left(deadline))
        answer = reader.feed(stream.recv(READ_BYTES))
        if answer is not None:
            return answer
