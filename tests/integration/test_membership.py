"""The set of validators changes by transactions while the chain goes on, on real drivers."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from prsm.node.chain.chain import ChainParts
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.genesis import Parameters
from prsm.protocol.transactions.membership import (
    Join,
    Leave,
    Rotate,
    Withdraw,
    prove_possession,
)
from prsm.protocol.transactions.payloads import PAYLOADS
from prsm.protocol.transactions.results import Code
from prsm.protocol.validators import ValidatorSet
from tests.tools.labs import MICRO, STAKE, Cluster, Lab, make_cluster

_FAST = Parameters(
    tree_bits=6, epoch_ms=1_000, unbonding_ms=2_000, heartbeat_block_ms=100, stake_min=MICRO
)


async def _done(node: ChainParts, payload: Record) -> None:
    tx = await node.wallet.submit(PAYLOADS.number(type(payload)), payload)
    result = await node.wallet.wait_committed(tx)
    assert result.receipt.code is Code.DONE, result.receipt.code.name


async def _wait_set(node: ChainParts, is_there: Callable[[ValidatorSet], bool]) -> None:
    """Wait until the set of the next height is such."""
    while not is_there(node.driver.validators):
        await node.driver.wait_head()


async def _wait_key(node: ChainParts, consensus: bytes) -> None:
    await _wait_set(node, lambda found: found.index_of(consensus) is not None)


async def _wait_signature(node: ChainParts, consensus: bytes) -> None:
    """Wait until a consensus key stands in a certificate of this node's chain."""
    while True:
        tip = node.driver.state.tip
        index = tip.certifiers.index_of(consensus)
        if tip.certificate and index in tip.certificate.signer_indexes():
            return
        await node.driver.wait_head()


async def _join_and_rotate(cluster: Cluster, nodes: list[ChainParts]) -> list[bytes]:
    """Lab 4 joins, lab 1 brings another key; returned are both, once every set names them."""
    labs, chain_id = cluster.labs, cluster.genesis.chain_id
    newcomer = Ed25519Signer(labs[4].consensus_seed)
    rotated = Ed25519Signer(bytes(range(32)))
    proof = prove_possession(newcomer, chain_id, labs[4].wallet.public_key)
    await _done(nodes[4], Join(newcomer.public_key, labs[4].peer, STAKE, proof))
    watched = nodes[2]
    assert watched.driver.validators.index_of(newcomer.public_key) is None, "not at once"
    proof = prove_possession(rotated, chain_id, labs[1].wallet.public_key)
    nodes[1].driver.sign_with(rotated)
    await _done(nodes[1], Rotate(rotated.public_key, labs[1].peer, proof))
    keys: list[bytes] = [newcomer.public_key, rotated.public_key]
    for key in keys:
        await _wait_key(watched, key)
    assert watched.driver.validators.total == 5 * STAKE
    return keys


async def _leave(cluster: Cluster, node: ChainParts, lab: Lab) -> None:
    """Leave, wait for the end of the unbonding period, take the money out."""
    ledger = node.driver.ledger
    epoch = ledger.epoch.number
    await _done(node, Leave())
    await _wait_set(node, lambda found: len(found) == 4)
    assert ledger.epoch.number >= epoch + 2, "two sets were fixed"
    operator = lab.wallet.public_key
    before, bond = ledger.view.account(operator), ledger.view.membership(operator)
    assert bond is not None
    assert [part.amount for part in bond.leaving] == [STAKE]
    while ledger.tip.time_ms < bond.leaving[0].release_ms:
        await node.driver.wait_head()
    await _done(node, Withdraw())
    assert before + STAKE - MICRO < ledger.view.account(operator) < before + STAKE
    assert ledger.view.supply().minted == cluster.genesis.minted


@pytest.mark.slow
async def test_validators_join_rotate_leave_and_take_their_money_out(tmp_path: Path) -> None:
    """A newcomer's vote becomes needed, a rotated key's too; who left is paid after unbonding."""
    cluster = make_cluster(tmp_path, others=1, parameters=_FAST, balance=2 * STAKE)
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            others = [await stack.enter_async_context(cluster.node(i)) for i in range(1, 5)]
            async with cluster.node(0) as zero:
                keys = await _join_and_rotate(cluster, [zero, *others])
            # Four of five weigh 4,000 of 5,000, a quorum is 3,334: now each of them is needed.
            for key in keys:
                await _wait_signature(others[1], key)
            await _leave(cluster, others[1], cluster.labs[2])
            height = others[1].driver.ledger.height
            for node in others:
                await node.driver.wait_height(height)
                assert not node.driver.stopped
