"""An answer that cannot be written: said in the one form, once, and never by a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import prsm
from prsm.node.cli.main import Root
from prsm.node.cli.main import prsm as cli

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("words", [("where",), ("where", "--json"), ("--help",)])
def test_a_full_file_is_said_once(tmp_path: Path, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "prsm.node.cli.main", "--home", str(tmp_path), *words]
    environ = os.environ | {"PYTHONPATH": str(Path(prsm.__file__).parents[1])}
    environ.pop("PYTHONUNBUFFERED", None)  # what stays in the buffer is the point
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, env=environ, check=False, timeout=60
        )
    said = done.stderr.decode()
    assert (done.returncode, said.count("PRSM-1051")) == (1, 2), said  # named, and its explain
    assert "No space left" in said
    assert "Traceback" not in said


def test_nothing_is_done_whose_answer_could_not_be_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_given: object) -> None:
        raise AssertionError("a command ran")

    monkeypatch.setattr(Root, "invoke", never)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["where"])
    assert ended.value.code == 1
    assert "standard output is closed" in capsys.readouterr().err
