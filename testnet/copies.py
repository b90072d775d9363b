"""Two of five holders of a model are killed while it is read: every read, and how soon it heals.

Knows: a network of real daemons that keep five copies of what the ledger names; a reader that is
a peer of its own and has nothing. Must not know: how a node decides to fetch. The network makes
its first five copies itself: one node adds the model, the others are not told.
"""

import random
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from prsm.node.net.blocks import PeerSource
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import libp2p_network
from prsm.node.net.network import PeerNetwork
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.models import AddParams, ModelInfo, Models
from prsm.node.rpc.methods.node import NodeStatus
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.genesis import from_json
from prsm.protocol.ids import PeerId
from prsm.protocol.signing import sha256
from prsm.storage.cid import Cid, Codec, decode_cid, parse_cid
from prsm.storage.errors import NotFound
from prsm.storage.interfaces import Leaf
from prsm.storage.manifest import decode_manifest
from prsm.testnet import launch
from prsm.testnet.asking import Asker, Door
from prsm.testnet.jobload import build_model
from prsm.testnet.launch import NotInTime
from prsm.testnet.report import Screen

COPIES: Final = 5
KILLED: Final = 2
PLACE_SECONDS: Final = 120.0
BAR_SECONDS: Final = 60.0
GIVE_UP_SECONDS: Final = 180.0
SETTLED_SECONDS: Final = 6.0  # three looks of the repair loop
READ_SECONDS: Final = 10.0  # of one read, with whoever is asked next
LOOK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    reads: int = 1_000
    nodes: int = 8
    seed: int = 0


@dataclass(slots=True)
class Reads:
    """What the reader saw."""

    done: int = 0
    failed: list[str] = field(default_factory=list)
    longest_s: float = 0.0


