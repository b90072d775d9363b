"""`prsm job wait | trace | retry | logs`: one job, from its begin to its end.

Knows: the methods of jobs, log files. Must not know: how a job is done.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from prsm.node.cli import loglines
from prsm.node.cli.bars import PEER_CHARS, Bar, lines_of, show_steps
from prsm.node.cli.from_spec import make_command, make_group
from prsm.node.cli.outputs import OUT_FILE
from prsm.node.cli.readable import cell
from prsm.node.cli.session import Session, pass_session
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Method
from prsm.storage.errors import NotFound


@click.command("wait")
@click.argument("job_id")
@click.option(
    "--proof", type=OUT_FILE, metavar="FILE", help="Write the receipt here, and check it."
)
@pass_session
def job_wait(session: Session, job_id: str, proof: Path | None) -> None:
    """Wait until a job is over, and answer with its outputs; Ctrl-C ends the waiting alone."""
    from prsm.node.cli.verbs import finish, wait_job

    job = session.ask("job_get", {"job_id": session.whole("job_id", job_id)})
    finish(session, wait_job(session, job), proof)


@click.command("logs")
@click.argument("job_id")
@click.option("--level", type=click.Choice(loglines.LEVELS), default="debug", help="The least.")
@pass_session
def job_logs(session: Session, job_id: str, level: str) -> None:
    """What was written about a job: by this node, and by the labs that `init --dev` made.

    Read from the log files, so that it works when the node does not run; the first characters of
    the id are enough. With --json one object a line.
    """
    from prsm.node.cli import labs

    home = session.home
    home.check()
    wanted = loglines.Wanted(level=level, job=job_id)
    found: list[dict[str, Any]] = []
    for each in (home, *labs.found(home)):
        place = {} if each is home else {"lab": each.root.name}
        found += ({**line, **place} for line in loglines.lines_of(each, wanted))
    if not session.json:
        found = [{name: one for name, one in line.items() if name != "job"} for line in found]
    if not found:
        raise NotFound(
            f"no line of job {job_id[:18]} in {home.logs}",
            hint=f"its steps: prsm job trace {job_id[:18]}; all jobs: prsm job ls",
        )
    for line in sorted(found, key=lambda line: str(line.get("ts", ""))):
        loglines.print_fields(line, session)


def _trace(session: Session, method: Method, given: dict[str, object]) -> None:
    session.answer(session.call(method.name, given), show_trace)


def _retry(session: Session, method: Method, given: dict[str, object]) -> None:
    raw = session.call(method.name, given)
    session.answer(raw)
    job = msgspec.json.decode(raw, type=dict[str, Any])
    session.note(f"follow it with: prsm job wait {job['job_id']}")


def show_trace(trace: Mapping[str, Any]) -> None:
    """Print a job's steps: bars below one another on a terminal, a table on a pipe."""
    show_steps(list(map(_row, trace["steps"])), partial(waterfall, trace))


def waterfall(trace: Mapping[str, Any], wide: int) -> Iterator[str]:
    """The steps of a job as lines of text, each with a bar from its begin to its end.

    Args:
        trace: as `job_getTrace` answers it.
        wide: characters of a line.
    """
    head = f"job {trace['job_id'][:10]}..  {trace['state']}  {trace['created']}"
    yield from lines_of(head, list(map(_bar, trace["steps"])), wide)
    if trace.get("error"):
        yield cell("error", f"{trace['error']['reason']}: {trace['error']['what']}")


def _bar(step: Mapping[str, Any]) -> Bar:
    row = _row(step)
    verdict = row["verdict"] if row["verdict"] in {"lost", "outvoted"} else ""
    why = row["why"] if verdict and step["step"] == "work" else ""
    return Bar(_label(row), step["began_ms"], step["ended_ms"], verdict, why or "")


def _row(step: Mapping[str, Any]) -> dict[str, Any]:
    worker = step.get("worker") or {}
    named = {name: step.get(name) for name in ("step", "unit", "stage", "attempt")}
    told = {name: worker.get(name) for name in ("role", "peer_id", "batches", "verdict", "why")}
    return {**named, **told, "began_ms": step["began_ms"], "ended_ms": step["ended_ms"]}


def _label(row: Mapping[str, Any]) -> str:
    if row["unit"] is None:
        return row["step"] if row["stage"] is None else f"{row['step']} stage {row['stage']}"
    again = f" #{row['attempt']}" if row["attempt"] != 1 else ""
    who = f" {row['role']} {row['peer_id'][-PEER_CHARS:]}" if row["peer_id"] else ""
    return f"  unit {row['unit']} stage {row['stage']}{again}{who} {row['step']}"


job = make_group(
    "job",
    "Jobs of ours.",
    (
        *(job_wait, job_logs),
        make_command(METHODS["job_getTrace"], run=_trace),
        make_command(METHODS["job_retry"], run=_retry, without=("wait_ms",)),
    ),
)
