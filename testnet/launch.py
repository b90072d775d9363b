"""A network of real daemons on this machine: keys, genesis, folders, ports, processes.

Knows: how nodes' homes are made and their processes (`processes`) started and ended together.
Must not know: what the nodes do. Everything binds to loopback.
"""

import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from prsm.node.home import Home, write_private
from prsm.node.keys import make_keys
from prsm.node.rpc.methods.node import NodeStatus
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import GENESIS_VERSION, Allocation, Genesis, Parameters, to_json
from prsm.protocol.ids import MICRO_PER_FTNS
from prsm.testnet.processes import HONEST, STOP_SECONDS, Node, NodeDied, NotInTime, nap, pause

__all__ = [
    "BALANCE",
    "HONEST",
    "PASSWORD",
    "PLAIN",
    "SNAPSHOT_EVERY",
    "STAKE",
    "START_SECONDS",
    "STOP_SECONDS",
    "Described",
    "Description",
    "Member",
    "Network",
    "Node",
    "NodeDied",
    "NotInTime",
    "Rig",
    "build",
    "create",
    "free_ports",
    "load",
    "nap",
    "wait_peers",
]

STAKE: Final = 1_000 * MICRO_PER_FTNS
BALANCE: Final = 10_000 * MICRO_PER_FTNS
SNAPSHOT_EVERY: Final = 100  # a test of catching up is no day long
START_SECONDS: Final = 60.0
PASSWORD: Final = "development network"  # noqa: S105 - keys of a network without value


class Described(msgspec.Struct, frozen=True):
    """One node in the network's description file."""

    name: str
    home: str
    liar: bool = False
    pid: int = 0
    port: int = 0
    has_own_clock: bool = False
    is_rigged: bool = False


class Description(msgspec.Struct, frozen=True):
    """`network.json`: what `status`, `kill` and `down` need to find the nodes again."""

    nodes: tuple[Described, ...]


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
            LocalError: a process cannot be started; those before it are ended.
            NodeDied, NotInTime: a node did not come up.
        """
        with self._begun([node for node in self.nodes if not node.is_running()]) as deadline:
            for node in self.nodes:
                node.wait_ready(deadline)

    def start(self) -> None:
        """Start all nodes and wait until they are ready and see one another.

        Raises:
            LocalError: a process cannot be started; those before it are ended.
            NodeDied, NotInTime: a node did not come up.
        """
        with self._begun(self.nodes) as deadline:
            for node in self.nodes:
                node.wait_ready(deadline)
            for node in self.nodes:
                wait_peers(node, len(self.nodes) - 1, deadline)

    def stop(self) -> bool:
        """End all nodes that run; did SIGTERM suffice for each?"""
        return self._end(self.nodes)

    @contextmanager
    def _begun(self, nodes: Sequence[Node]) -> Iterator[float]:
        """Start nodes, all or none; whoever interrupts the wait for them has ended them, too."""
        deadline = time.monotonic() + START_SECONDS
        try:
            for node in nodes:
                node.start()
            self.save()
            yield deadline
        except KeyboardInterrupt:
            self._end(nodes)
            raise
        except OSError as error:  # else those before it ran on, and no description knew them
            self._end(nodes)
            raise LocalError(
                f"a node in {self.folder} cannot be started: {error.strerror}",
                hint="make it anew: prsm testnet down --delete, then up",
            ) from error

    def _end(self, nodes: Sequence[Node]) -> bool:
        deadline = time.monotonic() + STOP_SECONDS
        for node in nodes:
            node.signal(signal.SIGTERM)
        results = [node.stop(deadline) for node in nodes if node.pid]
        self.save()
        return all(results)

    def save(self) -> None:
        """Write the description file."""
        nodes = tuple(
            Described(n.name, str(n.home.root), n.liar, n.pid, n.port, n.has_own_clock, n.is_rigged)
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
        copies: there should be of each model; with 1 nobody copies what nobody asked for.
    """

    route: Callable[[int, int], int] | None = None
    own_clocks: bool = False
    models: bool = True
    parameters: Parameters | None = None
    snapshot_every: int = SNAPSHOT_EVERY
    copies: int = 1


