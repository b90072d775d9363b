"""`prsm model` and `prsm task`: what is shown while it runs, and what asks before it deletes.

Commands without either are generated from the method table. Knows: methods. Must not know: how
they are answered.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.building import build
from prsm.node.cli.from_spec import Run, make_command, make_group
from prsm.node.cli.progress import follow
from prsm.node.cli.session import Session, pass_session
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.reasons import Exit
from prsm.node.rpc.spec import Method

_LONG_OPTIONS: Final = (
    click.Option(["--detach"], is_flag=True, help="Answer with the task; it goes on by itself."),
    click.Option(["--cancel-on-interrupt"], is_flag=True, help="Ctrl-C ends the work as well."),
)


def as_task(start: str) -> Run:
    """Run a method as a task: started, shown, and answered with its own result.

    Args:
        start: the method that starts it and answers with the task.
    """

    def run(session: Session, method: Method, given: dict[str, object]) -> None:
        detach, cancel = bool(given.pop("detach", 0)), bool(given.pop("cancel_on_interrupt", 0))
        raw = session.call(start, given)
        if detach:
            session.answer(raw)
            session.note("look at it with: prsm task watch ID")
            return
        task = follow(session, msgspec.json.decode(raw, type=dict[str, Any]), cancel=cancel)
        answer = session.call(method.name, {**given, "task": task["task_id"]})
        session.answer(answer)
        session.note_written(answer)
        _refuse_false(msgspec.json.decode(answer, type=dict[str, Any]))

    return run


def _refuse_false(answer: Mapping[str, Any]) -> None:
    """A check that says no is an answer, and the exit code says it too."""
    if answer.get("ok") is False:
        click.get_current_context().exit(int(Exit.UNVERIFIED))


def asking(question: str) -> Run:
    """Ask before a method is called.

    Args:
        question: with the names of parameters in braces.
    """

    def run(session: Session, method: Method, given: dict[str, object]) -> None:
        session.confirm(question.format_map(given))
        raw = session.call(method.name, given)
        session.answer(raw)
        session.note_written(raw)

    return run


def collect(session: Session, method: Method, given: dict[str, object]) -> None:
    """Say what would go, ask, and remove it."""
    if not given.get("dry_run"):
        plan = session.ask(method.name, {**given, "dry_run": True})
        going = [row for row in plan["items"] if row["goes"]]
        if going:
            freed = int(plan["freed_bytes"])
            session.confirm(f"remove {len(going)} files and blocks, {freed} bytes?")
    session.answer(session.call(method.name, given))


def of_file_or_name(session: Session, method: Method, given: dict[str, object]) -> None:
    """A model is a file of this folder, if there is one of that name, else a model of the node."""
    file = Path(str(given["model"])).expanduser()
    if file.is_file():
        given["model"] = str(file.absolute())
    session.answer(session.call(method.name, given))


def make_long(name: str, start: str) -> click.Command:
    """The command of a method that is done as a task."""
    return make_command(METHODS[name], run=as_task(start), extra=_LONG_OPTIONS, without=("task",))


@click.command("watch")
@click.argument("task_id")
@pass_session
def watch(session: Session, task_id: str) -> None:
    """Show how far a task is until it ends; Ctrl-C ends the looking, not the task.

    Calls task_get.
    """
    raw = session.call("task_get", {"task_id": session.whole("task_id", task_id)})
    task = follow(session, msgspec.json.decode(raw, type=dict[str, Any]))
    session.answer(session.call("task_get", {"task_id": task["task_id"]}))


model = make_group(
    "model",
    "Add, fetch, check and keep models.",
    (
        build,
        make_long("model_add", "model_startAdd"),
        make_long("model_pull", "model_startPull"),
        make_long("model_push", "model_startPush"),
        make_long("model_verify", "model_startVerify"),
        make_long("model_evaluate", "model_startEvaluate"),
        make_command(METHODS["model_quantise"], run=of_file_or_name),
        make_command(METHODS["storage_gc"], run=collect),
        make_command(METHODS["model_remove"], run=asking("delete {ref} from this node?")),
    ),
)
task = make_group("task", "Long work of this node: pulls, checks.", (watch,))
