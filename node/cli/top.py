"""`prsm top`: the node as it works, drawn again and again.

Knows: the methods it asks, rich. Must not know: how they are answered.
"""

import contextlib
import select
from collections.abc import Mapping
from typing import Any, Final

import click

from prsm.node.cli.progress import printable
from prsm.node.cli.readable import coarse
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.words import Number
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable
from prsm.protocol.ids import format_ftns

ASKED: Final = ("node_getStatus", "net_getPeers", "job_list", "task_list")
_ROWS: Final = 12


@click.command("top")
@click.option("--once", is_flag=True, help="One picture, and the end.")
@click.option("--every", type=Number(0.2, 60), default=1.0, help="Seconds.")
@pass_session
def top(session: Session, *, once: bool, every: float) -> None:
    """Height, peers, jobs and tasks, drawn again each second until Ctrl-C.

    With --json, or not on a terminal, one document.
    """
    import sys

    if session.json or once or not sys.stdout.isatty():
        session.answer_value(_look(session), _print_once)
        return
    from rich.live import Live

    live = Live(_drawn(_look(session)), screen=True, auto_refresh=False)
    with contextlib.suppress(KeyboardInterrupt), live:
        while True:
            select.select((), (), (), every)
            try:
                live.update(_drawn(_look(session)), refresh=True)
            except (NodeUnreachable, CallTimeout, RpcError) as error:
                live.update(_gone(str(error)), refresh=True)
                session.close()


def _look(session: Session) -> dict[str, Any]:
    """What the node answers now, by what it is called on the screen."""
    answers = {method: session.ask(method) for method in ASKED}
    jobs = answers["job_list"]["items"]
    return {
        "status": answers["node_getStatus"],
        "peers": answers["net_getPeers"]["items"],
        "jobs": jobs,
        "tasks": answers["task_list"]["items"],
        "jobs_done": sum(job["state"] == "done" for job in jobs),
        "jobs_failed": sum(job["state"] == "failed" for job in jobs),
    }


def _lines(seen: Mapping[str, Any]) -> list[tuple[str, str]]:
    status = seen["status"]
    jobs = (status["jobs_running"], seen["jobs_done"], seen["jobs_failed"])
    return [
        (
            "node",
            f"{status['name']}  {status['state']}  up {coarse(int(status['uptime_ms']) // 1_000)}",
        ),
        ("network", f"{status['network']}{' (development)' if status['development'] else ''}"),
        ("height", f"{status['height']}  {status['head_time'] or ''}"),
        ("peers", str(status["peers"])),
        ("jobs", "{} running, {} done, {} failed".format(*jobs)),
        ("memory", f"{int(status['rss_bytes']) / 2**20:.0f} MiB"),
        ("wallet", "open" if status["wallet_unlocked"] else "locked"),
    ]


def _print_once(seen: dict[str, Any]) -> None:
    for name, text in _lines(seen):
        print(f"{name}\t{printable(text)}")


def _drawn(seen: Mapping[str, Any]) -> Any:  # noqa: ANN401 - rich is loaded late
    from rich.console import Group
    from rich.text import Text

    head = Text("\n".join(f"{name:<8} {printable(text)}" for name, text in _lines(seen)))
    peers = _table(
        "peers",
        ("peer", "address", "way", "ms", "agent"),
        [
            (p["peer_id"][-8:], p["address"], p["direction"], _or_dash(p["rtt_ms"]), p["agent"])
            for p in seen["peers"]
        ],
    )
    jobs = _table(
        "jobs, newest first",
        ("job", "state", "rows", "stages", "ms", "paid"),
        [
            (
                j["job_id"][:12],
                j["state"],
                f"{j['rows_done']}/{j['rows']}",
                j["stages"],
                j["run_ms"],
                format_ftns(int(j["paid"])),
            )
            for j in seen["jobs"]
        ],
    )
    tasks = _table(
        "tasks",
        ("task", "subject", "state", "done"),
        [(t["task_id"], t["subject"], t["state"], _share(t)) for t in seen["tasks"]],
    )
    return Group(head, Text(), peers, jobs, tasks)


def _table(title: str, names: tuple[str, ...], rows: list[tuple[object, ...]]) -> Any:  # noqa: ANN401 - as above
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    for row in rows[:_ROWS]:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    if len(rows) > _ROWS:
        table.add_row(f"… {len(rows) - _ROWS} more")
    return table


def _gone(why: str) -> Any:  # noqa: ANN401 - as above
    from rich.text import Text

    return Text(f"no answer: {printable(why)}\nasking again; Ctrl-C ends this")


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _share(task: Mapping[str, Any]) -> str:
    size = int(task["size_bytes"])
    return f"{100 * int(task['done_bytes']) // size} %" if size else "-"
