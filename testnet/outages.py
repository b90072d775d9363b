"""How long agreement stands still: the proposer killed; f nodes dead and every link losing.

Knows: one network of real daemons at a time, a writer, a clock. Must not know: why it takes what
it takes. A write that is handed in after the fault and is durable where it was handed in is the
measure: a block that was on its way when the proposer died does not count for the recovery.
"""

import random
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.chain import ConsensusState, Validators
from prsm.node.rpc.methods.node import NodeStatus
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import Allocation, Genesis, from_json
from prsm.protocol.ids import PublicKey
from prsm.testnet import launch
from prsm.testnet.asking import Asker, Door
from prsm.testnet.orders import signer_of
from prsm.testnet.proxy import Conditions, Proxy
from prsm.testnet.pulse import Pulse
from prsm.testnet.report import Screen
from prsm.testnet.sim.latency import latencies_ms, plan_of
from prsm.testnet.watch import Watch

NODES: Final = 4
FAULTY: Final = 1
BALANCE: Final = 10**12
LEVEL_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.02
REST_SECONDS: Final = 0.3  # between trials: the empty block behind the last write
KILL_P99_MS: Final = 3_000
LOSS_P99_TIMEOUTS: Final = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    trials: int = 100
    writes: int = 200
    loss: float = 0.1
    simulated: int = 4  # seeds of a minute each
    seed: int = 0


@dataclass(slots=True)
class Lab:
    """A running network and what is known of it."""

    network: launch.Network
    proxy: Proxy
    genesis: Genesis
    doors: list[Door]
    watches: list[Watch]
    peers: list[str]
    dice: random.Random
    pulse: Pulse

    async def write(self, place: int) -> float:
        """Pay somebody at a node; milliseconds until that node holds the block with it.

        Raises:
            NotInTime: it does not come to that.
        """
        return await self.pulse.beat(self.watches[place])

    async def proposer(self) -> int:
        """Place of the node whose turn it is, once a weak quorum of nodes says the same."""
        with trio.fail_after(LEVEL_SECONDS):
            while True:
                said = [await self._proposer_at(place) for place in range(NODES)]
                found = max(said, key=said.count)
                if found >= 0 and said.count(found) == NODES:
                    return found
                await trio.sleep(LOOK_SECONDS)

    async def _proposer_at(self, place: int) -> int:
        asker = Asker(self.doors[place])
        try:
            state = await asker.call("consensus_getState", result=ConsensusState)
            if state.proposer is None:
                return -1
            known = await asker.call("consensus_getValidators", result=Validators)
            return self.peers.index(known.items[state.proposer].peer_id)
        except (NodeUnreachable, RpcError):
            return -1
        finally:
            asker.close()

    async def kill(self, place: int) -> None:
        """End a node by SIGKILL."""
        node = self.network.nodes[place]
        node.signal(signal.SIGKILL)
        while node.is_running():  # noqa: ASYNC110 - a process that dies tells nobody here
            await trio.sleep(0.001)
        node.pid = 0

    async def revive(self, place: int) -> None:
        """Start a node again, and wait until it is linked and as far as the others.

        Raises:
            NotInTime: it does not come to that.
        """
        node = self.network.nodes[place]
        node.start()
        self.network.save()
        deadline = time.monotonic() + LEVEL_SECONDS
        await trio.to_thread.run_sync(node.wait_ready, deadline)
        await trio.to_thread.run_sync(launch.wait_peers, node, NODES - 1, deadline)
        with trio.fail_after(LEVEL_SECONDS):
            while self.watches[place].height < max(watch.height for watch in self.watches):  # noqa: ASYNC110 - heights of four watches
                await trio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def lab(folder: Path, *, seed: int, accounts: int = 1) -> AsyncIterator[Lab]:
    """Four daemons behind proxies, watched; all of it is ended with the block.

    Args:
        folder: of the network, empty or absent.
        seed: of keys and dice.
        accounts: how many accounts of `signer_of` have money; the first pays for `Lab.write`.
    """
    proxy = Proxy.bind(NODES, seed=seed)
    funded = [PublicKey(signer_of(seed, number).public_key) for number in range(accounts)]
    network = launch.create(
        folder,
        NODES,
        funded=[Allocation(account, BALANCE) for account in funded],
        rig=launch.Rig(route=proxy.port, models=False),
    )
    genesis = from_json(network.genesis.read_bytes())
    doors = [Door(node.home) for node in network.nodes]
    watches = [Watch(door) for door in doors]
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run, [node.port for node in network.nodes])
        try:
            await trio.to_thread.run_sync(network.start)
            for watch in watches:
                nursery.start_soon(watch.run)
            yield Lab(
                network=network,
                proxy=proxy,
                genesis=genesis,
                doors=doors,
                watches=watches,
                peers=[await _peer_id(door) for door in doors],
                dice=random.Random(f"{seed} outages"),
                pulse=Pulse(genesis, signer_of(seed, 0)),
            )
        finally:
            proxy.heal()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(network.stop)
            nursery.cancel_scope.cancel()


