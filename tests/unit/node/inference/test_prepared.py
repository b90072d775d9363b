import hashlib
from pathlib import Path

import pytest

from prsm.node.inference.channel import Received
from prsm.node.inference.prepared import TOKENIZER, FileWriter
from prsm.protocol.errors import WireError
from prsm.protocol.framing import Flow
from prsm.protocol.messages.pipe import FilePart, PreparedModel, PreparedShard, WorkerFailed
from prsm.storage.errors import Full, NotFound


def _part(name: str, offset: int, size: int, data: bytes) -> Received:
    return Received(Flow.ONE_WAY, 0, FilePart(name, offset, size), memoryview(data))


def _model(file: str = "a", golden: str = "b") -> PreparedModel:
    shard = PreparedShard(1, 0, file, golden, (), (), 0, 0, ())
    return PreparedModel((shard,), "r", "o", bytes(32), bytes(32), 1)


def test_writer_joins_parts_and_hashes_them(tmp_path: Path) -> None:
    files = FileWriter(tmp_path, 100)
    files.take(_part("a", 0, 5, b"abc"))
    files.take(_part("a", 3, 5, b"de"))
    files.take(_part("b", 0, 0, b""))
    done = files.finish(_model(), None)
    assert (tmp_path / "a").read_bytes() == b"abcde"
    assert [(f.path, f.size) for f in done.files] == [("a", 5), ("b", 0)]
    assert done.files[0].sha256 == hashlib.sha256(b"abcde").digest()
    assert done.tokenizer is None


@pytest.mark.parametrize(
    "parts",
    [
        [("a", 1, 5, b"abc")],
        [("a", 0, 2, b"abc")],
        [("a", 0, 5, b"abc"), ("a", 0, 5, b"abc")],
        [("a", 0, 5, b"abc"), ("a", 3, 6, b"de")],
        [("a", 0, 60, b"abc"), ("b", 0, 60, b"abc")],
        [("a", 0, 2**62, b"abc")],
    ],
)
def test_writer_refuses_parts_that_do_not_fit(
    tmp_path: Path, parts: list[tuple[str, int, int, bytes]]
) -> None:
    files = FileWriter(tmp_path, 100)
    for part in parts[:-1]:
        files.take(_part(*part))
    with pytest.raises(WireError):
        files.take(_part(*parts[-1]))
    files.remove()
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_an_end_without_all_files(tmp_path: Path) -> None:
    files = FileWriter(tmp_path, 100)
    files.take(_part("a", 0, 5, b"abc"))
    files.take(_part("b", 0, 1, b"x"))
    with pytest.raises(WorkerFailed, match="announced"):
        files.finish(_model(), None)
    files.take(_part("a", 3, 5, b"de"))
    with pytest.raises(WorkerFailed, match="announced"):
        files.finish(_model(golden="c"), None)
    assert files.finish(_model(), None).runtime == "r"


def test_writer_copies_the_tokenizer_and_removes_it_after_a_failure(tmp_path: Path) -> None:
    tokenizer = tmp_path / "source.json"
    tokenizer.write_bytes(b"{}")
    out = tmp_path / "out"
    out.mkdir()
    files = FileWriter(out, 100)
    files.take(_part("a", 0, 1, b"x"))
    files.take(_part("b", 0, 1, b"y"))
    done = files.finish(_model(), tokenizer)
    assert done.tokenizer == "tokenizer.json"
    assert done.files[done.file_index("tokenizer.json")].size == 2
    files.remove()
    assert list(out.iterdir()) == []


def test_full_disk_is_named(tmp_path: Path) -> None:
    """It is the operator's to mend, and no fault of the model or of the node."""
    for name in ("a", TOKENIZER):
        (tmp_path / name).symlink_to("/dev/full")
    files = FileWriter(tmp_path, 100)
    with pytest.raises(Full, match="a: No space left on device"):
        files.take(_part("a", 0, 5, b"abc"))
    tokenizer = tmp_path / "given.json"
    tokenizer.write_bytes(b"{}")
    whole = FileWriter(tmp_path, 100)
    whole.take(_part("b", 0, 1, b"x"))
    with pytest.raises(Full, match="No space left on device"):
        whole.finish(_model("b", "b"), tokenizer)
    with pytest.raises(NotFound, match=r"gone\.json does not exist"):
        whole.finish(_model("b", "b"), tmp_path / "gone.json")
