"""Every input known to harm libp2p 0.8.1, or us, said to live daemons by a peer that says anything.

Method: four daemons agree and pay all the while; each row of `insults_*` in tests/tools is one peer
that connects to one of them, says it, and is judged by what the daemon tells over JSON-RPC: banned
within 5 s where it can be attributed. At the end: the same processes, no network was rebuilt,
nothing is left of those who came, and no payment waited for long.
"""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from prsm.node.clock import utc_text
from prsm.node.net.bans import decode_bans
from prsm.node.net.handshake import ChainIdentity
from prsm.node.rpc.client import Client, RpcError
from prsm.node.rpc.methods.chain import TransactionInfo, TxParams
from prsm.node.rpc.methods.net import Bans, Load
from prsm.node.rpc.methods.node import NodeStatus, Part
from prsm.node.rpc.methods.wallet import TransferParams, Transferred
from prsm.protocol.genesis import from_json
from prsm.protocol.ids import PeerId
from prsm.testnet import launch
from prsm.testnet.hostile import Gone, Hostile
from tests.tools import crashing, insults_above, insults_below
from tests.tools.insults import Attack, Fate, Insult

INSULTS = [*insults_below.TABLE, *insults_above.TABLE]
pytestmark = [pytest.mark.slow, pytest.mark.e2e]
BAN_SECONDS = 5.0
PAY_SECONDS = 5.0
SETTLE_SECONDS = 10.0
CRASHING = 1  # place of the node whose network a test crashes
REBUILT_SECONDS = 5.0
SPARE_FILES = 8  # of a peer that redials, a thread that writes
RSS_GROWTH_BYTES_MAX = 64 * 2**20


@dataclass
class Payments:
    """Somebody who pays at the last node all the while."""

    node: launch.Node
    to: str
    begun: int = 0
    took_s: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with self.node.client() as client:
            while not self.stop.is_set():
                self.begun += 1
                began = time.monotonic()
                asked = TransferParams(self.to, "1")
                sent = client.call("wallet_transfer", asked, result=Transferred)
                while not self._is_committed(client, sent.tx_id):
                    if time.monotonic() - began > 2 * PAY_SECONDS:
                        return  # what is missing is counted by the test
                    launch.nap()
                self.took_s.append(time.monotonic() - began)

    @staticmethod
    def _is_committed(client: Client, tx_id: str) -> bool:
        """Between two blocks it may be nowhere for a moment."""
        try:
            found = client.call("chain_getTransaction", TxParams(tx_id), result=TransactionInfo)
        except RpcError:
            return False
        return found.status == "committed"


@dataclass(frozen=True)
class World:
    """The daemons, what they held before anybody came, and who pays meanwhile."""

    network: launch.Network
    chain: ChainIdentity
    peers: list[PeerId]
    before: list[Load]
    files: list[int]
    payments: Payments
    banned: Counter[int] = field(default_factory=Counter)  # by place
    offenders: dict[bytes, PeerId] = field(default_factory=dict)  # seed -> who was banned

    @property
    def tasks_max(self) -> int:
        """Of a daemon with three links; what is left over of a host would be eighty.

        Who dialled is chance at each linking, and an accepted link takes four tasks more.
        """
        return max(load.tasks for load in self.before) + SPARE_FILES

    def load(self, place: int) -> Load:
        with self.network.nodes[place].client() as client:
            return client.call("net_getLoad", result=Load)


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    network = launch.create(
        tmp_path_factory.mktemp("hostile") / "net", 4, rig=launch.Rig(models=False)
    )
    try:
        start(network)
        genesis = from_json(network.genesis.read_bytes())
        statuses = [status(node) for node in network.nodes]
        wallet = statuses[0].wallet
        assert wallet is not None
        world = World(
            network=network,
            chain=ChainIdentity(genesis.chain_id, genesis.digest, agent="hostile"),
            peers=[PeerId(each.peer_id) for each in statuses],
            before=[],
            files=[open_files(each.pid) for each in statuses],
            payments=Payments(network.nodes[3], wallet),
        )
        world.before.extend(paired(world, place) for place in range(4))
        payer = threading.Thread(target=world.payments.run)
        payer.start()
        try:
            yield world
        finally:
            world.payments.stop.set()
            payer.join()
    finally:
        assert network.stop(), "a daemon did not end on SIGTERM"


