"""Long work as people and programs see it: bars on a terminal, JSON lines, or nothing.

Everything goes to standard error. Numbers are the node's (`TaskInfo`): verified bytes, rate, time
left, and `stalled` once nothing has moved for ten seconds. Ctrl-C ends the looking, not the work.

Knows: task_get, rich. Must not know: what a task does.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.readable import coarse
from prsm.node.cli.session import Session
from prsm.node.rpc.faults import fault_told

WAIT_MS: Final = 250  # one look at a task holds the connection so long


Show = Callable[[Mapping[str, Any]], None]  # takes the latest word about a task


def follow(session: Session, task: dict[str, Any], *, cancel: bool = False) -> dict[str, Any]:
    """Show a task until it is over; returns its last word.

    Args:
        session: where to ask.
        task: as it was started.
        cancel: Ctrl-C ends the task too, not only the looking.

    Raises:
        RpcError: the task failed or was ended; with its reason.
        KeyboardInterrupt: a person has seen enough.
    """
    name = str(task["task_id"])
    try:
        with shown_by(session) as show:
            show(task)
            while task["state"] == "running":
                task = session.ask("task_get", {"task_id": name, "wait_ms": WAIT_MS})
                show(task)
    except KeyboardInterrupt:
        if cancel:
            session.ask("task_cancel", {"task_id": name})
            session.note(f"\n{name} is ended; what is verified stays")
        else:
            session.note(f"\n{name} goes on; look at it with: prsm task watch {name}")
        raise
    if task["state"] != "done":
        fault = task.get("error") or {}
        what = str(fault.get("what") or f"{name} ended as {task['state']}")
        reason = str(fault.get("reason") or "internal")
        raise fault_told(reason, what, hint=str(fault.get("hint") or ""))
    return task


@contextmanager
def shown_by(session: Session) -> Iterator[Show]:
    """What `--progress` asks for; `auto` is bars on a terminal, else nothing."""
    is_terminal = sys.stderr.isatty() and not session.quiet
    if session.progress == "json":
        yield JsonLines().show
    elif session.progress == "auto" and is_terminal:
        with bars() as show:
            yield show
    else:
        yield lambda _task: None


class JsonLines:
    """One JSON object a line: each changed word of a task, as `task_get` gives it."""

    def __init__(self) -> None:
        self._last: Mapping[str, Any] | None = None

    def show(self, task: Mapping[str, Any]) -> None:
        """Write a line, unless nothing has changed."""
        if task != self._last:
            self._last = dict(task)
            click.echo(msgspec.json.encode(task).decode(), err=True)


@contextmanager
def bars() -> Iterator[Show]:
    """A bar with bytes, rate and time left; ASCII where the terminal is a poor one."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True, highlight=False)) as drawn:
        bar = drawn.add_task("", total=None, words="")

        def show(task: Mapping[str, Any]) -> None:
            drawn.update(
                bar,
                description=printable(f"{task['kind']} {task['subject']}"),
                total=int(task["size_bytes"]) or None,
                completed=int(task["done_bytes"]),
                words=words_of(task),
            )

        yield show


def words_of(task: Mapping[str, Any]) -> str:
    """What stands beside the bar: `12.0 MiB/s, 3 s left`, `stalled 14 s`, or how it ended."""
    if task["state"] != "running":
        return str(task["state"])
    if task["stalled_ms"]:
        return f"stalled {int(task['stalled_ms']) // 1000} s"
    rate = int(task["rate_bytes_per_s"])
    if not rate:
        return "waiting"
    left = task["eta_ms"]
    words = f"{rate / 2**20:.1f} MiB/s"
    return words if left is None else f"{words}, {coarse(-(-int(left) // 1000))} left"


def printable(text: str) -> str:
    """Text of a peer without control characters."""
    return text if text.isprintable() else ascii(text)[1:-1]
