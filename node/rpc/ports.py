"""Who holds a TCP port of this machine, so that "address in use" can name it.

Asks the holder's `/livez` first, since another node of ours is the usual case; else names its
process.

Knows: HTTP, listeners. Must not know: who wanted the port. Blocks up to a second: call it in a
thread.
"""

from typing import Final

import msgspec

from prsm.node.listeners import command_of, find_listener
from prsm.node.rpc.client import Client, Target
from prsm.protocol.errors import PrsmError
from prsm.protocol.jsontext import UNREADABLE

_ASK_TIMEOUT_S: Final = 1.0


class Alive(msgspec.Struct, frozen=True):
    """What `/livez` of a node says about it."""

    service: str
    version: str
    name: str
    pid: int


def describe_holder(host: str, port: int) -> str:
    """Say in a few words who listens there: a node by name, a program by pid, or unknown."""
    alive = ask_alive(host, port)
    if alive is not None:
        return f"the PRSM node {alive.name!r}, process {alive.pid}"
    pid = find_listener(port)
    if pid is None:
        return "another program (its process is not visible to this user)"
    return f"{command_of(pid)!r}, process {pid}"


def ask_alive(host: str, port: int) -> Alive | None:
    """What a node there says about itself; None if no node of ours answers."""
    try:
        with Client(Target(None, (host, port), None), timeout_s=_ASK_TIMEOUT_S) as client:
            status, body = client.get("/livez")
        alive = msgspec.json.decode(body, type=Alive)
    except (PrsmError, *UNREADABLE):
        return None
    return alive if status == 200 and alive.service == "prsm" else None
