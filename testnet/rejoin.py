"""A node that lost its disk comes back: how long until it has the others' state.

Knows: a network of real daemons, accounts by the thousand, an empty folder. Must not know: how a
node catches up, by blocks or by a snapshot.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.chain import ChainStatus, SubmitParams, Submitted
from prsm.protocol.errors import LocalError
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.envelope import transaction_id
from prsm.testnet.asking import Asker, Door
from prsm.testnet.launch import NotInTime
from prsm.testnet.orders import order, signer_of, transfer
from prsm.testnet.outages import NODES, Lab, lab
from prsm.testnet.report import Screen

SENDERS: Final = 64
BATCH: Final = 48  # transfers of a sender under way: its queue at a node holds 64
BATCH_SECONDS: Final = 60.0
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
    """Fill a ledger, wipe one node's data, start it, and wait until its root is the others'.

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
    async with lab(folder / "net", seed=options.seed, accounts=SENDERS) as running:
        began = time.monotonic()
        todo = iter(range(options.accounts))
        async with trio.open_nursery() as senders:
            for number in range(SENDERS):
                senders.start_soon(_fill, running, number, todo)
        screen.step(f"{options.accounts} accounts in {time.monotonic() - began:.0f} s")
        await running.kill(WIPED)
        data = running.network.nodes[WIPED].home.data
        shutil.rmtree(data)
        data.mkdir(mode=0o700)
        began = time.monotonic()
        running.network.nodes[WIPED].start()
        status = await _wait_level(running.doors)
        seconds = time.monotonic() - began
    return {
        "accounts": options.accounts,
        "height": status.height,
        "transactions": status.transactions,
        "state_root": status.state_root,
        "equal_root": True,
        "seconds": round(seconds, 2),
    }


async def _fill(running: Lab, number: int, todo: Iterator[int]) -> None:
    """Pay new accounts, a batch at a time, until none is left to be made."""
    signer, place, nonce = signer_of(running.seed, number), number % NODES, 0
    watch, asker = running.watches[place], Asker(running.doors[place])
    while batch := [each for _, each in zip(range(BATCH), todo, strict=False)]:
        shown = trio.Event()
        for each in batch:
            to = sha256(b"prsm rejoin", each.to_bytes(8, "big"))
            raw = order(running.genesis, signer, transfer(to, 1), nonce=nonce)
            nonce += 1
            shown = watch.expect(transaction_id(raw))
            await _submit(asker, raw)
        with trio.fail_after(BATCH_SECONDS):
            await shown.wait()
    asker.close()


async def _submit(asker: Asker, raw: bytes) -> None:
    params = SubmitParams("0x" + raw.hex())
    with trio.fail_after(BATCH_SECONDS):
        while True:
            try:
                await asker.call("chain_submitTransaction", params, result=Submitted)
            except RpcError as refusal:
                if refusal.reason != "mempool_full":
                    raise
                await trio.sleep(LOOK_SECONDS)
            else:
                return


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