def measure(options: Options, screen: Screen) -> dict[str, object]:
    """Place five copies, kill two holders, read all the while, wait for five again.

    Raises:
        LocalError: numbers that make no such network.
        PrsmError: the network did not come up, or the copies were not placed or not healed.
    """
    if not COPIES + KILLED <= options.nodes <= 16 or options.reads < 1:
        raise LocalError(f"{options.nodes} nodes, at least {COPIES + KILLED} and at most 16")
    folder = Path(tempfile.mkdtemp(prefix="prsm-copies-"))
    try:
        return trio.run(_measure, options, screen, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(options: Options, screen: Screen, folder: Path) -> dict[str, object]:
    members = [
        launch.Member(f"node{i + 1}", models=i == 0, region=f"region{i % 3}")
        for i in range(options.nodes)
    ]
    network = launch.build(folder / "net", members, rig=launch.Rig(models=False, copies=COPIES))
    doors = [Door(node.home) for node in network.nodes]
    try:
        await trio.to_thread.run_sync(network.start)
        screen.step(f"{options.nodes} nodes are up")
        out = await build_model(folder)
        asked = AddParams(path=str(out / "model.onnx"), name="copied")
        added = await _ask(doors[0], asked)
        began = time.monotonic()
        holders = await _wait_holders(doors, added.cid, COPIES, PLACE_SECONDS)
        placed_s = time.monotonic() - began
        screen.step(f"{len(holders)} copies placed in {placed_s:.1f} s")
        return await _kill(options, screen, network, doors, (added, placed_s))
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(network.stop)


async def _kill(
    options: Options,
    screen: Screen,
    network: launch.Network,
    doors: Sequence[Door],
    placed: tuple[ModelInfo, float],
) -> dict[str, object]:
    model, placed_s = placed
    dice = random.Random(options.seed)
    reads = Reads()
    async with trio.open_nursery() as nursery:
        reader = await nursery.start(_open_reader, network, doors)
        blocks = random.Random(options.seed + 1)
        nursery.start_soon(_read_all, options, reader, parse_cid(model.cid), blocks, reads)
        with trio.fail_after(READ_SECONDS):
            while reads.done < options.reads // 20:  # noqa: ASYNC110 - some before the kill
                await trio.sleep(LOOK_SECONDS)
        before = await _wait_settled(doors, model.cid)
        victims = sorted(dice.sample(sorted(before), KILLED))
        alive = [door for place, door in enumerate(doors) if place not in victims]
        began = time.monotonic()
        for place in victims:
            network.nodes[place].signal(signal.SIGKILL)
        screen.step(f"killed {', '.join(network.nodes[place].name for place in victims)}")
        healed = await _wait_holders(alive, model.cid, COPIES, GIVE_UP_SECONDS)
        healed_s = time.monotonic() - began
        screen.step(f"{len(healed)} copies again after {healed_s:.1f} s")
        with trio.fail_after(GIVE_UP_SECONDS):
            while reads.done < options.reads:  # noqa: ASYNC110 - the rest
                await trio.sleep(LOOK_SECONDS)
        nursery.cancel_scope.cancel()
    return {
        "nodes": options.nodes,
        "copies": COPIES,
        "killed": KILLED,
        "placed_s": round(placed_s, 1),
        "healed_s": round(healed_s, 1),
        "copies_before": len(before),
        "copies_after": len(healed),
        "reads": reads.done,
        "reads_failed": len(reads.failed),
        "longest_read_s": round(reads.longest_s, 3),
        "why": reads.failed[:3],
    }


async def _open_reader(
    network: launch.Network,
    doors: Sequence[Door],
    *,
    task_status: trio.TaskStatus[PeerNetwork],
) -> None:
    """Be a peer of all nodes that holds nothing, until cancelled."""
    genesis = from_json(network.genesis.read_bytes())
    identity = ChainIdentity(genesis.chain_id, genesis.digest, agent="prsm-reader")
    reader = libp2p_network(sha256(b"reader"), identity, listen=["/ip4/127.0.0.1/tcp/0"])
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        for door, node in zip(doors, network.nodes, strict=True):
            peer = (await _status(door)).peer_id
            await reader.connect(f"/ip4/127.0.0.1/tcp/{node.port}/p2p/{peer}")
        task_status.started(reader)
        await trio.sleep_forever()


async def _read_all(
    options: Options, reader: PeerNetwork, manifest: Cid, dice: random.Random, reads: Reads
) -> None:
    """Read blocks of the model over the time the network has to heal, from whoever is linked."""
    raw = await _read(manifest, 0, _sources(reader, dice))
    files = decode_manifest(raw).files
    blocks = [(manifest, 0), *((decode_cid(file.root), file.size) for file in files)]
    for _ in range(options.reads):
        began = time.monotonic()
        try:
            with trio.fail_after(READ_SECONDS):
                await _read(*dice.choice(blocks), _sources(reader, dice))
        except (NotFound, trio.TooSlowError) as error:
            reads.failed.append(f"{type(error).__name__}: {error}")
        reads.done += 1
        reads.longest_s = max(reads.longest_s, time.monotonic() - began)
        await trio.sleep(BAR_SECONDS / 2 / options.reads)


async def _read(cid: Cid, size: int, sources: Sequence[PeerSource]) -> bytes:
    """Read one block of one peer after the other: a leaf if the file is one, else a node.

    Raises:
        NotFound: nobody gave it.
    """
    why = []
    for source in sources:
        try:
            if cid.codec is Codec.RAW and size:
                [raw] = await source.fetch(cid, [Leaf(0, cid.digest, size)])
            else:
                raw = await source.node(cid.digest)
        except PrsmError as error:
            why.append(f"{type(error).__name__}: {error}")
            continue
        if sha256(raw) == cid.digest:
            return raw
        why.append(f"{source.name} sent other bytes")
    raise NotFound(f"{cid}: {'; '.join(why)}"[:500])


def _sources(reader: PeerNetwork, dice: random.Random) -> list[PeerSource]:
    peers: list[PeerId] = [info.peer for info in reader.peers()]
    dice.shuffle(peers)
    return [PeerSource(reader, peer) for peer in peers]


async def _wait_holders(
    doors: Sequence[Door], cid: str, count: int, seconds: float
) -> frozenset[int]:
    """Wait until so many nodes hold a model whole; their places.

    Raises:
        NotInTime: they do not come to that many.
    """
    found: frozenset[int] = frozenset()
    with trio.move_on_after(seconds):
        while True:
            held = [place for place, door in enumerate(doors) if await _holds(door, cid)]
            found = frozenset(held)
            if len(found) >= count:
                return found
            await trio.sleep(LOOK_SECONDS)
    raise NotInTime(f"{len(found)} of {count} copies after {seconds:.0f} s")


async def _wait_settled(doors: Sequence[Door], cid: str) -> frozenset[int]:
    """Wait until the same nodes have held a model for a while, none too many; their places.

    Raises:
        NotInTime: they go on changing.
    """
    found, since = frozenset[int](), time.monotonic()
    with trio.move_on_after(GIVE_UP_SECONDS):
        while len(found) != COPIES or time.monotonic() - since < SETTLED_SECONDS:
            now = await _wait_holders(doors, cid, COPIES, GIVE_UP_SECONDS)
            if now != found:
                found, since = now, time.monotonic()
            await trio.sleep(LOOK_SECONDS)
        return found
    raise NotInTime(f"{len(found)} copies after {GIVE_UP_SECONDS:.0f} s, {COPIES} are wanted")


async def _holds(door: Door, cid: str) -> bool:
    asker = Asker(door)
    try:
        models = await asker.call("model_list", result=Models)
    except (NodeUnreachable, RpcError):
        return False
    finally:
        asker.close()
    return any(each.cid == cid and each.state == "held" for each in models.items)


async def _ask(door: Door, params: AddParams) -> ModelInfo:
    asker = Asker(door)
    try:
        return await asker.call("model_add", params, result=ModelInfo)
    finally:
        asker.close()


async def _status(door: Door) -> NodeStatus:
    asker = Asker(door)
    try:
        return await asker.call("node_getStatus", result=NodeStatus)
    finally:
        asker.close()


def failures(document: dict[str, object]) -> list[str]:
    """What of a document is above its bar."""
    match document:
        case {"reads_failed": int(failed), "reads": int(reads)} if failed:
            return [f"{failed} of {reads} reads failed, none may"]
        case {"healed_s": float(seconds)} if seconds > BAR_SECONDS:
            return [f"copies healed after {seconds} s, at most {BAR_SECONDS} s"]
    return []
