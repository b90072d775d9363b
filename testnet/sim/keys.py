"""Who signs with what in a run: nodes, accounts that send money, owners of stakes.

Knows: the plan's counts. Must not know: what is signed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier, Signer, Verifier
from prsm.protocol.signing import sha256
from prsm.testnet.sim.clients import COUNT as ACCOUNTS
from prsm.testnet.sim.plan import KEYS, Plan
from prsm.testnet.sim.signing import KeyedSigner, KeyedVerifier


@dataclass(frozen=True, slots=True)
class Keys:
    """Of each node; of the accounts that send money; of who owns the stakes; what knows all."""

    nodes: list[list[Signer]]
    accounts: list[Signer]
    operators: list[Signer]
    verifier: Verifier


def keys_of(plan: Plan) -> Keys:
    """Make the keys of a run: keyed hashes, or real ones in one run of a hundred."""
    nodes = len(plan.stakes) + plan.spares
    each = KEYS if plan.later or plan.has_operators else 1
    accounts = nodes * each + (ACCOUNTS if plan.has_money else 0)
    indexes = range(accounts + (nodes if plan.has_operators else 0))
    made: Sequence[Signer]
    verifier: Verifier
    if plan.is_ed25519:
        seeds = [sha256(b"sim key %d %d" % (plan.seed, index)) for index in indexes]
        made, verifier = [Ed25519Signer(seed) for seed in seeds], Ed25519Verifier()
    else:
        keyed = [KeyedSigner(plan.seed, index) for index in indexes]
        made, verifier = keyed, KeyedVerifier(keyed)
    keys = [list(made[node * each : (node + 1) * each]) for node in range(nodes)]
    return Keys(keys, list(made[nodes * each : accounts]), list(made[accounts:]), verifier)
