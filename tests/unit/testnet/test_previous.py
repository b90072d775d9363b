"""The composed older program: a process of its own, since it changes what it imports."""

import subprocess
import sys
from pathlib import Path

from prsm.node.home import Home
from prsm.testnet.previous import mark, mark_of

SAYS = """
from prsm.testnet import previous
previous.forget()
from prsm.node import daemon
from prsm.node.net.handshake import ChainIdentity, ProtocolMismatch, check
from prsm.protocol.errors import WireError
from prsm.protocol.messages.table import MESSAGES, since
ours = daemon.ChainIdentity(b"testnet1", b"g" * 32, agent="x").hello(())
newer = ChainIdentity(b"testnet1", b"g" * 32).hello(())
print(ours.schema, newer.schema, max(since(number) for number, _ in MESSAGES.items()))
try:
    check(ours, newer)
    print("may speak")
except ProtocolMismatch as error:
    print(error.reason)
try:
    MESSAGES.decode(105, b"", size_max=9)
except WireError as error:
    print(error.what)
"""


def test_it_speaks_the_schema_before_and_takes_no_other() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAYS], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines() == [
        "2 3 2",
        "may speak",
        "message 105 is unknown to this version",
    ]


def test_mark_of_a_home_comes_and_goes(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for is_older in (False, True, True, False, False):
        mark(home, is_older=is_older)
        assert mark_of(home).exists() == is_older
