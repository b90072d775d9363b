"""A serial model of the money: each decided block booked once, in order, by rules of its own.

It reads bytes itself and computes fees itself: a wrong rule of the ledger must not blind it.
Knows: transfers. Source: docs/spec/ledger.md, "Transactions", "Fees".
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from prsm.consensus.ledger.apply import Ledger
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.genesis import TREASURY, Genesis
from prsm.protocol.headers import Block

WISHES = range(12, 17)  # kinds of transactions by which operators join, change and leave


@dataclass(slots=True)
class Book:
    """Balances after each height, and every transaction there ever was."""

    genesis: Genesis
    verifier: Verifier
    report: Callable[[str], None]
    nonces: dict[bytes, int] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    pages: list[dict[bytes, int]] = field(default_factory=list)
    bonds: dict[bytes, int] = field(default_factory=dict)  # now
    convicted: set[tuple[bytes, int]] = field(default_factory=set)  # operator, height
    # Who owns the stakes, where they move by transactions. What is theirs, and the treasury's, is
    # then no balance of the model: it counts in the supply only.
    operators: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        self.bonds = {each.operator: each.stake for each in self.genesis.validators}
        self.pages.append({entry.account: entry.amount for entry in self.genesis.allocations})

    def enter(self, block: Block) -> None:
        """Book the first decision of a height."""
        height = block.header.height
        if height < len(self.pages):
            return
        balances = dict(self.pages[-1])
        members = self.genesis.validators  # the set changes by operators only
        for raw in () if self.operators else block.body.evidence:
            self._punish(raw, balances, members[block.header.proposer].operator)
        for raw in block.body.transactions:
            wrong = self._book(raw, balances, block.header.time_ms)
            if wrong:
                self.report(f"a transaction of height {height} {wrong}")
        self.pages.append(balances)

    def compare(self, node: int, height: int, ledger: Ledger) -> None:
        """Has a node's ledger the balances of the model, and the supply of the genesis?"""
        view = ledger.view
        page = self.pages[height]
        moving = {*self.operators, TREASURY} if self.operators else set()
        for account, amount in page.items():
            found = view.account(account)
            if found != amount and account not in moving:
                self.report(f"node {node} has a balance of {found}, {amount} after {height}")
        owners = self.operators or tuple(each.operator for each in self.genesis.validators)
        supply = sum(map(view.account, {*page, *moving})) + sum(map(view.bond, owners))
        if supply != self.genesis.minted:
            self.report(f"node {node} holds {supply} of {self.genesis.minted} after {height}")

    def _punish(self, raw: bytes, balances: dict[bytes, int], reporter: bytes) -> None:
        """Book a penalty: once for an operator and a height, a share of it to the reporter."""
        first: list[Any] = msgspec.msgpack.decode(raw)[0]
        operator, height = self.genesis.validators[first[5]].operator, first[2]
        if (operator, height) in self.convicted:
            return
        self.convicted.add((operator, height))
        parameters = self.genesis.parameters
        penalty = self.bonds[operator] * parameters.slash_bps // 10_000
        reward = penalty * parameters.reporter_bps // 10_000
        self.bonds[operator] -= penalty
        balances[reporter] = balances.get(reporter, 0) + reward
        balances[TREASURY] = balances.get(TREASURY, 0) + penalty - reward

    def _book(self, raw: bytes, balances: dict[bytes, int], time_ms: int) -> str:
        """Book one transaction; return what forbids it, or nothing."""
        digest = hashlib.sha256(raw).digest()
        if digest in self.seen:
            return "stands in two places"
        self.seen.add(digest)
        try:
            parts: list[Any] = msgspec.msgpack.decode(raw)
            _, chain, kind, sender, nonce, fee, payload, until_ms, signature = parts
            is_wish = sender in self.operators and kind in WISHES
            _, to, amount, _ = (0, b"", 0, b"") if is_wish else msgspec.msgpack.decode(payload)
        except (msgspec.DecodeError, ValueError):
            return "is none"
        signed = b"prsm1tx" + msgspec.msgpack.encode(parts[:-1])
        if not self.verifier.verify(sender, signed, signature):
            return "is not signed by its sender"
        parameters = self.genesis.parameters
        least = parameters.fee_base + parameters.fee_per_byte * len(raw)
        is_poor = not is_wish and balances.get(sender, 0) < fee
        for forbidden, what in (
            (chain != self.genesis.chain_id, "is of another chain"),
            (nonce != self.nonces.get(sender, 0), "is out of turn"),
            (time_ms > until_ms, "had expired"),
            (fee < least + parameters.fee_per_operation, "pays too little"),
            (is_poor, "cannot pay its fee"),
        ):
            if forbidden:
                return what
        self.nonces[sender] = nonce + 1
        if is_wish:
            return ""
        balances[sender] -= fee
        balances[TREASURY] = balances.get(TREASURY, 0) + fee
        if balances[sender] >= amount:
            balances[sender] -= amount
            balances[to] = balances.get(to, 0) + amount
        return ""
