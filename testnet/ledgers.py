"""A ledger filled before its network starts: every block executed, certified by the homes' keys.

For measurements with more accounts than a genesis holds, which a network would take minutes to
make. Knows: homes of a network that does not run, ledger files, sign logs. Must not know: how the
nodes agree later.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import trio

from prsm.node.chain.chain import read_ledger
from prsm.node.chain.history import epoch_header_of, stored_block
from prsm.node.chain.signfiles import open_signfiles
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.genesis import Genesis, from_json
from prsm.protocol.limits import BLOCK_TRANSACTIONS_MAX
from prsm.protocol.signing import sha256
from prsm.storage.database import copy_database
from prsm.storage.disk import PosixDisk
from prsm.storage.keystore import load_seed
from prsm.storage.ledger import LedgerStore
from prsm.testnet.chain import Chain
from prsm.testnet.launch import Network, Node
from prsm.testnet.orders import order, transfer

TRANSACTIONS_EACH: Final = BLOCK_TRANSACTIONS_MAX  # of 200 bytes: below the bound of a body
STEP_MS: Final = 1  # between blocks: none may lie in the nodes' future


async def fill(
    network: Network, signer: Ed25519Signer, *, accounts: int, height: int, places: Sequence[int]
) -> None:
    """Make a ledger with new accounts and give it to nodes that never ran.

    Args:
        network: not started.
        signer: owns what the accounts get, in the genesis.
        accounts: paid one micro-FTNS each.
        height: of the ledger; blocks behind the payments are empty.
        places: of the nodes that get it; they may sign above it.
    """
    genesis = from_json(network.genesis.read_bytes())
    nodes = [network.nodes[place] for place in places]
    first = nodes[0].home.data / "ledger.db"
    await _execute(first, genesis, network.nodes, _payments(genesis, signer, accounts), height)
    for node in nodes:
        if node is not nodes[0]:
            target = node.home.data / "ledger.db"
            await trio.to_thread.run_sync(copy_database, first, target)
        opened = open_signfiles(PosixDisk(), node.home.data, ledger_height=height)
        try:
            await trio.to_thread.run_sync(opened.files.renew, height + 1)
        finally:
            opened.files.close()


async def _execute(
    path: Path,
    genesis: Genesis,
    nodes: Sequence[Node],
    payments: Iterator[bytes],
    height: int,
) -> None:
    store = await LedgerStore.open(path)
    try:
        ledger, _ = await read_ledger(store, genesis)
        chain = Chain(genesis, ledger)
        seeds = [load_seed(node.home.consensus_key) for node in nodes]
        chain.signers = {key.public_key: key for key in map(Ed25519Signer, seeds)}
        while ledger.height < height:
            batch = [raw for _, raw in zip(range(TRANSACTIONS_EACH), payments, strict=False)]
            await _commit(store, chain, batch)
            if ledger.height % 10 == 0:
                await store.checkpoint()
        assert next(payments, None) is None, "more payments than blocks"
    finally:
        with trio.CancelScope(shield=True):
            await store.close()


async def _commit(store: LedgerStore, chain: Chain, batch: Sequence[bytes]) -> None:
    epoch = chain.ledger.epoch
    made = await trio.to_thread.run_sync(lambda: chain.add(*batch, step_ms=STEP_MS))
    outcome = made.outcome
    await store.commit(
        stored_block(made.block, made.certificate, outcome.receipts),
        changes=outcome.changes,
        tx_ids=outcome.tx_ids,
        epoch=epoch_header_of(epoch, made.block.header, made.certificate),
    )


def _payments(genesis: Genesis, signer: Ed25519Signer, accounts: int) -> Iterator[bytes]:
    for number in range(accounts):
        to = sha256(b"prsm rejoin", number.to_bytes(8, "big"))
        yield order(genesis, signer, transfer(to, 1), nonce=number)
