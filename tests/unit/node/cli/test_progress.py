"""Long work as it is shown: JSON lines, bars, words; Ctrl-C ends the looking alone."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from typing_extensions import override

from prsm.node.cli.progress import bars, follow, shown_by, words_of
from prsm.node.cli.session import Session
from prsm.node.home import Home
from prsm.node.rpc.client import RpcError


def task(**changes: object) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "task_id": "pull-0a0b0c0d",
        "state": "running",
        "kind": "pull",
        "subject": "minilm",
        "size_bytes": 100 * 2**20,
        "done_bytes": 50 * 2**20,
        "rate_bytes_per_s": 10 * 2**20,
        "eta_ms": 5000,
        "stalled_ms": 0,
        "sources": {},
        "error": None,
    }
    return plain | changes


class Told(Session):
    """A session whose node gives these answers in turn; an exception is raised."""

    def __init__(self, *answers: dict[str, Any] | BaseException, progress: str = "json") -> None:
        super().__init__(home=Home(Path("/nowhere")), progress=progress)
        self.answers = list(answers)
        self.asked: list[tuple[str, object]] = []

    @override
    def call(self, method: str, params: Mapping[str, object] | None = None) -> bytes:
        self.asked.append((method, params))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return msgspec.json.encode(answer)


def test_json_is_one_object_a_line_and_only_what_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    half, done = task(), task(state="done", done_bytes=100 * 2**20)
    session = Told(half, half, done)
    assert follow(session, task(done_bytes=0)) == done
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line)["done_bytes"] for line in err.splitlines()] == [
        *(0, 50 * 2**20, 100 * 2**20)
    ]


def test_a_task_that_failed_is_its_own_error() -> None:
    fault = {"reason": "timeout", "what": "no answer", "hint": "try again"}
    with pytest.raises(RpcError) as caught:
        follow(Told(task(state="failed", error=fault), progress="none"), task())
    assert (caught.value.reason, caught.value.what, caught.value.hint) == (
        *("timeout", "no answer", "try again"),
    )


def test_ctrl_c_ends_the_looking_and_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = Told(KeyboardInterrupt(), progress="none")
    with pytest.raises(KeyboardInterrupt):
        follow(session, task())
    assert [method for method, _ in session.asked] == ["task_get"]
    assert "prsm task watch pull-0a0b0c0d" in capsys.readouterr().err


def test_ctrl_c_ends_the_task_too_when_that_was_asked_for() -> None:
    session = Told(KeyboardInterrupt(), task(state="cancelled"), progress="none")
    with pytest.raises(KeyboardInterrupt):
        follow(session, task(), cancel=True)
    assert session.asked[-1] == ("task_cancel", {"task_id": "pull-0a0b0c0d"})


def test_words_say_rate_time_left_or_silence() -> None:
    assert words_of(task()) == "10.0 MiB/s, 5 s left"
    assert words_of(task(eta_ms=None)) == "10.0 MiB/s"
    assert words_of(task(rate_bytes_per_s=0)) == "waiting"
    assert words_of(task(stalled_ms=14_200)) == "stalled 14 s"
    assert words_of(task(state="done", stalled_ms=14_200)) == "done"
    assert words_of(task(eta_ms=200_001)) == "10.0 MiB/s, 3 min 21 s left"


def test_without_a_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """Pytest's standard error is no terminal."""
    with shown_by(Told(progress="auto")) as show:
        show(task())
    assert capsys.readouterr().err == ""


def test_a_bar_shows_bytes_and_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr("rich.console.Console", lambda **_given: console)
    with bars() as show:
        show(task(subject="evil\x1b[2Jname [red]"))
        show(task(subject="evil\x1b[2Jname [red]", stalled_ms=12_000))
    text = drawn.getvalue()
    assert "50.0/100.0 MiB" in text
    assert "stalled 12 s" in text
    assert "\x1b[2J" not in text
    assert "[red]" in text
