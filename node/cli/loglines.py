"""`prsm logs`: what the node wrote, from its files, and on as it writes.

Lines are JSON objects or, from a terminal, text; both are shown. Rotated files are `node.log.1`
and so on, the oldest with the largest number. Knows: files. Must not know: the daemon.
"""

import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.failures import Usage
from prsm.node.cli.session import Session, pass_session, pause
from prsm.node.home import Home
from prsm.protocol.jsontext import UNREADABLE
from prsm.storage.errors import NotFound

LEVELS: Final = ("debug", "info", "warning", "error")
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LINE_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are shown.

    Attributes:
        since: RFC 3339 text, compared as text; "" for all.
        level: the least.
        room: of the node; "" for all.
        text: that the line holds.
        job: the first characters of a job's id, of lines about it; "" for all.
    """

    since: str = ""
    level: str = "debug"
    room: str = ""
    text: str = ""
    job: str = ""

    def fits(self, line: str, fields: dict[str, Any] | None) -> bool:
        """Whether a line is shown; of a line that is no JSON only its text is known."""
        if self.text and self.text not in line:
            return False
        if fields is None:
            return not (self.since or self.room or self.job) and self.level == "debug"
        level = str(fields.get("level", "info"))
        rank = LEVELS.index(level) if level in LEVELS else len(LEVELS)
        about = str(fields.get("job", "")).removeprefix("0x")
        return (
            rank >= LEVELS.index(self.level)
            and str(fields.get("ts", "")) >= self.since
            and self.room in ("", fields.get("room"))
            and about.startswith(self.job.removeprefix("0x"))
        )


@click.command("logs")
@click.option("--follow", "-f", is_flag=True, help="Go on as the node writes; Ctrl-C ends it.")
@click.option("--since", metavar="10m|TIME", help="Of the last 10m, 2h, 1d; or from this time on.")
@click.option("--level", type=click.Choice(LEVELS), default="debug", help="The least level.")
@click.option("--room", default="", help="Of this part of the node, such as sync or net.")
@click.option("--grep", "text", default="", help="Lines that hold this text.")
@click.option("--lines", "-n", type=click.IntRange(1), default=200, show_default=True)
@click.option("--lab", type=click.IntRange(1), help="Of a lab of init --dev, by its number.")
@pass_session
def logs(session: Session, /, *, follow: bool, lines: int, lab: int | None, **wish: Any) -> None:  # noqa: ANN401 - click's options
    """What the node wrote; with --json one object a line.

    A node writes its log files however it was started; log.rotate and log.keep bound them.
    """
    wish["since"] = read_since(wish["since"], now=datetime.now(UTC)) if wish["since"] else ""
    wanted = Wanted(**wish)
    home = Home(session.home.root / "labs" / f"lab{lab}") if lab else session.home
    home.check()
    files = log_files(home.log)
    if not files:
        raise NotFound(
            f"no log in {home.logs}", hint="a node writes one when it starts: prsm start --detach"
        )
    kept: deque[str] = deque(maxlen=lines)
    for file in files:
        kept.extend(line for line in _read(file) if _show_if(line, wanted, session) is not None)
    for line in kept:
        _print(line, session)
    if follow:
        _follow(home.log, wanted, session)


def lines_of(home: Home, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """The fields of all lines of a home's log files that are wanted, oldest first."""
    for file in log_files(home.log):
        for line in _read(file):
            fields = _fields(line)
            if fields is not None and wanted.fits(line, fields):
                yield fields


def read_since(text: str, *, now: datetime) -> str:
    """RFC 3339 text of `10m`, `2h`, `1d` ago, or of a time that is written out.

    Raises:
        Usage: neither.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match:
        then = now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    else:
        try:
            then = datetime.fromisoformat(text)
        except ValueError as error:
            raise Usage(
                f"{text[:40]!r} is no time", hint="--since 10m, 2h, 1d or 2026-05-01T12:00:00Z"
            ) from error
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return then.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def log_files(log: Path) -> list[Path]:
    """The log and its rotated files, oldest first."""
    rotated = [
        (int(path.name.rpartition(".")[2]), path)
        for path in log.parent.glob(f"{log.name}.*")
        if path.name.rpartition(".")[2].isdecimal()
    ]
    older = [path for _, path in sorted(rotated, reverse=True)]
    return [*older, log] if log.exists() else older


def _read(file: Path) -> Iterator[str]:
    with file.open("r", encoding="utf-8", errors="replace") as stream:
        for line in stream:
            yield line.rstrip("\n")[:_LINE_MAX]


def _fields(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except UNREADABLE:
        return None


def _show_if(line: str, wanted: Wanted, session: Session) -> str | None:
    fields = _fields(line)
    if not line or not wanted.fits(line, fields) or (session.json and fields is None):
        return None
    return line


def _print(line: str, session: Session) -> None:
    if session.json:
        print(line)
        return
    fields = _fields(line)
    print(human(fields) if fields is not None else _plain(line))


def print_fields(fields: dict[str, Any], session: Session) -> None:
    """Print a line that was read: as JSON, or for people."""
    print(msgspec.json.encode(fields).decode() if session.json else human(fields))


def human(fields: dict[str, Any]) -> str:
    """One line for people: time, level, part, event, then the rest."""
    rest = dict(fields)
    ts, level = str(rest.pop("ts", ""))[:23], str(rest.pop("level", ""))
    room, event = str(rest.pop("room", "")), str(rest.pop("event", ""))
    tail = " ".join(f"{name}={value}" for name, value in rest.items())
    return _plain(f"{ts} {level.upper()[:4]:<4} {room:<9} {event}  {tail}".rstrip())


def _plain(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


def _follow(log: Path, wanted: Wanted, session: Session) -> None:
    """Print lines as they come, through rotations, until Ctrl-C or the end of --timeout."""
    sys.stdout.flush()
    begun, from_end = time.monotonic(), True
    while not _is_over(session, begun):
        if not log.exists():
            pause()
            continue
        with log.open("r", encoding="utf-8", errors="replace") as stream:
            if from_end:
                stream.seek(0, os.SEEK_END)
            from_end, rest = False, ""
            while not _is_over(session, begun):
                more = stream.read(_LINE_MAX)
                *whole, rest = (rest + more).split("\n")
                for line in whole:
                    if _show_if(line, wanted, session) is not None:
                        _print(line, session)
                sys.stdout.flush()
                if not more:
                    if _is_another(stream.fileno(), log):
                        break
                    pause()


def _is_over(session: Session, begun: float) -> bool:
    return session.limit_s is not None and time.monotonic() - begun > session.limit_s


def _is_another(descriptor: int, log: Path) -> bool:
    """Whether the name means another file now, or one that was cut."""
    try:
        now = log.stat()
    except FileNotFoundError:
        return False
    old = os.fstat(descriptor)
    return (now.st_dev, now.st_ino) != (old.st_dev, old.st_ino) or now.st_size < os.lseek(
        descriptor, 0, os.SEEK_CUR
    )
