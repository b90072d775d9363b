"""Operators of a run's nodes: they join, weigh more or less, rotate keys, leave, by transactions.

Whatever part of what they ask for is granted, in whatever order, the faulty nodes of the plan
stay below a third of each set. Knows: membership, keys, who is faulty. Must not know: agreement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from prsm.consensus.ledger.fees import fee_to_offer
from prsm.consensus.ledger.view import View
from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Signer
from prsm.protocol.genesis import Genesis
from prsm.protocol.transactions.envelope import Transaction, sign_transaction
from prsm.protocol.transactions.membership import (
    Join,
    Leave,
    Rotate,
    Stake,
    Withdraw,
    prove_possession,
)
from prsm.protocol.transactions.payloads import JOIN, LEAVE, ROTATE, STAKE, WITHDRAW
from prsm.protocol.validators import ValidatorSet
from prsm.testnet.sim.plan import STAKE_MAX, STAKE_UNIT, Plan, faulty_of, index_of, peer_of

VALID_MS: Final = 3_600_000
HONEST_MIN: Final = 3  # members that never ask to leave


@dataclass(slots=True)
class Operators:
    """What each operator has asked for, at worst."""

    plan: Plan
    genesis: Genesis
    signers: Sequence[Signer]  # who owns the stake of each node
    keys: Sequence[Sequence[Signer]]  # consensus keys of each node
    dice: Random
    nonces: list[int] = field(init=False)
    least: list[int] = field(init=False)  # what a node weighs at least, in units
    most: list[int] = field(init=False)
    turned: list[int] = field(init=False)  # its last key
    faulty: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.signers)
        spares = [0] * self.plan.spares
        self.nonces, self.turned = [0] * count, [0] * count
        self.least, self.most = [*self.plan.stakes, *spares], [*self.plan.stakes, *spares]
        self.faulty = faulty_of(self.plan)

    def order(self, now_ms: int) -> bytes:
        """Return the next transaction of one of them."""
        node = self.dice.randrange(len(self.signers))
        kind, payload = self._ask(node)
        return self._signed(node, kind, payload, now_ms + VALID_MS)

    def wrong_in(
        self, validators: ValidatorSet, view: View, guilty: frozenset[int] = frozenset()
    ) -> str:
        """Say what is wrong with a set of now or next, or nothing; `guilty` were punished."""
        total = faulty = 0
        for member in validators.validators:
            total += member.stake
            node = index_of(member.peer_id)
            faulty += member.stake if node in self.faulty else 0
            if member.operator != self.signers[node].public_key:
                return f"node {node} is a member for another operator"
            if node not in guilty and member.stake > view.bond(member.operator):
                return f"node {node} weighs {member.stake} of {view.bond(member.operator)} bonded"
        return "the faulty hold a third of it" if 3 * faulty >= total else ""

    def _ask(self, node: int) -> tuple[int, Record]:
        """Choose what an operator asks for; a withdrawal where nothing else may be asked."""
        units, is_new = self.dice.randint(1, STAKE_MAX), node >= len(self.plan.stakes)
        match self.dice.randrange(5):
            case 0 if is_new or self.most[node] == 0:
                return self._join(node, units)
            case 0 | 1 if self._may_weigh(node, units):
                return STAKE, Stake(units * STAKE_UNIT)
            case 2 if self._may_weigh(node, 0):
                return LEAVE, Leave()
            case 3:
                return self._rotate(node)
            case _:
                return WITHDRAW, Withdraw()

    def _may_weigh(self, node: int, units: int) -> bool:
        """Note a wish, unless the faulty could reach a third by it."""
        if node in self.faulty:
            return units <= self.most[node]
        least = list(self.least)
        least[node] = min(least[node], units)
        honest = [each for index, each in enumerate(least) if index not in self.faulty]
        faulty = sum(self.most[index] for index in sorted(self.faulty))
        stay = sum(1 for each in honest if each)
        if 3 * faulty >= faulty + sum(honest) or stay < HONEST_MIN:
            return False
        self.least = least
        return True

    def _join(self, node: int, units: int) -> tuple[int, Record]:
        key, proof = self._next_key(node)
        return JOIN, Join(key, peer_of(node), units * STAKE_UNIT, proof)

    def _rotate(self, node: int) -> tuple[int, Record]:
        key, proof = self._next_key(node)
        return ROTATE, Rotate(key, peer_of(node), proof)

    def _next_key(self, node: int) -> tuple[bytes, bytes]:
        """Take the next key, or the last one again, which is refused; prove to have it."""
        self.turned[node] = min(self.turned[node] + 1, len(self.keys[node]) - 1)
        signer = self.keys[node][self.turned[node]]
        operator = self.signers[node].public_key
        return signer.public_key, prove_possession(signer, self.genesis.chain_id, operator)

    def _signed(self, node: int, kind: int, payload: Record, until_ms: int) -> bytes:
        signer, nonce = self.signers[node], self.nonces[node]
        self.nonces[node] += 1
        args = (1, self.genesis.chain_id, kind, signer.public_key, nonce)
        content = encode(payload)
        draft = Transaction(*args, 0, content, until_ms, bytes(64))
        fee = fee_to_offer(self.genesis.parameters, draft, payload)
        priced = Transaction(*args, fee, content, until_ms, bytes(64))
        return encode(sign_transaction(priced, signer))
