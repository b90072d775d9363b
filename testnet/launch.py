"""A network of real daemons on this machine: keys, genesis, folders, ports, processes.

Knows: how a node's home is made and its process started and ended. Must not know: what the
nodes do. Everything binds to loopback; only processes started here are ended, by their pid.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from prsm.node.home import Home, write_private
from prsm.node.keys import make_keys
from prsm.node.rpc.client import Client, RpcError, find
from prsm.node.rpc.methods.node import NodeStatus
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.genesis import Allocation, Genesis, Parameters, to_json
from prsm.protocol.ids import MICRO_PER_FTNS

STAKE: Final = 1_000 * MICRO_PER_FTNS
BALANCE: Final = 10_000 * MICRO_PER_FTNS
SNAPSHOT_EVERY: Final = 100  # a test of catching up is no day long
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05
PASSWORD: Final = "development network"  # noqa: S105 - keys of a network without value
HONEST: Final = (sys.executable, "-m", "prsm.node")
LIAR: Final = (sys.executable, "-m", "prsm.testnet.liar")
SKEWED: Final = (sys.executable, "-m", "prsm.testnet.skewed")


class NodeDied(LocalError):
    """A daemon ended by itself; its last words are in the text."""

    reason = "node_died"


class NotInTime(LocalError):
    """A daemon or a network did not get where it should in time."""

    reason = "timeout"


class Described(msgspec.Struct, frozen=True):
    """One node in the network's description file."""

    name: str
    home: str
    liar: bool = False
    pid: int = 0
    port: int = 0
    has_own_clock: bool = False


class Description(msgspec.Struct, frozen=True):
    """`network.json`: what `status`, `kill` and `down` need to find the nodes again."""

    nodes: tuple[Described, ...]


