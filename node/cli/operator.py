"""`prsm validator`: what asks before it signs; the rest is generated from the method table.

Knows: which orders move money. Must not know: what an epoch is made of.
"""

import click

from prsm.node.cli.costs import answer_cost, dry_run_option
from prsm.node.cli.from_spec import make_group
from prsm.node.cli.session import Session, pass_session
from prsm.protocol.ids import format_ftns, parse_ftns


@click.command("join")
@click.argument("stake")
@dry_run_option
@pass_session
def join(session: Session, stake: str, *, dry_run: bool) -> None:
    """Bond STAKE FTNS, such as 1000, and ask for a place among the validators.

    The operator's key signs (prsm wallet unlock operator), and its account pays: send to it first.
    """
    micro = parse_ftns(stake)
    if dry_run:
        answer_cost(session, "bond of the operator's account", micro)
        return
    session.confirm(f"bond {format_ftns(micro)} FTNS of the operator's account?")
    session.answer(session.call("validator_join", {"stake": str(micro)}))
    session.note("see when it weighs with: prsm validator show")


@click.command("stake")
@click.argument("stake")
@dry_run_option
@pass_session
def stake(session: Session, stake: str, *, dry_run: bool) -> None:
    """Weigh STAKE FTNS from now on: more is bonded at once, less comes back after unbonding."""
    micro = parse_ftns(stake)
    if dry_run:
        answer_cost(session, "weigh so much from the next epoch", micro)
        return
    session.confirm(f"weigh {format_ftns(micro)} FTNS?")
    session.answer(session.call("validator_setStake", {"stake": str(micro)}))
    session.note("see when it weighs with: prsm validator show")


@click.command("leave")
@pass_session
def leave(session: Session) -> None:
    """Ask to weigh nothing; the node must go on until `prsm validator show` says `gone`."""
    session.confirm("leave the validators?")
    session.answer(session.call("validator_leave", {}))
    session.note("keep the node running until `prsm validator show` says: gone")


validator = make_group("validator", "The stake of this node's operator.", (join, stake, leave))
