"""`prsm status`: how the node is.

It is typed more often than any other command: this module imports only what it needs.

Knows: one method. Must not know: how it is answered.
"""

import time
from typing import Any

import click
import msgspec

from prsm.node.cli.render import show_fields, show_table
from prsm.node.cli.session import Session, pass_session, pause
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable


@click.command("status")
@click.option("--wait", type=click.Choice(["live", "ready"]), help="Wait until the node is.")
@pass_session
def status(session: Session, wait: str | None) -> None:
    """How the node is: version, network, height, peers, wallet."""
    deadline = time.monotonic() + session.timeout_s
    while (raw := _look(session, wait, deadline)) is None:
        session.close()
        pause()
    session.answer(raw, _show_status)


def _look(session: Session, wait: str | None, deadline: float) -> bytes | None:
    """The status if it is what was waited for; None if it is worth another look."""
    over = time.monotonic() > deadline
    try:
        raw = session.call("node_getStatus")
    except NodeUnreachable:
        if wait is None or over:
            raise
        return None
    state = msgspec.json.decode(raw, type=dict[str, Any]).get("state")
    if wait != "ready" or state == "ready":
        return raw
    if over:
        raise CallTimeout(f"the node is {state}, not ready, after {session.timeout_s:g} s")
    return None


def _show_status(document: dict[str, Any]) -> None:
    parts = document.pop("parts", [])
    if document.get("development"):
        print("development network: keys are cheap to break, money is worth nothing")
    show_fields(document)
    broken = [part for part in parts if part.get("state") != "running"]
    if broken:
        print("\nparts not running")
        show_table(broken)
