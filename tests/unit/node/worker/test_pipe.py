import os
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prsm.node.worker.pipe import NUMPY, Array, Pipe, PipeClosed, read_arrays, write_arrays
from prsm.protocol.errors import WireError
from prsm.protocol.framing import Flow
from prsm.protocol.messages.pipe import Cancel, InputMismatch, Run, WorkerFailed
from prsm.protocol.tensors import Dtype, TensorHead

_SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
_ARRAYS = st.sampled_from(sorted(NUMPY)).flatmap(lambda d: hnp.arrays(NUMPY[d], _SHAPES))


@given(st.lists(_ARRAYS, max_size=4))
def test_arrays_come_back_as_they_went(arrays: list[Array]) -> None:
    named = {f"t{place}": array for place, array in enumerate(arrays)}
    heads, buffers = write_arrays(named)
    found = read_arrays(heads, memoryview(b"".join(buffers)))
    for name, array in named.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.aligned
        assert not found[name].flags.writeable


def test_write_arrays_takes_strided_ones() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    heads, buffers = write_arrays({"a": array})
    assert read_arrays(heads, memoryview(b"".join(buffers)))["a"].tolist() == array.tolist()


def test_write_arrays_refuses_a_foreign_type() -> None:
    with pytest.raises(InputMismatch, match="float64"):
        write_arrays({"a": np.zeros(2)})


@pytest.mark.parametrize(
    ("heads", "tail", "error"),
    [
        ([TensorHead("a", Dtype.U8, (2,))] * 2, b"1234", InputMismatch),
        ([TensorHead("a", Dtype.BOOL, (2,))], b"\x01\x02", InputMismatch),
        ([TensorHead("a", Dtype.U8, (2**31 - 1, 2**31 - 1))], b"12", WireError),
        ([TensorHead("a", Dtype.U8, (2,))], b"123", WireError),
    ],
)
def test_read_arrays_refuses_what_does_not_fit(
    heads: list[TensorHead], tail: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        read_arrays(heads, memoryview(tail))


def test_frames_cross_the_pipe() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        near, far = Pipe(ours.fileno()), Pipe(theirs.fileno())
        heads, buffers = write_arrays({"a": np.arange(6, dtype=np.int64)})
        near.write(Run(heads), flow=Flow.CALL, request_id=7, tail=buffers)
        frame = far.read()
        assert (frame.flow, frame.request_id, frame.body) == (Flow.CALL, 7, Run(heads))
        assert read_arrays(heads, frame.tail)["a"].tolist() == list(range(6))
        far.refuse(WorkerFailed("no"), request_id=7)
        ours.close()
        with pytest.raises(PipeClosed):
            far.read()
        with pytest.raises(PipeClosed):
            far.write(Cancel())


def test_a_pipe_closed_inside_a_frame_is_closed() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"\0\0\0\x09\0\0")
    os.close(writer)
    with pytest.raises(PipeClosed):
        Pipe(reader).read()
    os.close(reader)