PLAIN: Final = Rig()


@dataclass(frozen=True, slots=True)
class Member:
    """What a node of a network is.

    Attributes:
        name: also of its folder.
        votes: has a stake in the genesis.
        models: runs models; None for what the rig says.
        liar: its worker lies; in consensus it is honest.
        is_rigged: faults can be ordered while it runs, see `rigged`.
        profile: of its configuration.
        region: label shown to peers; none if empty.
    """

    name: str
    votes: bool = True
    models: bool | None = None
    liar: bool = False
    is_rigged: bool = False
    profile: str = "validator"
    region: str = ""


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
    members = [Member(f"node{place + 1}", liar=place in liars) for place in range(count)]
    return build(folder, members, funded=funded, rig=rig)


def build(
    folder: Path, members: Sequence[Member], *, funded: Sequence[Allocation] = (), rig: Rig = PLAIN
) -> Network:
    """Make keys, genesis and folders of nodes that need not be alike; validators weigh the same.

    Raises:
        LocalError: the folder is in use, or the count is out of bounds.
    """
    count = len(members)
    if not 1 <= count <= 32:
        raise LocalError(f"{count} nodes, a network has 1 to 32 validators")
    if folder.exists() and any(folder.iterdir()):
        raise LocalError(f"{folder} is not empty", hint="choose another folder with --dir")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ports = free_ports(2 * count)
    nodes = [_node(folder, each, port=ports[i], rig=rig) for i, each in enumerate(members)]
    keys = []
    for node in nodes:
        node.home.create()
        keys.append(make_keys(node.home, password=PASSWORD, development=True))
    genesis = Genesis(
        version=GENESIS_VERSION,
        name="local",
        development=True,
        time_ms=time.time_ns() // 1_000_000,
        validators=tuple(
            key.validator(STAKE) for key, each in zip(keys, members, strict=True) if each.votes
        ),
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
        config = _config(members[i], node, rpc=ports[count + i], bootstrap=others, rig=rig)
        write_private(node.home.config, config.encode())
    write_private(folder / "genesis.json", document)
    network = Network(folder, nodes)
    network.save()
    return network


def _node(folder: Path, member: Member, *, port: int, rig: Rig) -> Node:
    return Node(
        member.name,
        Home(folder / member.name),
        member.liar,
        port=port,
        has_own_clock=rig.own_clocks,
        is_rigged=member.is_rigged,
    )


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
            Node(
                n.name,
                Home(Path(n.home)),
                n.liar,
                _live_pid(n),
                n.port,
                n.has_own_clock,
                n.is_rigged,
            )
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
        pause(deadline, f"{node.name} sees {seen} of {count} peers")


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


def _config(member: Member, node: Node, *, rpc: int, bootstrap: Sequence[str], rig: Rig) -> str:
    region = f'region = "{member.region}"\n' if member.region else ""
    models = rig.models if member.models is None else member.models
    # Behind a proxy nobody may learn where the others really are, or links would pass it by.
    choice = "outbound = 0\n" if rig.route else ""
    quoted = ", ".join(f'"{address}"' for address in bootstrap)
    return f"""[node]
name = "{node.name}"
profile = "{member.profile}"
[net]
listen = ["/ip4/127.0.0.1/tcp/{node.port}"]
bootstrap = [{quoted}]
{choice}{region}[rpc]
listen = "127.0.0.1:{rpc}"
[chain]
snapshot_every = {rig.snapshot_every}
[storage]
copies = {rig.copies}
[executor]
enabled = {str(models).lower()}
[worker]
price = "1000"
[keys]
password_file = "{node.home.root / "password"}"
[log]
format = "human"
"""