@dataclass(slots=True)
class Node:
    """One daemon: its folder, and its process while it runs."""

    name: str
    home: Home
    liar: bool = False
    pid: int = 0
    port: int = 0  # where it listens to peers
    has_own_clock: bool = False  # see `skewed`

    def start(self) -> None:
        """Start the daemon in a session of its own; its output goes to its log file."""
        program = LIAR if self.liar else SKEWED if self.has_own_clock else HONEST
        append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.pid = os.posix_spawn(
            program[0],
            [*program, "--home", str(self.home.root)],
            {**os.environ, "OMP_NUM_THREADS": "1"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.home.log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )

    def client(self, *, timeout_s: float = 30.0) -> Client:
        """A connection to its JSON-RPC door."""
        return Client(find(self.home), timeout_s=timeout_s)

    def is_running(self) -> bool:
        """Is the process there? Reaps it if it was ours and has ended."""
        if not self.pid:
            return False
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == self.pid:
                return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait_ready(self, deadline: float) -> None:
        """Wait until `/readyz` says yes.

        Raises:
            NodeDied: the process ended.
            NotInTime: the deadline (`time.monotonic`) passed.
        """
        while True:
            if not self.is_running():
                raise NodeDied(f"{self.name} ended: {self.last_words()}")
            with contextlib.suppress(PrsmError, RpcError, OSError), self.client() as client:
                if client.get("/readyz")[0] == 200:
                    return
            _pause(deadline, f"{self.name} is not ready: {self.last_words()}")

    def stop(self, deadline: float) -> bool:
        """End the daemon by SIGTERM, by SIGKILL at the deadline; was SIGTERM enough?"""
        self.signal(signal.SIGTERM)
        while self.is_running():
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                deadline += STOP_SECONDS
                while self.is_running():
                    _pause(deadline, f"process {self.pid} survives SIGKILL")
                return False
            nap()
        self.pid = 0
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is there."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def last_words(self) -> str:
        """The end of its log."""
        try:
            lines = self.home.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "no log"
        return " | ".join(lines[-3:])[-600:] or "an empty log"


@dataclass(slots=True)
class Network:
    """The nodes of one genesis under one folder."""

    folder: Path
    nodes: list[Node]

    @property
    def genesis(self) -> Path:
        """The first document."""
        return self.folder / "genesis.json"

    def start_missing(self) -> None:
        """Start the nodes that do not run, and wait until all are ready.

        Raises:
            NodeDied, NotInTime: a node did not come up.
        """
        deadline = time.monotonic() + START_SECONDS
        for node in self.nodes:
            if not node.is_running():
                node.start()
        self.save()
        for node in self.nodes:
            node.wait_ready(deadline)

    def start(self) -> None:
        """Start all nodes and wait until they are ready and see one another.

        Raises:
            NodeDied, NotInTime: a node did not come up.
        """
        deadline = time.monotonic() + START_SECONDS
        for node in self.nodes:
            node.start()
        self.save()
        for node in self.nodes:
            node.wait_ready(deadline)
        for node in self.nodes:
            wait_peers(node, len(self.nodes) - 1, deadline)

    def stop(self) -> bool:
        """End all nodes that run; did SIGTERM suffice for each?"""
        deadline = time.monotonic() + STOP_SECONDS
        for node in self.nodes:
            node.signal(signal.SIGTERM)
        results = [node.stop(deadline) for node in self.nodes if node.pid]
        self.save()
        return all(results)

    def save(self) -> None:
        """Write the description file."""
        nodes = tuple(
            Described(n.name, str(n.home.root), n.liar, n.pid, n.port, n.has_own_clock)
            for n in self.nodes
        )
        write_private(self.folder / "network.json", msgspec.json.encode(Description(nodes)))


@dataclass(frozen=True, slots=True)
class Rig:
    """What a network under test or measurement has and others have not.

    Attributes:
        route: port of loopback where a node (by place) is told to find another one; by default
            where that one listens. For proxies between them.
        own_clocks: wall clocks can be set wrong while the nodes run.
        models: the nodes run models; without, each is one process of 30 MiB less.
        parameters: of the genesis; the defaults if None.
        snapshot_every: heights between two snapshots.
    """

    route: Callable[[int, int], int] | None = None
    own_clocks: bool = False
    models: bool = True
    parameters: Parameters | None = None
    snapshot_every: int = SNAPSHOT_EVERY


PLAIN: Final = Rig()


def create(
    folder: Path,
    count: int,
    *,
    liars: Sequence[int] = (),
    funded: Sequence[Allocation] = (),
    rig: Rig = PLAIN,
) -> Network:
    """Make keys, genesis and folders of `count` validators with equal stake and balance.

    Args:
        folder: empty or absent.
        count: of nodes, 1 to 32.
        liars: places (from 0) of nodes whose worker lies; in consensus they are honest.
        funded: balances of the genesis beside those of the nodes' wallets.
        rig: for tests: proxies between the nodes, clocks that are wrong.

    Raises:
        LocalError: the folder is in use, or the count is out of bounds.
    """
    if not 1 <= count <= 32:
        raise LocalError(f"{count} nodes, a network has 1 to 32 validators")
    if folder.exists() and any(folder.iterdir()):
        raise LocalError(f"{folder} is not empty", hint="choose another folder with --dir")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ports = free_ports(2 * count)
    nodes = [_node(folder, i, port=ports[i], liar=i in liars, rig=rig) for i in range(count)]
    keys = []
    for node in nodes:
        node.home.create()
        keys.append(make_keys(node.home, password=PASSWORD, development=True))
    genesis = Genesis(
        version=1,
        name="local",
        development=True,
        time_ms=time.time_ns() // 1_000_000,
        validators=tuple(key.validator(STAKE) for key in keys),
        allocations=(*(Allocation(key.wallet, BALANCE) for key in keys), *funded),
        parameters=rig.parameters or Parameters(),
    )
    document = to_json(genesis)
    route = rig.route or (lambda _dialler, dialled: ports[dialled])
    for i, node in enumerate(nodes):
        write_private(node.home.genesis, document)
        write_private(node.home.root / "password", PASSWORD.encode() + b"\n")
        others = [
            f"/ip4/127.0.0.1/tcp/{route(i, j)}/p2p/{key.peer_id}"
            for j, key in enumerate(keys)
            if j != i
        ]
        config = _config(node, rpc=ports[count + i], bootstrap=others, rig=rig)
        write_private(node.home.config, config.encode())
    write_private(folder / "genesis.json", document)
    network = Network(folder, nodes)
    network.save()
    return network


def _node(folder: Path, place: int, *, port: int, liar: bool, rig: Rig) -> Node:
    name = f"node{place + 1}"
    return Node(name, Home(folder / name), liar, port=port, has_own_clock=rig.own_clocks)


def load(folder: Path) -> Network:
    """Find a network that `create` made.

    Raises:
        LocalError: there is none.
    """
    try:
        described = msgspec.json.decode((folder / "network.json").read_bytes(), type=Description)
    except (OSError, msgspec.MsgspecError) as error:
        raise LocalError(
            f"no network in {folder}", hint="make one: prsm testnet up -n 4"
        ) from error
    return Network(
        folder,
        [
            Node(n.name, Home(Path(n.home)), n.liar, _live_pid(n), n.port, n.has_own_clock)
            for n in described.nodes
        ],
    )


def _live_pid(described: Described) -> int:
    """The pid of the description if it still is the node: the system uses pids again."""
    holder = Home(Path(described.home)).holder()
    return described.pid if holder is not None and holder.pid == described.pid else 0


def wait_peers(node: Node, count: int, deadline: float) -> None:
    """Wait until a node sees that many peers.

    Raises:
        NotInTime: the deadline passed.
    """
    while True:
        with node.client() as client:
            seen = client.call("node_getStatus", result=NodeStatus).peers
        if seen >= count:
            return
        _pause(deadline, f"{node.name} sees {seen} of {count} peers")


def free_ports(count: int) -> list[int]:
    """Ports of loopback nobody listens on now; another program may still be faster."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _config(node: Node, *, rpc: int, bootstrap: Sequence[str], rig: Rig) -> str:
    # Behind a proxy nobody may learn where the others really are, or links would pass it by.
    choice = "outbound = 0\n" if rig.route else ""
    quoted = ", ".join(f'"{address}"' for address in bootstrap)
    return f"""[node]
name = "{node.name}"
profile = "validator"
[net]
listen = ["/ip4/127.0.0.1/tcp/{node.port}"]
bootstrap = [{quoted}]
{choice}[rpc]
listen = "127.0.0.1:{rpc}"
[chain]
snapshot_every = {rig.snapshot_every}
[executor]
enabled = {str(rig.models).lower()}
[worker]
price = "1000"
[keys]
password_file = "{node.home.root / "password"}"
[log]
format = "human"
"""


def _pause(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise NotInTime(what, hint="look into the node's log")
    nap()


def nap() -> None:
    """Wait a moment between two questions to a process."""
    signal.sigtimedwait((), POLL_SECONDS)
