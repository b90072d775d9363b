"""The bytes of a call and of its answer: HTTP/1.1 and JSON-RPC 2.0, without a socket.

Own HTTP: importing `http.client` took 32 ms of the 90 that `prsm status` may take, and the other
end is always the node's own server. Both clients use it, so that neither knows more than the other.

Knows: the forms. Must not know: sockets, clocks, trio, any room of the daemon.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from prsm.node.rpc.faults import RpcError, fault_of
from prsm.protocol.jsontext import UNREADABLE

if TYPE_CHECKING:
    from prsm.node.rpc.spec import Params  # a client that sends plain objects needs no table

_HEAD_BYTES_MAX: Final = 64 * 1024
_ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
READ_BYTES: Final = 64 * 1024  # room for more is mapped anew for each read


class Answer(NamedTuple):
    """An HTTP answer, and whether its connection can be used again."""

    status: int
    body: bytes
    keep: bool


class Fault(msgspec.Struct):
    """A refusal, as JSON-RPC writes it."""

    code: int
    message: str
    data: dict[str, object] = {}

    def as_error(self) -> RpcError:
        """The error of the class of its reason."""
        return fault_of(self.code, self.message, self.data)


class _Reply(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw()
    error: Fault | None = None


def encode_call(number: int, method: str, params: "Params | Mapping[str, object] | None") -> bytes:
    """A JSON-RPC call."""
    request: dict[str, object] = {"jsonrpc": "2.0", "id": number, "method": method}
    if params is not None:
        request["params"] = params
    return msgspec.json.encode(request)


def decode_reply(answer: Answer) -> bytes:
    """The bytes of the result, verbatim.

    Raises:
        RpcError: the node refused.
        ValueError: this is no JSON-RPC answer.
    """
    try:
        reply = msgspec.json.decode(answer.body, type=_Reply)
    except UNREADABLE as error:
        raise ValueError(f"status {answer.status} without a JSON-RPC answer") from error
    if reply.error is not None:
        raise reply.error.as_error()
    if not bytes(reply.result):
        raise ValueError(f"status {answer.status} with neither result nor error")
    return bytes(reply.result)


def encode_request(
    verb: str, path: str, host: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """A request with its body."""
    lines = [f"{verb} {path} HTTP/1.1", f"Host: {host}"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "\r\n"]).encode("ascii") + body


class AnswerReader:
    """Reads one answer from pieces of a stream."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._head: tuple[int, dict[str, str]] | None = None
        self._size = 0

    def feed(self, piece: bytes) -> Answer | None:
        """Take what was received; an empty piece is the end of the stream.

        Returns:
            The answer once it is whole.

        Raises:
            ValueError: no HTTP answer of ours.
            ConnectionResetError: the stream ended first.
        """
        if not piece:
            raise ConnectionResetError(0, self._how_it_ended())
        self._data += piece
        if self._head is None and not self._read_head():
            return None
        assert self._head is not None
        status, headers = self._head
        if len(self._data) < self._size:
            return None
        return Answer(status, bytes(self._data), headers.get("connection", "") != "close")

    def _read_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > _HEAD_BYTES_MAX:
                raise ValueError(f"more than {_HEAD_BYTES_MAX} bytes of head")
            return False
        status, headers = parse_head(bytes(self._data[:end]))
        if "transfer-encoding" in headers:
            raise ValueError("a chunked answer")
        self._size = int(headers.get("content-length", "0"))
        if self._size > _ANSWER_BYTES_MAX:
            raise ValueError(f"an answer of {self._size} bytes, at most {_ANSWER_BYTES_MAX}")
        del self._data[: end + 4]
        self._head = status, headers
        return True

    def _how_it_ended(self) -> str:
        if self._head is None:
            return "the connection was closed before an answer came"
        return f"the answer ended at {len(self._data)} of {self._size} bytes"


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, in lower case.

    Raises:
        ValueError: no head of an HTTP answer.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise ValueError("no HTTP answer")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), {name.strip().lower(): value.strip().lower() for name, _, value in pairs}


__all__ = [
    "READ_BYTES",
    "Answer",
    "AnswerReader",
    "Fault",
    "RpcError",
    "decode_reply",
    "encode_call",
    "encode_request",
    "parse_head",
]
