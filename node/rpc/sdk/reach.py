"""What both clients know before their first call: which node, what it is shown, how patient to be.

Knows: the environment, habits. Must not know: how a call travels.
"""

import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from prsm.node.home import Home, default_home
from prsm.node.rpc.faults import fault_here
from prsm.node.rpc.sdk.flows import Habits, Retries
from prsm.node.rpc.target import Credentials, Target, find, read_credentials
from prsm.protocol.errors import PrsmError

KEPT_MAX: Final = 8  # connections a client keeps open between calls


class Reach(NamedTuple):
    """Where a client's node is, and how it is called.

    Attributes:
        home: the node's folder.
        node: an address instead of the one its endpoint file names; "" for that.
        shown: what to show instead of the cookie; None: what the environment says.
        habits: what flows are made with.
    """

    home: Home
    node: str
    shown: Credentials | None
    habits: Habits

    @property
    def target(self) -> Target:
        """Where the node answers now, and what it is shown.

        Raises:
            RpcError: node_unreachable, home_missing, or bad_credentials.
        """
        try:
            given = read_credentials(os.environ) if self.shown is None else self.shown
            return find(self.home, node=self.node, shown=given)
        except PrsmError as error:
            raise fault_here(error) from error


def reach(
    home: str | Path | None,
    *,
    node: str,
    shown: Credentials | None,
    timeout_s: float | None,
    retries: Retries | None,
) -> Reach:
    """What was named, else what the environment says.

    Raises:
        RpcError: node_unreachable or home_missing, if no node runs there.
    """
    folder = default_home(os.environ) if home is None else Home(Path(home).absolute())
    address = node or os.environ.get("PRSM_NODE", "")
    found = Reach(folder, address, shown, habits_of(timeout_s, retries))
    found.target  # noqa: B018 - says at once if nothing runs there
    return found


def habits_of(timeout_s: float | None, retries: Retries | None) -> Habits:
    """Those of a client on this machine."""
    return Habits(retries or Retries(), timeout_s, time.monotonic, _dice, _key)


def _dice() -> float:
    return int.from_bytes(os.urandom(4), "big") / 2**32


def _key() -> str:
    return os.urandom(16).hex()
