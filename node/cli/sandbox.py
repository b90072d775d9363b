"""`prsm sandbox`: what a worker of this machine could do, and could not.

No node is needed. Knows: the program's name and its JSON answer. Must not know: the sandbox; it is
never imported here.
"""

import subprocess
import sys
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.session import Session, pass_session
from prsm.node.rpc.reasons import Exit

_PROGRAM: Final = "prsm.node.worker.probes"
_FREE: Final = "none"


@click.command("sandbox")
@pass_session
def sandbox(session: Session) -> None:
    """Try from inside what a worker must not do: files, network, processes, memory, signals.

    Every attempt runs in a process of its own, as user nobody if root asks: first unsealed, to
    see that it can succeed at all, then as a worker that computes, then as one that prepares a
    model and may write one small file. Ends with 5 when something is open that must not be.
    """
    free, sealed, pinning = (_tried(mode) for mode in (_FREE, "sealed", "pinning"))
    probes = [
        {
            "probe": name,
            "unsealed": was,
            "computing": sealed["probes"][name],
            "preparing": pinning["probes"][name],
        }
        for name, was in free["probes"].items()
    ]
    # A preparing child may write in its own folder, and nothing else.
    allowed = {"write a file here"}
    is_open = [
        p["probe"]
        for p in probes
        if p["computing"] == "open" or (p["preparing"] == "open" and p["probe"] not in allowed)
    ]
    session.answer_value(
        {
            "layers": sealed["layers"],
            "uid": sealed["uid"],
            "seal_ms": sealed["seal_ms"],
            "open": is_open,
            "probes": probes,
        }
    )
    if is_open:
        click.get_current_context().exit(int(Exit.UNVERIFIED))


def _tried(mode: str) -> dict[str, Any]:
    command = [sys.executable, "-m", _PROGRAM, mode]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own program
    if done.returncode:
        raise click.ClickException(done.stderr.decode("utf-8", "replace").strip()[-300:])
    return msgspec.json.decode(done.stdout, type=dict[str, Any])