def start(network: launch.Network) -> None:
    """Start all nodes, the second one with a fault that can be set off in its network."""
    deadline = time.monotonic() + launch.START_SECONDS
    for place, node in enumerate(network.nodes):
        node.start(crashing.COMMAND if place == CRASHING else None)
    network.save()
    for node in network.nodes:
        node.wait_ready(deadline)
    for node in network.nodes:
        launch.wait_peers(node, len(network.nodes) - 1, deadline)


def status(node: launch.Node) -> NodeStatus:
    with node.client() as client:
        return client.call("node_getStatus", result=NodeStatus)


def ban_of(node: launch.Node, peer: PeerId) -> str | None:
    """Why a node keeps a peer out; None if it does not."""
    with node.client() as client:
        bans = client.call("net_getBans", result=Bans)
    return next((ban.why for ban in bans.items if ban.peer_id == peer), None)


@pytest.mark.parametrize("place", range(len(INSULTS)), ids=[each.name for each in INSULTS])
def test_daemon_stands_an_insult(world: World, place: int) -> None:
    """One input; the daemon answers afterwards, and keeps out who can be held responsible."""
    insult, victim = INSULTS[place], place % 4
    node, seed = world.network.nodes[victim], bytes([place + 1]) * 32

    async def play() -> str | None:
        attack = Attack(seed, node.port, world.peers[victim], world.chain)
        if insult.fate is Fate.STRANGER:
            await insult.say(attack)
            return None
        async with Hostile.dial(seed, node.port, world.peers[victim]) as hostile:
            attack.hostile = hostile
            return await judge(insult, attack, node)

    why = trio.run(play)
    assert (why is not None) == (insult.fate is Fate.BANNED), why
    assert insult.why in (why or "")
    if why is not None:
        world.banned[victim] += 1
        world.offenders[seed] = Hostile(seed, node.port, world.peers[victim]).peer
    assert status(node).pid == node.pid


async def judge(insult: Insult, attack: Attack, node: launch.Node) -> str | None:
    """Say it; why the peer was banned, within `BAN_SECONDS`."""
    hostile = attack.hostile
    assert hostile is not None
    if insult.greets:
        attack.ctl = await hostile.shake_hands(attack.chain)
    began = trio.current_time()
    await insult.say(attack)
    match insult.fate:
        case Fate.CLOSED:
            assert await hostile.wait_end()
        case Fate.BANNED:
            while (why := ban_of(node, hostile.peer)) is None:
                assert trio.current_time() - began < BAN_SECONDS, "not banned in time"
                await trio.sleep(0.02)
            assert await hostile.wait_end()
            return why
        case _:
            await trio.sleep(0.05)
    return ban_of(node, hostile.peer)


def paired(world: World, place: int) -> Load:
    """What a daemon holds once each pair has settled on one connection."""
    deadline = time.monotonic() + SETTLE_SECONDS + 5
    while (load := world.load(place)).counts["connections"] > 3:
        assert time.monotonic() < deadline, load
        launch.nap()
    return load


def settled(world: World, place: int) -> Load:
    """What a daemon holds once it holds no more than before, or has had its time."""
    before, deadline = world.before[place], time.monotonic() + SETTLE_SECONDS
    while True:
        load = world.load(place)
        connections = load.counts["connections"] <= before.counts["connections"]
        quiet = connections and load.tasks <= world.tasks_max
        if (quiet and not load.counts["handshakes"]) or time.monotonic() > deadline:
            return load
        launch.nap()


