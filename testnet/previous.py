"""`python -m prsm.testnet.previous --home DIR`: a daemon that knows one schema less on the wire.

The product's own daemon with a table without the newest messages, whose hello names the schema
before this one, judged as programs of that schema judge: those of the first take no other number.
For networks of two versions where no older program is at hand; a real one is the better test.
"""

import functools
import sys
from typing import Final

from prsm.node import daemon
from prsm.node.net import handshake
from prsm.node.process import main
from prsm.protocol.messages import table
from prsm.protocol.messages.net import SCHEMA_VERSION, Hello

SCHEMA: Final = SCHEMA_VERSION - 1


def forget() -> None:
    """Make this process one of the schema before; for a process of its own."""
    identity = functools.partial(handshake.ChainIdentity, schema=SCHEMA, agent="prsm/previous")
    setattr(daemon, "ChainIdentity", lambda *chain, **_rest: identity(*chain))  # noqa: B010 - patched
    for number in dict(table.MESSAGES.items()):
        if table.since(number) > SCHEMA:
            # Its number is still known to who would send it: the link's schema keeps it here.
            del table.MESSAGES._classes[number]  # noqa: SLF001 - patched
    if SCHEMA <= handshake.STRICT_SCHEMA:
        setattr(handshake, "_are_neighbours", _are_equal)  # noqa: B010 - patched


def _are_equal(ours: Hello, theirs: Hello) -> bool:
    return ours.schema == theirs.schema


if __name__ == "__main__":
    forget()
    sys.exit(main(sys.argv[1:]))
