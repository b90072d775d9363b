"""What every node of a network shows when it is asked at the end: one height, all blocks, bans.

Knows: the public methods, on a trio loop. Must not know: what is made of the answers.
"""

from collections.abc import Sequence
from typing import Final

import trio

from prsm.node.rpc.methods.chain import (
    CertifiedBlocks,
    CertifiedParams,
    ChainStatus,
    TransactionReceipt,
    TxParams,
    Validators,
)
from prsm.node.rpc.methods.node import NodeStatus, Peers
from prsm.protocol.codec import decode
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.transactions.results import TxReceipt
from prsm.testnet.asking import Asker, Door
from prsm.testnet.processes import NotInTime

SETTLE_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.05


async def settle(doors: Sequence[Door]) -> int:
    """Wait until all nodes stand at one height with nothing left to do.

    Raises:
        NotInTime: they do not come to one height.
        NodeUnreachable: one does not answer.
    """
    deadline = trio.current_time() + SETTLE_SECONDS
    while True:
        found = [await _status(door) for door in doors]
        if len({each.height for each in found}) == 1 and not any(each.mempool for each in found):
            return found[0].height
        if trio.current_time() > deadline:
            where = ", ".join(f"{each.height} ({each.mempool} waiting)" for each in found)
            raise NotInTime(f"the nodes stand at heights {where}")
        await trio.sleep(LOOK_SECONDS)


async def _status(door: Door) -> ChainStatus:
    asker = Asker(door)
    try:
        return await asker.call("chain_getStatus", result=ChainStatus)
    finally:
        asker.close()


async def export(door: Door, height: int) -> list[bytes]:
    """All blocks up to a height, with their certificates; empty bytes for those not kept there.

    A node that took a snapshot has no blocks below it.
    """
    asker = Asker(door)
    blocks: list[bytes] = []
    try:
        while len(blocks) < height:
            page = await _page(asker, len(blocks) + 1, height)
            if page:
                blocks += page
            else:
                first = await _first_kept(asker, len(blocks) + 1, height)
                blocks += [b""] * (first - 1 - len(blocks))
    finally:
        asker.close()
    return blocks


async def _page(asker: Asker, first: int, last: int) -> list[bytes]:
    params = CertifiedParams(first=first, last=last)
    page = await asker.call("chain_getCertified", params, result=CertifiedBlocks)
    return [bytes.fromhex(item[2:]) for item in page.items]


async def _first_kept(asker: Asker, missing: int, last: int) -> int:
    """The lowest height whose block is there, by halves: from it on all are."""
    kept = last
    while missing + 1 < kept:
        middle = (missing + kept) // 2
        if await _page(asker, middle, middle):
            kept = middle
        else:
            missing = middle
    return kept


async def stopped(name: str, door: Door) -> list[str]:
    """Why a node votes no more, if it does not."""
    asker = Asker(door)
    try:
        status = await asker.call("node_getStatus", result=NodeStatus)
    finally:
        asker.close()
    return [
        f"{name}: {part.name} {part.state}: {part.why}"
        for part in status.parts
        if part.name == "consensus" and part.state != "running"
    ]


async def banned(door: Door) -> list[str]:
    """Peer ids that a node has banned."""
    asker = Asker(door)
    try:
        return [each.peer_id for each in (await asker.call("net_getPeers", result=Peers)).banned]
    finally:
        asker.close()


async def members(door: Door) -> list[str]:
    """Peer ids of the validators of the current epoch."""
    asker = Asker(door)
    try:
        found = await asker.call("consensus_getValidators", result=Validators)
    finally:
        asker.close()
    return [item.peer_id for item in found.items]


async def receipts(door: Door, tx_ids: Sequence[bytes]) -> list[TxReceipt]:
    """How committed transactions ended."""
    asker = Asker(door)
    found = []
    try:
        for tx_id in tx_ids:
            params = TxParams("0x" + tx_id.hex())
            row = await asker.call("chain_getReceipt", params, result=TransactionReceipt)
            raw = bytes.fromhex(row.receipt[2:])
            found.append(decode(raw, TxReceipt, size_max=TRANSACTION_BYTES_MAX))
    finally:
        asker.close()
    return found