def test_nothing_is_left_and_nothing_waited(world: World) -> None:
    """Same processes, no rebuild; sockets, streams and tasks of those who came are gone."""
    for place, node in enumerate(world.network.nodes):
        now = status(node)
        assert now.pid == node.pid
        assert all(part.restarts == 0 for part in now.parts), now.parts
        assert now.peers == 3
        before, files = world.before[place], world.files[place] + SPARE_FILES
        load = settled(world, place)
        assert load.counts["connections"] <= before.counts["connections"]
        assert load.counts["streams"] <= before.counts["streams"] + SPARE_FILES
        assert load.counts["handshakes"] == 0
        assert load.tasks <= world.tasks_max
        assert open_files(node.pid) <= files
        assert load.rss_bytes - before.rss_bytes <= RSS_GROWTH_BYTES_MAX
        assert load.bans == world.banned[place]
    assert len(world.payments.took_s) >= world.payments.begun - 1 > 10
    assert max(world.payments.took_s) < PAY_SECONDS


def test_network_that_crashes_is_rebuilt_and_linked_again(world: World) -> None:
    """An error nobody fenced: same process, identity and port, all peers back, payments go on."""
    node = world.network.nodes[CRASHING]
    before, paid = status(node), len(world.payments.took_s)
    threads = threads_of(node.pid)
    assert before.peers == 3
    crashing.crash_file(node.home.root).touch()
    began = time.monotonic()
    while (now := status(node)).peers < 3 or network_part(now).restarts == 0:
        assert time.monotonic() - began < REBUILT_SECONDS, now
        launch.nap()
    assert (now.pid, now.peer_id, now.addresses) == (
        before.pid,
        before.peer_id,
        before.addresses,
    )
    assert network_part(now).restarts == 1
    deadline = time.monotonic() + SETTLE_SECONDS
    while len(world.payments.took_s) < paid + 3 or status(node).height <= before.height + 2:
        assert time.monotonic() < deadline
        launch.nap()
    assert max(world.payments.took_s[paid:]) < PAY_SECONDS
    assert settled(world, CRASHING).tasks <= world.tasks_max
    assert threads_of(node.pid) <= threads + 2  # of calls to the file system, for ten seconds
    assert open_files(node.pid) <= world.files[CRASHING] + SPARE_FILES


def test_bans_outlive_the_process(world: World) -> None:
    """SIGKILL and a new start: who was kept out still is, and for as long."""
    node = world.network.nodes[0]
    before = bans_of(node)
    assert before
    deadline = time.monotonic() + SETTLE_SECONDS
    while not before.keys() <= {row.peer for row in decode_bans(node.home.bans.read_bytes())}:
        assert time.monotonic() < deadline, "bans that are on no disk"
        launch.nap()
    node.signal(signal.SIGKILL)
    while node.is_running():
        launch.nap()
    node.start()
    deadline = time.monotonic() + launch.START_SECONDS
    node.wait_ready(deadline)
    now = utc_text(time.time_ns() // 1_000_000)
    after = bans_of(node)
    still = {peer: until for peer, until in before.items() if until[:19] > now[:19]}
    assert still
    assert {peer: after[peer][:19] for peer in still} == {p: u[:19] for p, u in still.items()}
    seed = next(seed for seed, peer in world.offenders.items() if peer in still)

    async def knock() -> None:
        with suppress(Gone):
            async with Hostile.dial(seed, node.port, world.peers[0]) as hostile:
                assert await hostile.wait_end()

    trio.run(knock)
    launch.wait_peers(node, 3, deadline)
    world.network.save()


def bans_of(node: launch.Node) -> dict[str, str]:
    """Until when each peer is kept out."""
    with node.client() as client:
        bans = client.call("net_getBans", result=Bans)
    return {ban.peer_id: ban.until for ban in bans.items}


def network_part(now: NodeStatus) -> Part:
    return next(part for part in now.parts if part.name == "network")


def threads_of(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
