"""A node that lost its disk comes back: how long until it has the others' state.

Knows: a network of real daemons, accounts by the thousand, an empty folder; that the others serve
a snapshot. Must not know: how a node takes it.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.chain import ChainStatus, SubmitParams, Submitted
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import Allocation, from_json
from prsm.protocol.ids import PublicKey
from prsm.testnet import launch
from prsm.testnet.asking import Asker, Door
from prsm.testnet.launch import NotInTime
from prsm.testnet.ledgers import TRANSACTIONS_EACH, fill
from prsm.testnet.orders import order, signer_of, transfer
from prsm.testnet.outages import BALANCE, NODES
from prsm.testnet.report import Screen

BATCH_SECONDS: Final = 120.0
JOIN_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 0.02
WIPED: Final = NODES - 1
BAR_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    accounts: int = 100_000
    seed: int = 0


def measure(options: Options, screen: Screen) -> dict[str, object]:
    """Fill a ledger, start one node without it, and wait until its root is the others'.

    Raises:
        LocalError: a number of accounts that cannot be made.
        PrsmError: the network did not come up, or the node did not catch up in ten minutes.
    """
    if not 1 <= options.accounts <= 10_000_000:
        raise LocalError(f"{options.accounts} accounts, at least 1 and at most 10,000,000")
    folder = Path(tempfile.mkdtemp(prefix="prsm-rejoin-"))
    try:
        return trio.run(_measure, options, screen, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(options: Options, screen: Screen, folder: Path) -> dict[str, object]:
    signer = signer_of(options.seed, 0)
    network = launch.create(
        folder / "net",
        NODES,
        funded=[Allocation(PublicKey(signer.public_key), BALANCE)],
        rig=launch.Rig(models=False),
    )
    doors = [Door(node.home) for node in network.nodes]
    others = [place for place in range(NODES) if place != WIPED]
    # The next block but one of those that run is due for a snapshot.
    blocks = options.accounts // TRANSACTIONS_EACH + 2
    due = (blocks // launch.SNAPSHOT_EVERY + 2) * launch.SNAPSHOT_EVERY  # far enough ahead
    began = time.monotonic()
    await fill(network, signer, accounts=options.accounts, height=due - 1, places=others)
    screen.step(f"{options.accounts} accounts in {time.monotonic() - began:.0f} s")
    try:
        for place in others:
            network.nodes[place].start()
        genesis = from_json(network.genesis.read_bytes())
        raw = order(genesis, signer, transfer(bytes(32), 1), nonce=options.accounts)
        await _submit(doors[0], raw)
        await _wait_snapshots([network.nodes[place] for place in others], due)
        screen.step(f"snapshots of height {due}")
        began = time.monotonic()
        network.nodes[WIPED].start()
        status = await _wait_level(doors)
        seconds = time.monotonic() - began
        taken = (network.nodes[WIPED].home.data / "snapshots" / str(due)).exists()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(network.stop)
    return {
        "accounts": options.accounts,
        "height": status.height,
        "by_snapshot": taken,
        "state_root": status.state_root,
        "equal_root": True,
        "seconds": round(seconds, 2),
    }


async def _wait_snapshots(nodes: Sequence[launch.Node], height: int) -> None:
    """Wait until each of them serves the snapshot of a height."""
    wanted = [node.home.data / "snapshots" / str(height) / "meta" for node in nodes]
    with trio.fail_after(BATCH_SECONDS):
        while not all(path.exists() for path in wanted):  # noqa: ASYNC110 - files of other processes
            await trio.sleep(LOOK_SECONDS)


async def _submit(door: Door, raw: bytes) -> None:
    """Hand a transaction in, as soon as somebody is there."""
    with trio.fail_after(BATCH_SECONDS):
        while True:
            asker = Asker(door)
            try:
                params = SubmitParams("0x" + raw.hex())
                await asker.call("chain_submitTransaction", params, result=Submitted)
            except (NodeUnreachable, RpcError):
                await trio.sleep(LOOK_SECONDS)
            else:
                return
            finally:
                asker.close()


async def _wait_level(doors: list[Door]) -> ChainStatus:
    """Wait until the wiped node stands where the others do, with their root.

    Raises:
        NotInTime: it does not come to that.
    """
    seen = ""
    with trio.move_on_after(JOIN_SECONDS):
        while True:
            try:
                here, there = [await _status(doors[place]) for place in (WIPED, 0)]
            except (NodeUnreachable, RpcError):
                await trio.sleep(LOOK_SECONDS)
                continue
            seen = f"height {here.height} of {there.height}"
            if here.height == there.height and here.state_root == there.state_root:
                return here
            await trio.sleep(LOOK_SECONDS)
    raise NotInTime(f"the wiped node stands at {seen or 'nothing'} after {JOIN_SECONDS:.0f} s")


async def _status(door: Door) -> ChainStatus:
    asker = Asker(door)
    try:
        return await asker.call("chain_getStatus", result=ChainStatus)
    finally:
        asker.close()


def failures(document: dict[str, object]) -> list[str]:
    """What of a document is above its bar."""
    match document:
        case {"accounts": int(accounts), "seconds": float(seconds)} if seconds > BAR_SECONDS:
            return [f"{seconds} s at {accounts} accounts, at most {BAR_SECONDS} s"]
    return []
