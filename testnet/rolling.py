"""A network is upgraded node by node under load: how long does it stand still, does it fork?

Knows: four real daemons, the program they are started as first and the one after. Must not know:
what differs between the two. The older program is `previous`, or any folder of an older source.
"""

import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import from_json
from prsm.testnet import exports, launch
from prsm.testnet.asking import Asker, Door
from prsm.testnet.effects import judge
from prsm.testnet.load import Load, allocations, entries
from prsm.testnet.outages import NODES, shape
from prsm.testnet.processes import HONEST, PREVIOUS, Node, NotInTime
from prsm.testnet.report import Screen
from prsm.testnet.watch import Watch

GAP_MAX_MS: Final = 5_000
LEVEL_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.01
SHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for.

    Attributes:
        source: folder of an older program's source; None for `previous`.
        rate: transfers a second.
        accounts: that pay them.
        hold_s: how long the network stays as it is between two restarts.
        upgraded: how many of the nodes, in order; the network stays mixed with fewer than all.
        back: whether they are started as the older program again afterwards.
        seed: of keys and dice.
    """

    source: Path | None = None
    rate: int = 20
    accounts: int = 16
    hold_s: float = 2.0
    upgraded: int = NODES
    back: bool = False
    seed: int = 0


@dataclass(slots=True)
class Gaps:
    """The longest time without a new block while load waits for one.

    Attributes:
        longest_ms: since the last block, with none after it yet.
        between_ms: from a height to the next, as whichever node showed it first.
    """

    watches: Sequence[Watch]
    longest_ms: float = 0.0
    between_ms: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Look until cancelled; the clock runs from the first block that is seen."""
        height, seen = 0, 0.0
        while True:
            highest = max(watch.height for watch in self.watches)
            now = trio.current_time()
            if highest > height:
                if height:
                    self.between_ms.append((now - seen) * 1000)
                height, seen = highest, now
            elif height:
                self.longest_ms = max(self.longest_ms, (now - seen) * 1000)
            await trio.sleep(LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class _Lab:
    network: launch.Network
    doors: list[Door]
    watches: list[Watch]


def measure(options: Options, screen: Screen) -> dict[str, object]:
    """Start an older network, load it, restart its nodes one by one as the present program.

    Raises:
        LocalError: options nothing can be made of, or a network that does not come up.
    """
    check_options(options)
    folder = Path(tempfile.mkdtemp(prefix="prsm-rolling-"))
    try:
        return trio.run(_measure, options, screen, folder / "net")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_options(options: Options) -> None:
    """Refuse what cannot be done.

    Raises:
        LocalError: names the option and what it may be.
    """
    if options.source and not (options.source / "src" / "prsm" / "node").is_dir():
        raise LocalError(f"{options.source} is no source of prsm", hint="git archive COMMIT")
    if not 1 <= options.rate <= 1_000 or not 1 <= options.accounts <= 512:
        raise LocalError("1 to 1,000 transfers a second of 1 to 512 accounts")
    if not 1 <= options.upgraded <= NODES:
        raise LocalError(f"{options.upgraded} nodes to upgrade, the network has {NODES}")


async def _measure(options: Options, screen: Screen, folder: Path) -> dict[str, object]:
    funded = allocations(options.seed, options.accounts)
    network = launch.create(folder, NODES, funded=funded, rig=launch.Rig(models=False))
    async with _running(network, options) as lab:
        load = Load(
            folder=folder,
            genesis=from_json(network.genesis.read_bytes()),
            watches=lab.watches,
            seed=options.seed,
            accounts=options.accounts,
            rate=options.rate,
        )
        gaps = Gaps(lab.watches)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            await trio.sleep(options.hold_s)
            async with trio.open_nursery() as looking:
                looking.start_soon(gaps.run)
                restarts = await _upgrade(lab, options, screen)
                looking.cancel_scope.cancel()
            load.close()
        return await _judged(lab, options, load) | {
            "older": options.source.name if options.source else "previous",
            "restarts": len(restarts),
            "restart_ms": shape(restarts),
            "commit_gap_ms": round(max(gaps.longest_ms, *gaps.between_ms), 1),
            "between_blocks_ms": shape(gaps.between_ms),
        }


@asynccontextmanager
async def _running(network: launch.Network, options: Options) -> AsyncIterator[_Lab]:
    """The network as the older program, watched; all of it is ended with the block."""
    doors = [Door(node.home) for node in network.nodes]
    lab = _Lab(network, doors, [Watch(door) for door in doors])
    async with trio.open_nursery() as nursery:
        try:
            await trio.to_thread.run_sync(_start_all, network, options)
            for watch in lab.watches:
                nursery.start_soon(watch.run)
            yield lab
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(network.stop)
            nursery.cancel_scope.cancel()


def _start_all(network: launch.Network, options: Options) -> None:
    deadline = time.monotonic() + launch.START_SECONDS
    for node in network.nodes:
        _start_older(node, options)
    network.save()
    for node in network.nodes:
        node.wait_ready(deadline)
        launch.wait_peers(node, NODES - 1, deadline)


def _start_older(node: Node, options: Options) -> None:
    if options.source:
        node.start(HONEST, source=options.source)
    else:
        node.start(PREVIOUS)


async def _upgrade(lab: _Lab, options: Options, screen: Screen) -> list[float]:
    """Restart each node as the present program, and back if asked; milliseconds of each."""
    took = []
    for is_older in (False, True) if options.back else (False,):
        for place, node in enumerate(lab.network.nodes[: options.upgraded]):
            screen.step(f"{node.name} becomes {'older' if is_older else 'newer'}")
            began = time.monotonic()
            await trio.to_thread.run_sync(node.stop, began + launch.STOP_SECONDS)
            if is_older:
                _start_older(node, options)
            else:
                node.start(HONEST)
            lab.network.save()
            await _wait_level(lab, place)
            took.append((time.monotonic() - began) * 1000)
            await trio.sleep(options.hold_s)
    return took


async def _wait_level(lab: _Lab, place: int) -> None:
    """Wait until a node is linked to all others and as far as they are.

    Raises:
        NotInTime: it does not come to that.
    """
    node, deadline = lab.network.nodes[place], time.monotonic() + LEVEL_SECONDS
    await trio.to_thread.run_sync(node.wait_ready, deadline)
    await trio.to_thread.run_sync(launch.wait_peers, node, NODES - 1, deadline)
    goal = max(watch.height for watch in lab.watches)
    while lab.watches[place].height < goal:
        if time.monotonic() > deadline:
            raise NotInTime(f"{node.name} stands below height {goal}")
        await trio.sleep(LOOK_SECONDS)


async def _judged(lab: _Lab, options: Options, load: Load) -> dict[str, object]:
    """One chain at every node, every acknowledged transfer in it once, nobody banned."""
    height = await exports.settle(lab.doors)
    named = list(zip((node.name for node in lab.network.nodes), lab.doors, strict=True))
    chains = {name: await exports.export(door, height) for name, door in named}
    writes = [entry.write() for entry in entries(load.folder)]
    verdict = judge(chains, writes, load.genesis, is_honest=True).verdict
    broken = [f"{each.fault.value}: {each.what}" for each in verdict.violations]
    for name, door in named:
        broken += [f"{name} {what}" for what in await _complaints(door)]
    return {
        "nodes": NODES,
        "seed": options.seed,
        "height": height,
        "sent": load.sent,
        "acknowledged": verdict.acknowledged,
        "open": verdict.unknown,
        "commit_ms": shape(load.waited_ms),
        "broken": broken[:SHOWN_MAX],
    }


class _Peer(msgspec.Struct, frozen=True):
    peer_id: str


class _Peers(msgspec.Struct, frozen=True):
    banned: tuple[_Peer, ...]


class _Part(msgspec.Struct, frozen=True):
    name: str
    state: str
    why: str


class _Status(msgspec.Struct, frozen=True):
    parts: tuple[_Part, ...]


async def _complaints(door: Door) -> list[str]:
    """Whom a node has banned, and what of it does not run; older programs answer with less."""
    asker = Asker(door)
    try:
        peers = await asker.call("net_getPeers", result=_Peers)
        status = await asker.call("node_getStatus", result=_Status)
    finally:
        asker.close()
    said = [f"has banned {peer.peer_id}" for peer in peers.banned]
    return said + [
        f"does not vote: {part.state}, {part.why}"
        for part in status.parts
        if part.name == "consensus" and part.state != "running"
    ]


def failures(document: dict[str, object]) -> list[str]:
    """Everything in a document that should not be there."""
    broken: list[str] = []
    match document.get("broken"):
        case [*found]:
            broken += map(str, found)
        case _:
            pass
    match document.get("commit_gap_ms"):
        case float(gap) if gap > GAP_MAX_MS:
            broken.append(f"no block for {gap:.0f} ms, at most {GAP_MAX_MS}")
        case _:
            pass
    return broken
