import pytest

from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.framing import Refusal
from prsm.protocol.limits import TEXT_BYTES_MAX
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.messages.pipe import (
    KINDS,
    PIPE,
    FilePart,
    InputMismatch,
    Loaded,
    NoCut,
    WorkerFailed,
    class_id,
    refusal,
    refused,
)
from prsm.protocol.messages.table import MESSAGES
from prsm.protocol.tensors import Dtype

_SPEC = TensorSpec("x", Dtype.F32, ("batch", 4))


def _loaded(runtime: str = "r 1", options: str = "o", shard: int = 1, root: int = 2) -> Loaded:
    specs = (_SPEC,)
    return Loaded(specs, specs, runtime, options, bytes([shard]) * 32, bytes([root]) * 32, 5)


def test_numbers_are_in_the_range_of_the_pipe() -> None:
    assert all(100 <= number <= 139 for number in KINDS)
    assert PIPE.items() == [item for item in MESSAGES.items() if item[0] in KINDS]


@pytest.mark.parametrize("error", [NoCut("no"), InputMismatch("x is y"), WorkerFailed("gone")])
def test_errors_come_back_as_they_went(error: LocalError) -> None:
    found = refused(refusal(error))
    assert type(found) is type(error)
    assert found.what == error.what
    assert found.hint


def test_unknown_reasons_become_worker_failed() -> None:
    assert type(refused(Refusal("brand_new", "text", 0))) is WorkerFailed


def test_long_texts_are_cut_to_what_a_refusal_holds() -> None:
    body = refusal(WorkerFailed("ü" * 5000))
    assert decode(encode(body), Refusal, size_max=8192) == body
    assert len(body.what.encode()) <= TEXT_BYTES_MAX


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/b", "", ".hidden", "A.onnx", "a\n", "a" * 64, "a\0b"]
)
def test_file_part_refuses_names_that_leave_the_directory(name: str) -> None:
    with pytest.raises(WireError):
        decode(encode((name, 0, 1)), FilePart, size_max=1000)


def test_class_id_depends_on_each_of_its_parts() -> None:
    ids = {
        class_id(loaded)
        for loaded in (
            _loaded(),
            _loaded(runtime="r 2"),
            _loaded(options="p"),
            _loaded(shard=9),
            _loaded(root=9),
        )
    }
    assert len(ids) == 5


def test_class_id_is_what_peers_of_this_version_compute() -> None:
    """Golden vector: changing it is a protocol change."""
    assert (
        class_id(_loaded()).hex()
        == "c61cddce1c0f8afdafa1b5c851b360c776bc719748a5ebb690dc573f00c96708"
    )
