"""The worker's end of a pipe: blocking frames on a file descriptor, tensors as numpy arrays.

Uses read and write only, which is all a sealed child may call. Must not know what the records
mean.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.framing import (
    PREFIX_BYTES,
    PROTOCOL_VERSION,
    Flow,
    Head,
    decode_head,
    encode_frame,
    parse_lengths,
)
from prsm.protocol.limits import FRAME_HEAD_BYTES_MAX, KIB, TENSOR_BYTES_MAX
from prsm.protocol.messages.pipe import (
    FILE_PART_BYTES_MAX,
    PIPE,
    PIPE_FRAME_BYTES_MAX,
    FilePart,
    InputMismatch,
    OutOfMemory,
    refusal,
)
from prsm.protocol.tensors import Dtype, TensorHead

Array = npt.NDArray[Any]
_WRITE_BUFFERS_MAX: Final = 64  # below IOV_MAX everywhere
_AHEAD_BYTES: Final = 16 * KIB  # a step of a generation, in one call of the system

NUMPY: Final[dict[Dtype, np.dtype[Any]]] = {
    Dtype.F32: np.dtype("<f4"),
    Dtype.F16: np.dtype("<f2"),
    Dtype.I64: np.dtype("<i8"),
    Dtype.I32: np.dtype("<i4"),
    Dtype.U8: np.dtype("u1"),
    Dtype.I8: np.dtype("i1"),
    Dtype.BOOL: np.dtype("?"),
}
_DTYPES: Final = {kind: dtype for dtype, kind in NUMPY.items()}


class PipeClosed(Exception):
    """The daemon's end is gone; nobody waits for an answer."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as read: its conversation, its record, its raw tail."""

    flow: int
    request_id: int
    body: Record
    tail: memoryview


class Pipe:
    """Frames over one file descriptor; one reader and one writer at a time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ahead = bytearray()  # read behind the frame that was asked for

    def read(self) -> Frame:
        """Wait for the next frame.

        Raises:
            PipeClosed: the other end is closed.
            WireError: bytes that are no frame of the pipe.
        """
        head_bytes, tail_bytes = parse_lengths(
            bytes(self._exactly(PREFIX_BYTES)), frame_bytes_max=PIPE_FRAME_BYTES_MAX
        )
        head = decode_head(bytes(self._exactly(head_bytes)))
        tail = self._exactly(tail_bytes)
        body = PIPE.decode(head.kind, head.body, size_max=FRAME_HEAD_BYTES_MAX)
        return Frame(head.flow, head.request_id, body, tail)

    def write(
        self,
        body: Record,
        *,
        flow: Flow = Flow.REPLY,
        request_id: int = 0,
        tail: Sequence[memoryview] = (),
    ) -> None:
        """Send a record and its raw tail.

        Raises:
            PipeClosed: the other end is closed.
        """
        kind = 0 if flow == Flow.ERROR else PIPE.number(type(body))
        head = Head(PROTOCOL_VERSION, flow, kind, request_id, b"", encode(body))
        size = sum(part.nbytes for part in tail)
        self._all([memoryview(encode_frame(head, size)), *tail])

    def refuse(self, error: LocalError, *, request_id: int) -> None:
        """Send a typed error as the answer to a call."""
        self.write(refusal(error), flow=Flow.ERROR, request_id=request_id)

    def _exactly(self, size: int) -> memoryview:
        try:
            view = memoryview(bytearray(size))
        except MemoryError as error:
            raise OutOfMemory(f"no room for a frame of {size} bytes") from error
        ahead = self._ahead
        got = min(size, len(ahead))
        view[:got] = ahead[:got]
        del ahead[:got]
        while got < size:
            try:
                if size - got >= _AHEAD_BYTES:
                    count = os.readv(self._fd, [view[got:]])
                else:
                    data = os.read(self._fd, _AHEAD_BYTES)
                    count = min(size - got, len(data))
                    view[got : got + count] = data[:count]
                    ahead += data[count:]
            except ConnectionResetError as error:
                raise PipeClosed from error
            if count == 0:
                raise PipeClosed
            got += count
        return view

    def _all(self, parts: list[memoryview]) -> None:
        parts = [part for part in parts if part.nbytes]
        try:
            while parts:
                sent = os.writev(self._fd, parts[:_WRITE_BUFFERS_MAX])
                while parts and sent >= parts[0].nbytes:
                    sent -= parts.pop(0).nbytes
                if sent:
                    parts[0] = parts[0][sent:]
        except (BrokenPipeError, ConnectionResetError) as error:
            raise PipeClosed from error


def send_file(pipe: Pipe, name: str, data: bytes) -> None:
    """Send a file in parts, one after another; the daemon writes it."""
    view = memoryview(data)
    for start in range(0, max(1, len(data)), FILE_PART_BYTES_MAX):
        part = FilePart(name, start, len(data))
        tail = [view[start : start + FILE_PART_BYTES_MAX]]
        pipe.write(part, flow=Flow.ONE_WAY, tail=tail)


def read_arrays(heads: Sequence[TensorHead], tail: memoryview) -> dict[str, Array]:
    """Cut a raw tail into read-only arrays by name, without copying aligned ones.

    Raises:
        InputMismatch: a name twice, a tensor over the limit, a BOOL that is neither 0 nor 1.
        WireError: a tail of another length than the heads announce.
    """
    arrays: dict[str, Array] = {}
    offset = 0
    if sum(head.nbytes for head in heads) != len(tail):
        raise WireError(f"tail of {len(tail)} bytes, the heads announce another length")
    for head in heads:
        if head.name in arrays:
            raise InputMismatch(f"input {head.name!r} is given twice")
        if head.nbytes > TENSOR_BYTES_MAX:
            raise InputMismatch(
                f"tensor {head.name!r} of {head.nbytes} bytes, at most {TENSOR_BYTES_MAX}"
            )
        raw = np.frombuffer(tail, dtype=np.uint8, count=head.nbytes, offset=offset)
        if head.dtype == Dtype.BOOL and raw.size and raw.max() > 1:
            raise InputMismatch(f"tensor {head.name!r} is BOOL and holds {raw.max()}, not 0 or 1")
        if offset % NUMPY[head.dtype].itemsize:
            raw = raw.copy()
        arrays[head.name] = raw.view(NUMPY[head.dtype]).reshape(head.shape)
        arrays[head.name].flags.writeable = False
        offset += head.nbytes
    return arrays


def write_arrays(
    arrays: Mapping[str, Array],
) -> tuple[tuple[TensorHead, ...], list[memoryview]]:
    """Return heads and raw buffers of arrays, in their order.

    Raises:
        InputMismatch: an element type that no boundary may carry, or a tensor over the limit.
    """
    heads, buffers = [], []
    for name, array in arrays.items():
        dtype = _DTYPES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise InputMismatch(f"tensor {name!r} is {array.dtype}; no boundary carries that")
        if array.nbytes > TENSOR_BYTES_MAX:
            raise InputMismatch(
                f"tensor {name!r} of {array.nbytes} bytes, at most {TENSOR_BYTES_MAX}"
            )
        flat = np.ascontiguousarray(array).reshape(-1)
        heads.append(TensorHead(name, dtype, tuple(array.shape)))
        buffers.append(flat.view(np.uint8).data)
    return tuple(heads), buffers
