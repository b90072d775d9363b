"""`prsm consensus unsafe-resume`: a validator that became an observer signs again.

Knows: how the operator is asked, twice. Must not know: log, guard, rooms of the daemon; the work
is done by `python -m prsm.node.archive` on the files of the stopped home.
"""

import sys

import click

from prsm.node.cli.archive import run_archive
from prsm.node.cli.from_spec import make_group
from prsm.node.cli.session import Session, pass_session

_WARNING = (
    "If this key signed anything at that height or above, on this machine or another one, it can\n"
    "be shown to have signed twice, and its stake is slashed. Stop every other copy of it first."
)


@click.command("unsafe-resume")
@click.option(
    "--height", type=click.IntRange(1), required=True, help="The first height it may sign at."
)
@click.option("--yes-height", type=int, help="The same height again, instead of the question.")
@pass_session
def unsafe_resume(session: Session, height: int, yes_height: int | None) -> None:
    """Let this stopped validator sign again from a height on, though it forgot what it signed.

    Its log and guard are kept aside and begun afresh; what was done stands in a document in the
    home's data folder. `--yes` is no answer here.
    """
    if yes_height is None:
        if not sys.stdin.isatty():
            raise click.UsageError("this asks for the height again; add --yes-height HEIGHT")
        click.echo(_WARNING, err=True)
        yes_height = click.prompt("The first height it may sign at, again", type=int, err=True)
    if yes_height != height:
        raise click.UsageError(f"the heights differ: {height} and {yes_height}")
    session.answer(run_archive(session, ["resume", "--height", str(height)]))
    session.note("start it with: prsm start")


consensus = make_group("consensus", "Votes of this validator.", (unsafe_resume,))