async def _peer_id(door: Door) -> str:
    asker = Asker(door)
    try:
        return (await asker.call("node_getStatus", result=NodeStatus)).peer_id
    finally:
        asker.close()


def measure(options: Options, screen: Screen) -> dict[str, object]:
    """Run both measurements, each on a network of its own.

    Raises:
        PrsmError: a network did not come up, or stood still for a minute.
    """
    check_options(options)
    folder = Path(tempfile.mkdtemp(prefix="prsm-outages-"))
    try:
        return trio.run(_measure, options, screen, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_options(options: Options) -> None:
    """Refuse what cannot be measured.

    Raises:
        LocalError: which option, and what it may be.
    """
    if not 0 <= options.trials <= 10_000 or not 0 <= options.writes <= 100_000:
        raise LocalError("0 to 10,000 trials and 0 to 100,000 writes")
    if not 0 <= options.simulated <= 1_000:
        raise LocalError(f"{options.simulated} simulated minutes, at most 1,000")
    if not 0 <= options.loss < 1:
        raise LocalError(f"a loss of {options.loss}, at least 0 and below 1")


async def _measure(options: Options, screen: Screen, folder: Path) -> dict[str, object]:
    document: dict[str, object] = {"nodes": NODES, "seed": options.seed}
    if options.trials:
        async with lab(folder / "kills", seed=options.seed) as running:
            document["kills"] = await _kill_leaders(running, options.trials, screen)
    if options.writes:
        async with lab(folder / "loss", seed=options.seed) as running:
            document["loss"] = await _lose(running, options, screen)
    if options.simulated:
        document["simulated"] = _simulate(options)
    return document


def _simulate(options: Options) -> dict[str, object]:
    """The same with messages lost for good, which no link over TCP shows."""
    seeds = range(options.seed, options.seed + options.simulated)
    waited = latencies_ms(seeds, loss=round(1000 * options.loss), dead=FAULTY)
    timeout_ms = plan_of(options.seed, loss=0).parameters.timeout_base_ms
    found = shape([float(each) for each in waited])
    return {
        "dead": FAULTY,
        "loss": options.loss,
        "writes": len(waited),
        "write_ms": found,
        "timeout_ms": timeout_ms,
        "p99_timeouts": round(found["p99"] / timeout_ms, 2),
    }


async def _kill_leaders(running: Lab, trials: int, screen: Screen) -> dict[str, object]:
    waited: list[float] = []
    undisturbed: list[float] = []
    for trial in range(trials):
        undisturbed.append(await running.write(running.dice.randrange(NODES)))
        await trio.sleep(REST_SECONDS)
        leader = await running.proposer()
        survivors = [place for place in range(NODES) if place != leader]
        await running.kill(leader)
        waited.append(await running.write(running.dice.choice(survivors)))
        await running.revive(leader)
        if trial % 10 == 9:
            screen.note(f"{trial + 1} of {trials} proposers killed, {shape(waited)}")
    return {"trials": trials, "write_ms": shape(waited), "undisturbed_ms": shape(undisturbed)}


async def _lose(running: Lab, options: Options, screen: Screen) -> dict[str, object]:
    timeout_ms = running.genesis.parameters.timeout_base_ms
    await running.write(0)
    for place in range(FAULTY):
        await running.kill(place)
    running.proxy.set_all(Conditions(loss=options.loss))
    waited: list[float] = []
    for number in range(options.writes):
        waited.append(await running.write(running.dice.randrange(FAULTY, NODES)))
        if number % 50 == 49:
            screen.note(f"{number + 1} of {options.writes} writes, {shape(waited)}")
    found = shape(waited)
    return {
        "dead": FAULTY,
        "loss": options.loss,
        "writes": options.writes,
        "write_ms": found,
        "timeout_ms": timeout_ms,
        "p99_timeouts": round(found["p99"] / timeout_ms, 2),
        "chunks_lost": sum(way.chunks_lost for way in running.proxy.ways.values()),
    }


def shape(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile (the smallest value that 99 % do not pass) and largest."""
    ordered = sorted(values)
    last = len(ordered) - 1
    places = {"p50": len(ordered) // 2, "p99": -(-99 * len(ordered) // 100) - 1, "max": last}
    return {name: round(ordered[place], 1) for name, place in places.items()}


def failures(document: dict[str, object]) -> list[str]:
    """Everything in a document that is above its bar."""
    broken = []
    match document.get("kills"):
        case {"write_ms": {"p99": float(p99)}} if p99 > KILL_P99_MS:
            broken.append(f"p99 after a killed proposer {p99:.0f} ms, at most {KILL_P99_MS}")
    for part in ("loss", "simulated"):
        match document.get(part):
            case {"p99_timeouts": float(times)} if times > LOSS_P99_TIMEOUTS:
                broken.append(f"{part}: p99 of {times} timeouts, at most {LOSS_P99_TIMEOUTS}")
    return broken
