"""`python -m prsm.node.mcp`: serve one client over standard input and output, then end.

The node is found and the token read as by every command of `prsm`. Knows: arguments. Must not
know: tools.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from prsm.node.home import Home, default_home
from prsm.node.mcp.budget import Budget
from prsm.node.mcp.calls import Node
from prsm.node.mcp.server import make_server
from prsm.node.mcp.tools import Tools
from prsm.node.rpc.target import find, read_credentials
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import parse_ftns


def main(arguments: Sequence[str]) -> int:
    """Serve until standard input ends; returns the exit code."""
    parser = argparse.ArgumentParser(prog="prsm mcp")
    parser.add_argument("--home", type=Path, default=None, help="the node's folder")
    parser.add_argument("--node", default="", help="another node: http://127.0.0.1:PORT")
    for name in ("--token-file", "--sign-key", "--ca-file"):
        parser.add_argument(name, default="", metavar="FILE", help="as of every command of prsm")
    parser.add_argument("--budget", metavar="FTNS", help="tools lock at most this much in all")
    options = parser.parse_args(arguments)
    try:
        budget = None if options.budget is None else Budget(parse_ftns(options.budget))
        shown = read_credentials(
            os.environ,
            token_file=options.token_file,
            sign_key=options.sign_key,
            ca_file=options.ca_file,
        )
    except LocalError as error:
        parser.error(error.what)
    home = Home(options.home) if options.home else default_home(os.environ)
    place = options.node or os.environ.get("PRSM_NODE", "")
    node = Node(partial(find, home, node=place, shown=shown))
    tools = Tools(node, home.genesis, budget)
    make_server(tools).run("stdio")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
