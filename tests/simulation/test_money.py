"""The serial model of the money sees what a wrong ledger would let through."""

from random import Random

import msgspec
import pytest

from prsm.protocol import merkle
from prsm.protocol.codec import encode
from prsm.protocol.genesis import TREASURY
from prsm.protocol.headers import Block
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.evidence import evidence_of
from prsm.testnet.sim.book import Book
from prsm.testnet.sim.clients import COUNT, Clients, allocations_of
from prsm.testnet.sim.invariants import Invariant
from prsm.testnet.sim.money import MoneyLedger
from prsm.testnet.sim.plan import Wish, draw
from prsm.testnet.sim.roster import Roster, genesis_of
from prsm.testnet.sim.signing import KeyedSigner, KeyedVerifier
from prsm.testnet.sim.stage import Bench
from prsm.testnet.sim.witness import Punishment
from prsm.testnet.sim.world import World

NOW_MS = 10_000


class Till:
    """A book, clients who write into it, and what it found."""

    def __init__(self) -> None:
        keys = [KeyedSigner(1, index) for index in range(4 + COUNT)]
        self.signers = keys[4:]
        self.verifier = KeyedVerifier(keys)
        self.genesis = genesis_of(
            draw(1), [[key] for key in keys[:4]], allocations_of(self.signers)
        )
        self.found: list[str] = []
        self.book = Book(self.genesis, self.verifier, self.found.append)
        self.clients = Clients(self.signers, self.genesis, Random(1))

    def enter(self, *transactions: bytes, height: int = 1) -> None:
        """Book a block of these."""
        block = Bench().block(transactions=transactions)
        header = msgspec.structs.replace(
            block.header, height=height, time_ms=NOW_MS, tx_root=merkle.root(transactions)
        )
        self.book.enter(Block(header, block.body))


def test_book_counts_fee_and_amount_once() -> None:
    till = Till()
    transactions = tuple(till.clients.order(NOW_MS)[0] for _ in range(30))
    till.enter(*transactions)
    till.enter(*transactions)  # the same height of another node
    assert till.found == []
    first, last = till.book.pages
    assert sum(first.values()) == sum(last.values())
    assert last[TREASURY] > 30_000


def test_book_names_a_transaction_that_stands_twice() -> None:
    till = Till()
    transaction = till.clients.order(NOW_MS)[0]
    till.enter(transaction)
    till.enter(transaction, height=2)
    assert till.found == ["a transaction of height 2 stands in two places"]


def test_book_names_every_poison() -> None:
    till = Till()
    for height in range(1, 81):
        till.enter(till.clients.poison(NOW_MS), height=height)
    assert len(till.found) == 80
    for word in ("is none", "not signed", "another chain", "out of turn", "expired", "its fee"):
        assert any(word in line for line in till.found), word


def test_book_compares_balances_and_supply() -> None:
    till = Till()
    ledger = MoneyLedger(till.genesis, till.verifier)
    till.book.compare(0, 0, ledger.ledger)
    assert till.found == []
    till.book.pages[0][till.signers[0].public_key] += 1
    till.book.pages[0][TREASURY] = 5
    till.book.compare(3, 0, ledger.ledger)
    assert len(till.found) == 2
    assert "node 3" in till.found[0]


@pytest.mark.slow
def test_runs_with_money_decide_transfers() -> None:
    decided = 0
    for seed in range(100):
        plan = draw(seed)
        if plan.has_money:
            world = World(plan)
            assert world.play().violations == []
            decided += len(world.book.seen)
    assert decided > 60


@pytest.mark.slow
def test_runs_with_money_punish_double_votes_once() -> None:
    punished = fatal = 0
    for seed in range(300):
        plan = draw(seed)
        if plan.has_money and plan.liars:
            world = World(plan)
            assert world.play().violations == []
            punished += len(world.punishment.punished)
            fatal += sum(is_fatal for _, _, is_fatal in world.punishment.punished)
            assert all(node in plan.liars for node, _, _ in world.punishment.punished)
    assert punished >= 8
    assert fatal >= 2


def test_punishment_names_what_is_punished_twice_and_what_never_is() -> None:
    bench = Bench()
    keys = [[KeyedSigner(0, index)] for index in range(4)]
    roster = Roster(genesis_of(draw(0, Wish(nodes=4)), keys), keys)
    found: list[tuple[Invariant, str]] = []
    watch = Punishment(roster, lambda *what: found.append(what), lambda node: node != 3)
    votes = [bench.sign(Kind.COMMIT, 3, bytes([n]) * 32) for n in (1, 2)]
    raw = encode(evidence_of(votes[0], votes[1]))
    for node in (0, 1, 3):
        watch.held(node, raw)
    block = bench.block(proposer=1)
    for height in range(1, 6):
        watch.enter(_at(block, height))
    assert [invariant for invariant, _ in found] == [Invariant.PUNISHMENT] * 2
    assert "node 3" in found[0][1]
    found.clear()
    for height in (6, 7):
        watch.enter(_at(block, height, raw))
    assert found == [(Invariant.PUNISHMENT, "node 3 is punished twice")]


def _at(block: Block, height: int, *evidence: bytes) -> Block:
    body = msgspec.structs.replace(block.body, evidence=evidence)
    return Block(msgspec.structs.replace(block.header, height=height), body)
