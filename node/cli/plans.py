"""`prsm plan`: a plan from a file, run and waited for.

Knows: the form of the file, the methods. Must not know: how a plan is run.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.costs import answer_cost, dry_run_option, max_price_option, refuse_above
from prsm.node.cli.failures import Usage
from prsm.node.cli.from_spec import make_group
from prsm.node.cli.session import Session, pass_session
from prsm.protocol.ids import parse_ftns

_FILE_BYTES_MAX: Final = 16 * 1024 * 1024
_DIGITS_MAX: Final = 20  # of an amount: what is longer is more than there is
_WAIT_MS: Final = 500  # between two looks at the steps
_EXAMPLE: Final = 'budget = "100000"\n[[steps]]\nid = "read"\nkind = "embed"\n…'


@click.command("run")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--budget", metavar="FTNS", help="For all steps; goes before the file's.")
@click.option("--no-wait", is_flag=True, help="Answer with the plan at once.")
@dry_run_option
@max_price_option
@pass_session
def plan_run(
    session: Session,
    /,
    *,
    file: Path,
    budget: str | None,
    no_wait: bool,
    dry_run: bool,
    max_price: str | None,
) -> None:
    """Run the plan of FILE, TOML or JSON: steps that embed, search and infer.

    Calls job_submit. Steps that are done are kept by their CIDs; a node that is stopped or killed
    goes on with the plan when it starts again.
    """
    document = read_plan(file)
    if budget is not None:
        document["budget"] = str(parse_ftns(budget))
    amount = _budget(document)
    refuse_above(amount, max_price)
    if dry_run:
        steps = len(document.get("steps") or ())
        answer_cost(session, f"run {steps} steps, within the budget", amount)
        return
    plan = session.ask("job_submit", document)
    plan_id = str(plan["plan_id"])
    if no_wait:
        session.answer_value(plan)
        session.note(f"look at it with: prsm plan show {plan_id}")
        return
    plan = _follow(session, plan)
    if plan["state"] != "done":
        session.answer_value(plan)
        click.get_current_context().exit(1)
    session.answer(session.call("plan_getResult", {"plan_id": plan_id}))
    session.note(f"other steps: prsm plan result {plan_id} STEP")


def _budget(document: dict[str, Any]) -> int:
    """What the plan may lock: a file says it as the call does.

    Raises:
        Usage: it is no whole number.
    """
    text = str(document.get("budget", "0"))
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX):
        raise Usage(
            f"budget = {text[:60]!r} is no whole number of micro-FTNS, as a file says it",
            hint="in FTNS: --budget 0.5",
        )
    return int(text)


def read_plan(file: Path) -> dict[str, Any]:
    """The document of a plan.

    Raises:
        Usage: no such file, or neither TOML nor JSON.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise Usage(f"{file} cannot be read: {error.strerror}", hint="name a file") from error
    if len(raw) > _FILE_BYTES_MAX:
        raise Usage(f"{file} is larger than {_FILE_BYTES_MAX} bytes", hint="run it in parts")
    try:
        if file.suffix == ".toml":
            return tomllib.loads(raw.decode())
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (tomllib.TOMLDecodeError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Usage(f"{file} is no plan: {error}", hint=f"write: {_EXAMPLE}") from error


def _follow(session: Session, plan: dict[str, Any]) -> dict[str, Any]:
    seen: dict[str, str] = {}
    while True:
        for step in plan["steps"]:
            if seen.get(step["id"]) != step["state"]:
                seen[step["id"]] = step["state"]
                if not session.quiet and sys.stderr.isatty():
                    click.echo(f"{step['id']}: {step['state']}", err=True)
        if plan["is_over"]:
            return plan
        ask = {"plan_id": plan["plan_id"], "wait_ms": _WAIT_MS}
        try:
            plan = session.ask("plan_get", ask)
        except KeyboardInterrupt:
            click.echo(f"\nthe plan goes on: prsm plan show {plan['plan_id']}", err=True)
            raise


plan = make_group("plan", "Small graphs of work under one escrow.", (plan_run,))
