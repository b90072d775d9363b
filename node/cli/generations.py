"""`prsm generation trace | end`: one text that a model goes on with.

Knows: the methods of generations. Must not know: how tokens are made.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from prsm.node.cli.bars import PEER_CHARS, Bar, lines_of, show_steps
from prsm.node.cli.from_spec import make_command, make_group
from prsm.node.cli.session import Session
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Method

_HOME = "home"  # what `peer` says of a stage that this node does


def _trace(session: Session, method: Method, given: dict[str, object]) -> None:
    session.answer(session.call(method.name, given), show_trace)


def show_trace(trace: Mapping[str, Any]) -> None:
    """Print a generation's steps: bars below one another on a terminal, a table on a pipe."""
    show_steps(trace["steps"], partial(waterfall, trace))


def waterfall(trace: Mapping[str, Any], wide: int) -> Iterator[str]:
    """The steps of a generation as lines of text.

    Args:
        trace: as `infer_getTrace` answers it.
        wide: characters of a line.
    """
    head = f"generation {trace['generation_id'][:10]}..  {trace['state']}"
    steps = trace["steps"]
    asked = {(step["stage"], step["peer"]) for step in steps if step["step"] == "work"}
    yield from lines_of(head, [_bar(step, asked) for step in steps], wide)
    for job in trace["jobs"]:
        yield f"paid as the job {job}"


def _bar(step: Mapping[str, Any], asked: set[tuple[int, str]]) -> Bar:
    # Of a worker that was lost both its steps say why; it is shown with the last.
    is_last = step["step"] == "work" or (step["stage"], step["peer"]) not in asked
    why = step["why"] if is_last else ""
    return Bar(_label(step), step["began_ms"], step["ended_ms"], "lost" if why else "", why)


def _label(step: Mapping[str, Any]) -> str:
    if step["stage"] is None:
        return str(step["step"])
    who = step["peer"] if step["peer"] == _HOME else step["peer"][-PEER_CHARS:]
    return f"  stage {step['stage']} {who} {step['step']}"


generation = make_group(
    "generation",
    "Texts that a model goes on with.",
    (make_command(METHODS["infer_getTrace"], run=_trace),),
)
