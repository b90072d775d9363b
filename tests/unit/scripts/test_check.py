"""The gate: which steps it takes, what it makes of their exits, which tests a change touches."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`scripts/check.py` as it is started: beside its own folder."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("check")
    for name in ("check", "environment"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("program", "verdict"),
    [("raise SystemExit(0)", True), ("raise SystemExit(1)", False), ("raise SystemExit(5)", False)],
)
def test_run_judges_by_the_exit_code(check: ModuleType, program: str, verdict: bool) -> None:
    assert check.run(check.Step("step", [sys.executable, "-c", program])) is verdict


def test_run_shows_the_output_of_a_failed_step(
    check: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    check.run(check.Step("good", [sys.executable, "-c", "print('nobody asks')"]))
    check.run(check.Step("bad", [sys.executable, "-c", "print('why'); raise SystemExit(3)"]))
    said = capsys.readouterr().out
    assert "nobody asks" not in said
    assert "why\nbad" in said
    assert "FAILED (exit 3)" in said


def test_run_beside_ends_a_chain_at_its_first_failure(check: ModuleType, tmp_path: Path) -> None:
    def step(name: str, code: int) -> object:
        program = f"open({str(tmp_path / name)!r}, 'w'); raise SystemExit({code})"
        return check.Step(name, [sys.executable, "-c", program])

    assert check.run_beside([[step("a", 0), step("b", 0)], [step("c", 0)]])
    assert not check.run_beside([[step("d", 1), step("e", 0)], [step("f", 0)]])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d", "f"]


REPORT = "print({lines!r}); raise SystemExit({code})"


def failing(check: ModuleType, *files: str, code: int = 1) -> object:
    """A step that reports as pytest does."""
    lines = "\n".join(f"FAILED {name}::test_it - assert 1 == 2" for name in files)
    program = REPORT.format(lines=lines, code=code)
    return check.Step("tests", [sys.executable, "-c", program, "pytest"])


def test_few_files_that_failed_are_handed_over(check: ModuleType) -> None:
    again: list[str] = []
    assert check.run_beside([[failing(check, "tests/a.py", "tests/a.py")]], again)
    assert check.run(failing(check, "tests/b.py"), again)
    assert again == ["tests/a.py", "tests/b.py"]
    assert not check.run(failing(check, "tests/c.py"), again)


@pytest.mark.parametrize(
    ("files", "code"),
    [((), 1), (("tests/a.py",), 2), (("tests/a.py", "tests/b.py", "tests/c.py"), 1)],
)
def test_no_second_try(check: ModuleType, files: tuple[str, ...], code: int) -> None:
    """What names no file, was interrupted, failed widely; without a list, anything."""
    assert not check.run(failing(check, *files, code=code), [])
    assert not check.run(failing(check, "tests/a.py"))


def test_a_step_that_runs_no_tests_has_no_second_try(check: ModuleType) -> None:
    step = check.Step(
        "lint", [sys.executable, "-c", REPORT.format(lines="FAILED tests/a.py", code=1)]
    )
    assert not check.run(step, [])


@pytest.mark.parametrize(("works", "said"), [(True, "RACE: "), (False, "FAILED (exit 1)")])
def test_run_alone_decides(
    check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], works: bool, said: str
) -> None:
    path = tmp_path / "test_again.py"
    path.write_text(f"def test_it():\n    assert {works}\n")
    assert check.run_alone([str(path)], "not long") is works
    assert said in capsys.readouterr().out
    assert check.run_alone([], "not long")


def test_tests_of_finds_the_unit_test_of_a_module(check: ModuleType) -> None:
    changed = ["protocol/codec.py", "tests/property/test_codec.py", "README.md", "node/nothing.py"]
    assert check.tests_of(changed) == [
        "tests/property/test_codec.py",
        "tests/unit/protocol/test_codec.py",
    ]


def test_test_steps_leave_no_folder_out(check: ModuleType) -> None:
    """What one step ignores another one runs, if there are tests."""
    beside, alone = check.test_steps("not long")
    steps = [*(step for chain in beside for step in chain), *alone]
    words = [word for step in steps for word in step.command]
    ignored = {word.removeprefix("--ignore=") for word in words if "--ignore" in word}
    with_tests = {
        name for name in ignored if name.endswith(".py") or any(Path(name).rglob("test_*.py"))
    }
    assert with_tests
    assert with_tests <= set(words)
    assert all(Path(name).exists() for name in with_tests)


def test_reading_steps_hand_async_files_only_to_the_async_lint(check: ModuleType) -> None:
    chains = check.reading_steps(["protocol/codec.py", "node/net/interface.py", "README.md"])
    words = [word for chain in chains for step in chain for word in step.command]
    assert "node/net/interface.py" in words
    assert "protocol/codec.py" not in words
