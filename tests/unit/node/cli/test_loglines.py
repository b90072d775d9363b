"""prsm logs: which lines, in which order, through rotations, and nothing that moves a cursor."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from prsm.node.cli import loglines
from prsm.node.cli.failures import Usage
from prsm.node.cli.loglines import log_files, read_since
from prsm.node.cli.main import prsm

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def line(minute: int, level: str, event: str, room: str = "net") -> str:
    ts = f"2026-05-01T12:{minute:02}:00.000000Z"
    return json.dumps({"ts": ts, "level": level, "event": event, "room": room})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("keys", "run", "logs"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "VERSION").write_text("1\n", encoding="ascii")
    logs = tmp_path / "logs"
    (logs / "node.log.2").write_text(line(1, "info", "first") + "\n", encoding="utf-8")
    (logs / "node.log.1").write_text(line(2, "error", "second", "sync") + "\n", encoding="utf-8")
    newest = [line(3, "warning", "third\x1b[2J"), "plain words \x1b[2J", line(4, "debug", "fourth")]
    (logs / "node.log").write_text("\n".join(newest) + "\n", encoding="utf-8")
    return tmp_path


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(prsm, ["--home", str(home), "logs", *words])


def events(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(one)["event"] for one in result.stdout.splitlines()]


def test_rotated_files_are_read_oldest_first(home: Path) -> None:
    names = [path.name for path in log_files(home / "logs" / "node.log")]
    assert names == ["node.log.2", "node.log.1", "node.log"]
    assert events(run(home, "--json"))[:2] == ["first", "second"]


def test_lines_are_chosen_by_level_room_time_text_and_count(home: Path) -> None:
    assert events(run(home, "--json", "--level", "warning")) == ["second", "third\x1b[2J"]
    assert events(run(home, "--json", "--room", "sync")) == ["second"]
    since = ("--since", "2026-05-01T12:03:00Z")
    assert events(run(home, "--json", *since)) == ["third\x1b[2J", "fourth"]
    assert events(run(home, "--json", "--grep", "first")) == ["first"]
    assert events(run(home, "--json", "-n", "1")) == ["fourth"]


def test_lines_of_a_job_are_those_of_the_node_and_its_labs_by_time(home: Path) -> None:
    """The first characters of the id choose; the labs of a development network stand beside."""
    job = "ab" * 32
    lab = home / "labs" / "lab1"
    (lab / "logs").mkdir(parents=True)
    (lab / "VERSION").write_text("1\n", encoding="ascii")

    def about(minute: int, event: str, one: str) -> str:
        return json.dumps({**json.loads(line(minute, "info", event)), "job": one}) + "\n"

    written = about(7, "job: done", job) + about(8, "job: done", "cd" * 32)
    with (home / "logs" / "node.log").open("a", encoding="utf-8") as log:
        log.write(written)
    (lab / "logs" / "node.log").write_text(about(6, "unit ended", job), encoding="utf-8")
    runner = CliRunner()

    def asked(*words: str) -> Result:
        return runner.invoke(prsm, ["--home", str(home), "job", "logs", *words])

    assert events(asked("0xabab", "--json")) == ["unit ended", "job: done"]
    assert [json.loads(one).get("lab") for one in asked(job, "--json").stdout.splitlines()] == [
        "lab1",
        None,
    ]
    assert "unit ended" in asked("abab").stdout
    nothing = asked("0x" + "ef" * 32)
    assert (nothing.exit_code, "prsm job trace" in nothing.stderr) == (1, True)


def test_for_people_nothing_moves_the_cursor(home: Path) -> None:
    result = run(home)
    assert "\x1b" not in result.stdout
    assert "2026-05-01T12:02:00.000 ERRO sync      second" in result.stdout
    assert "plain words" in result.stdout


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("10m", "2026-05-01T11:50:00"),
        ("2h", "2026-05-01T10:00:00"),
        ("1d", "2026-04-30T12:00:00"),
        ("2026-01-02T03:04:05+01:00", "2026-01-02T02:04:05"),
        ("2026-01-02", "2026-01-02T00:00:00"),
    ],
)
def test_since_is_a_span_or_a_time(text: str, then: str) -> None:
    assert read_since(text, now=NOW) == then


@pytest.mark.parametrize("text", ["yesterday", "-1m", "10", "9999999999d"])
def test_any_other_since_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        read_since(text, now=NOW)


def test_no_log_says_who_would_write_one(home: Path) -> None:
    for path in (home / "logs").iterdir():
        path.unlink()
    result = run(home)
    assert result.exit_code == 1
    assert "prsm start --detach" in result.stderr


def test_follow_goes_on_through_a_rotation(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks the file grows, is renamed and begun anew; Ctrl-C ends the following."""
    log = home / "logs" / "node.log"

    def grow() -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line(5, "info", "fifth") + "\n" + line(6, "info", "half")[:9])

    def rotate() -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line(6, "info", "half")[9:] + "\n")
        log.rename(home / "logs" / "node.log.9")
        log.write_text(line(7, "info", "seventh") + "\n", encoding="utf-8")

    def end() -> None:
        raise KeyboardInterrupt

    steps = iter((grow, rotate, lambda: None, end))

    def pause() -> None:
        next(steps)()

    monkeypatch.setattr(loglines, "pause", pause)
    result = run(home, "-f", "--json", "-n", "1")
    assert result.exit_code == 130
    found = [json.loads(one)["event"] for one in result.stdout.splitlines()]
    assert found == ["fourth", "fifth", "half", "seventh"]
