"""What must hold on any network, asked of every node over JSON-RPC: one chain, one root, all money.

Knows: the public methods. Must not know: how a node comes to its answers. The demo and the
tests judge with this code, none of which runs in a node.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prsm.node.rpc.methods.chain import (
    BlockInfo,
    BlockParams,
    ChainStatus,
    Supply,
    Validators,
)
from prsm.node.rpc.methods.wallet import AccountParams, Balance
from prsm.protocol.genesis import TREASURY, Genesis
from prsm.protocol.ids import address_text
from prsm.testnet.launch import Network, Node, NotInTime, nap

SETTLE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """What all nodes said at one height."""

    height: int
    nodes: int
    state_root: str
    same_state_root: bool
    supply_conserved: bool
    balances: dict[str, int]  # account -> micro-FTNS, alike on every node


def check(network: Network, genesis: Genesis) -> Agreement:
    """Ask every running node until all stand at one height, and compare what they say.

    Raises:
        NotInTime: they do not come to one height, or blocks go on coming.
    """
    nodes = [node for node in network.nodes if node.is_running()]
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        status = _meet(nodes)
        agreement = _compare(nodes, status, genesis)
        # A block of evidence may come at any time: what was read before and after it is no fault.
        after = [_status(node) for node in nodes]
        if [s.head_hash for s in after] == [s.head_hash for s in status]:
            return agreement
        if time.monotonic() > deadline:
            raise NotInTime(f"the nodes did not rest at height {agreement.height}")


def _compare(nodes: Sequence[Node], status: Sequence[ChainStatus], genesis: Genesis) -> Agreement:
    roots = {item.state_root for item in status}
    heads = {item.head_hash for item in status}
    accounts = _accounts(genesis)
    seen = [_balances(node, accounts) for node in nodes]
    supplies = [_supply(node) for node in nodes]
    return Agreement(
        height=status[0].height,
        nodes=len(nodes),
        state_root=status[0].state_root,
        same_state_root=len(roots) == 1 and len(heads) == 1,
        supply_conserved=all(_is_conserved(supply, genesis) for supply in supplies)
        and all(other == seen[0] for other in seen),
        balances=seen[0],
    )


def check_chain(network: Network) -> int:
    """Compare every block of every running node; returns the common height.

    Raises:
        AssertionError: two nodes have different blocks at one height.
    """
    nodes = [node for node in network.nodes if node.is_running()]
    height = min(_status(node).height for node in nodes)
    for each in range(1, height + 1):
        hashes = set()
        for node in nodes:
            with node.client() as client:
                block = client.call("chain_getBlock", BlockParams(height=each), result=BlockInfo)
            hashes.add(block.hash)
        assert len(hashes) == 1, f"fork at height {each}"
    return height


def _meet(nodes: Sequence[Node]) -> list[ChainStatus]:
    """Statuses of all nodes at one height, with nothing left to settle."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        status = [_status(node) for node in nodes]
        if len({item.height for item in status}) == 1 and not any(s.mempool for s in status):
            return status
        if time.monotonic() > deadline:
            heights = ", ".join(str(item.height) for item in status)
            raise NotInTime(f"the nodes stand at heights {heights}")
        nap()


def _status(node: Node) -> ChainStatus:
    with node.client() as client:
        return client.call("chain_getStatus", result=ChainStatus)


def _accounts(genesis: Genesis) -> list[str]:
    keys = [item.account for item in genesis.allocations]
    keys += [validator.operator for validator in genesis.validators]
    return list(dict.fromkeys(address_text(key) for key in [*keys, TREASURY]))


def _balances(node: Node, accounts: Sequence[str]) -> dict[str, int]:
    balances = {}
    with node.client() as client:
        for account in accounts:
            found = client.call("account_getBalance", AccountParams(account), result=Balance)
            balances[account] = int(found.balance)
    return balances


def _supply(node: Node) -> Supply:
    with node.client() as client:
        return client.call("chain_getSupply", result=Supply)


def _is_conserved(supply: Supply, genesis: Genesis) -> bool:
    parts = (supply.accounts, supply.locked, supply.bonded, supply.burnt)
    return int(supply.minted) == genesis.minted == sum(int(part) for part in parts)


def validators_hash(node: Node) -> tuple[int, str]:
    """Epoch and hash of the validator set, the way `verify_receipt.py --trust` wants them."""
    with node.client() as client:
        found = client.call("consensus_getValidators", result=Validators)
    return found.epoch, found.validators_hash
