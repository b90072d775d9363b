"""`prsm doctor` and `prsm upgrade`: what is wrong, and whether this version fits the folder.

Knows: the checks' form, the methods whose answers they read. Must not know: any check.
"""

import contextlib
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.render import show_fields, show_table
from prsm.node.cli.session import Session, pass_session
from prsm.node.doctor import Finding, examine, mend
from prsm.node.home import SCHEMA_VERSION
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.reasons import Exit
from prsm.node.version import VERSION
from prsm.protocol.errors import PrsmError

ASKED: Final = ("node_getStatus", "net_getPeers")
_ANSWER_S: Final = 3.0  # a node that hangs is itself a finding


@click.command("doctor")
@click.option("--fix", is_flag=True, help="Repair what needs no choice.")
@click.option("--all", "every", is_flag=True, help="Show also what is well.")
@pass_session
def doctor(session: Session, *, fix: bool, every: bool) -> None:
    """Look for what is wrong with the folder, the machine and the node, and say what to type.

    Works with the node running or not; changes nothing without --fix. Ends with 1 if a fault is
    left.
    """
    findings, mended = look(session), list[dict[str, str]]()
    if fix:
        for finding in findings:
            if finding.can_fix:
                done = mend(finding, session.home)
                mended.append({"number": finding.number, "done": done})
        findings = look(session)
    rows: list[dict[str, Any]] = [msgspec.to_builtins(finding) for finding in findings]
    counts = {level: sum(row["level"] == level for row in rows) for level in ("fault", "warning")}
    document = {"faults": counts["fault"], "warnings": counts["warning"]}
    session.answer_value(
        {**document, "mended": mended, "items": rows}, lambda shown: _show(shown, every=every)
    )
    if counts["fault"]:
        click.get_current_context().exit(int(Exit.FAILED))


def look(session: Session) -> tuple[Finding, ...]:
    """All findings, with what the running node answers."""
    answers: dict[str, dict[str, Any]] = {}
    session.is_patient, session.timeout_s = False, min(session.timeout_s, _ANSWER_S)
    with contextlib.suppress(PrsmError, RpcError):
        for method in ASKED:
            answers[method] = session.ask(method)
    return examine(session.home, answers=answers)


def _show(document: dict[str, Any], *, every: bool) -> None:
    for done in document["mended"]:
        print(f"{done['number']}  {done['done']}")
    rows = [row for row in document["items"] if every or row["level"] != "ok"]
    if rows:
        show_table([{k: v for k, v in row.items() if k != "can_fix"} for row in rows])
    else:
        print(f"{len(document['items'])} checks, all well")


@click.command("upgrade")
@click.option("--check", "only", is_flag=True, required=True, help="Say whether it can be done.")
@pass_session
def upgrade(session: Session, *, only: bool) -> None:
    """Whether this version can take the folder over, and what runs in another version.

    Nothing is downloaded and nobody outside is asked: the newest version heard of is that of the
    node's peers. To upgrade: prsm backup FILE, install the new version, prsm restart.
    """
    del only  # the only form there is; the option says that nothing is changed
    session.is_patient = False
    findings = {finding.number: finding for finding in examine(session.home)}
    node, agents = None, list[str]()
    with contextlib.suppress(PrsmError, RpcError):
        node = session.ask("node_getStatus")["version"]
        agents = [str(peer["agent"]) for peer in session.ask("net_getPeers")["items"]]
    version = session.home.version
    schema = version.read_text(encoding="ascii").strip() if version.exists() else None
    newer = sorted({agent for agent in agents if _number(agent) > _number(VERSION)})
    blocking = [
        findings[number].what
        for number in ("D-01", "D-05", "D-06")
        if number in findings and findings[number].level == "fault"
    ]
    document = {
        "installed": VERSION,
        "running": node,
        "schema": schema,
        "schema_of_this_version": SCHEMA_VERSION,
        "newer_peers": newer,
        "restart_needed": node is not None and node != VERSION,
        "ready": not blocking,
        "blocking": blocking,
    }
    session.answer_value(document, show_fields)
    if document["restart_needed"]:
        session.note("the node still runs the other version: prsm restart")
    if newer:
        session.note("a peer runs a newer version: prsm backup FILE, then install that version")
    if blocking:
        click.get_current_context().exit(int(Exit.FAILED))


def _number(agent: str) -> tuple[int, ...]:
    """`prsm/0.2.1` or `0.2.1` as numbers; empty if it is none."""
    parts = agent.rpartition("/")[2].split(".")
    return tuple(int(part) for part in parts if part.isdecimal())
