"""`prsm mcp`: another program takes over the process and speaks on its standard input and output.

Knows: its name, and that its library is an extra. Must not know: its tools; it is not imported.
"""

import os
import sys
from importlib.util import find_spec

import click

from prsm.node.cli.session import Session, pass_session
from prsm.protocol.errors import Unsupported
from prsm.protocol.ids import parse_ftns


@click.command("mcp")
@click.option("--budget", metavar="FTNS", help="Tools lock at most this much in all; else none.")
@pass_session
def mcp(session: Session, budget: str | None) -> None:
    """Serve this node's models, quotes, work and receipts as tools of the Model Context Protocol.

    A client starts it and speaks on its standard input and output. Without --budget it locks
    nothing, unless the token it is given has a limit of its own. The ledger's fees come beside a
    budget, also of work without a price; a token's limit counts them.
    """
    if find_spec("mcp") is None:
        raise Unsupported("the package mcp is not installed", hint="pip install mcp")
    words = ["--home", str(session.home.root)]
    given = click.get_current_context().find_root().params
    for name in ("node", "token_file", "sign_key", "ca_file"):
        if given.get(name):
            words += ["--" + name.replace("_", "-"), str(given[name])]
    if budget is not None:
        parse_ftns(budget)  # refused here, in three lines
        words += ["--budget", budget]
    command = [sys.executable, "-m", "prsm.node.mcp", *words]
    os.execv(command[0], command)  # noqa: S606 - our own program, no shell
