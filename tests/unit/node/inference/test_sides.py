import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from prsm.node.inference.sides import opened_sides
from prsm.protocol.messages.pipe import ModelRefused


def read(source: Path, *names: str, patterns: Sequence[str] = ()) -> list[bytes]:
    with opened_sides(source, names, patterns) as fds:
        return [os.pread(fd, 100, 0) for fd in fds]


@pytest.fixture(name="source")
def make_source(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("bert.onnx", "bert.onnx.data", "bert_data", "onnx__MatMul_7", "id_rsa", ".bert"):
        (folder / name).write_text(name)
    (tmp_path / "bert.secret").write_text("secret")
    (folder / "bert.link").symlink_to(tmp_path / "bert.secret")
    (folder / "bert.folder").mkdir()
    os.mkfifo(folder / "bert.pipe")
    return folder / "bert.onnx"


def test_sides_that_begin_as_the_model_are_read_in_order(source: Path) -> None:
    assert read(source, "./bert_data", "bert.onnx.data") == [b"bert_data", b"bert.onnx.data"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../bert.secret",
            "bert/../../bert.secret",
            "/etc/passwd",
            "bert.folder/x",
            "..",
            ".",
            "",
        ),
        *("bert\\x", "c:bert", "bert\0", "bert\n", ".bert", "././bert_data"),
    ],
)
def test_sides_out_of_the_folder_are_refused(source: Path, name: str) -> None:
    with pytest.raises(ModelRefused, match="only plain names"):
        read(source, name, patterns=["*"])


def test_sides_of_another_beginning_are_read_only_if_named(source: Path) -> None:
    """Goal: a stranger's model next to a private key does not publish it."""
    with pytest.raises(ModelRefused, match="does not begin with 'bert'") as caught:
        read(source, "id_rsa")
    assert "--weights" in caught.value.hint
    assert read(source, "onnx__MatMul_7", patterns=["onnx__*"]) == [b"onnx__MatMul_7"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bert.link", "cannot be read"),
        ("bert.none", "cannot be read"),
        ("bert.folder", "no file"),
        ("bert.pipe", "no file"),
    ],
)
def test_sides_that_are_no_files_are_refused(source: Path, name: str, words: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ModelRefused, match=words):
        read(source, "bert_data", name)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
