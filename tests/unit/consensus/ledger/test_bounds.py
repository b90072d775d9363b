"""Each parameter at both of its ends: the chain goes on, and what was voted can be undone."""

from typing import Final

import msgspec
import pytest

from prsm.consensus.ledger.apply import Ledger
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import (
    UNBONDING_MS_MAX,
    BadGenesis,
    Genesis,
    Parameters,
    from_json,
    to_json,
)
from prsm.protocol.governance import GOVERNED, Category, Rules
from prsm.protocol.headers import Block
from prsm.protocol.limits import BLOCK_BYTES_MAX, INT_MAX
from prsm.protocol.receipts import WorkReceipt
from prsm.protocol.transactions.audits import Dispute, Pledge
from prsm.protocol.transactions.governance import Ballot, Enact, Propose, proposal_id
from prsm.protocol.transactions.membership import Leave
from prsm.protocol.transactions.payloads import Lock, Transfer
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import FTNS, Chain, small_genesis
from prsm.testnet.jobs import REQUESTER, Work, commit_of, lock_of, open_job, unit_of
from tests.tools.audited import BOND, PRICE, WORKER
from tests.tools.decisions import SMALL, YES, found, proposal_of, wait_until
from tests.tools.members import done, key

OPERATORS: Final = (32, 33, 34, 35)
GENESIS: Final = small_genesis(
    stakes=(400 * FTNS, 300 * FTNS, 200 * FTNS, 100 * FTNS), parameters=SMALL
)
HUNDREDTH: Final = GENESIS.minted // 100
EPOCH_MS_MAX: Final = UNBONDING_MS_MAX // 2
# Ends that hang on another parameter, on the money there is, or on the members.
ENDS: Final = {
    "epoch_ms": (1_000, EPOCH_MS_MAX),
    "unbonding_ms": (2_000, UNBONDING_MS_MAX),
    "proposal_deposit": (0, HUNDREDTH),
    "vote_min": (0, 300 * FTNS),
    "operator_cap": (SMALL.vote_min, INT_MAX // 4),
}
TOGETHER: Final = {
    ("epoch_ms", EPOCH_MS_MAX): ("unbonding_ms", UNBONDING_MS_MAX),
    ("unbonding_ms", 2_000): ("epoch_ms", 1_000),
    ("unbonding_ms", UNBONDING_MS_MAX): ("epoch_ms", EPOCH_MS_MAX),
}
# What a genesis document decides for good.
FIXED: Final = (
    "time_ms",
    *(
        name
        for name in Parameters.__struct_fields__
        if name not in GOVERNED and isinstance(getattr(SMALL, name), int)
    ),
)
# Whoever disputes is told so; the network goes on, and another vote lets it again.
DISPUTES: Final = {
    ("audit_window_ms", 0): Code.TOO_LATE,
    ("case_deposit", 10**18): Code.INSUFFICIENT_FUNDS,
}


def ends_of(name: str) -> tuple[int, int]:
    """The bounds a genesis document has, or those above."""
    head, _, rule = name.partition(".")
    shape: type[Record] = Rules if rule else Genesis if head == "time_ms" else Parameters
    read = msgspec.inspect.type_info(shape)
    assert isinstance(read, msgspec.inspect.StructType)
    (bound,) = (each.type for each in read.fields if each.name == (rule or head))
    assert isinstance(bound, msgspec.inspect.IntType)
    least, most = bound.ge, bound.le
    return ENDS.get(name) or (0 if least is None else least, INT_MAX if most is None else most)


def value_of(parameters: Parameters, name: str) -> int:
    """The value of `name` or `category.rule`."""
    found_part: object = parameters
    for part in name.split("."):
        found_part = getattr(found_part, part)
    assert isinstance(found_part, int)
    return found_part


def send(chain: Chain, sender: int, payload: Record) -> Code:
    """Commit a transaction that lives as long as a wallet's."""
    made = chain.add(chain.order(sender, payload, ahead_ms=600_000), step_ms=1)
    return made.receipts()[0].code


def bound_work(chain: Chain) -> tuple[Lock, WorkReceipt]:
    """Work of one worker nobody compares with, bound to its receipt."""
    lock = lock_of("alone", unit_of(workers=(WORKER,), price=PRICE))
    done(send(chain, WORKER, Pledge(BOND)))
    open_job(chain, lock)
    receipt = Work(WORKER).receipt(chain, lock)
    done(send(chain, WORKER, commit_of(lock, receipt)))
    return lock, receipt


def proposed(chain: Chain, payload: Propose) -> bytes:
    done(send(chain, 66, payload))
    return proposal_id(chain.genesis.chain_id, key(66), payload)


def decide(chain: Chain, *changes: tuple[str, int]) -> Code:
    """Propose, let every elector say yes, and enact."""
    salt = chain.ledger.height.to_bytes(32, "big")
    payload = proposal_of(*changes, category=Category.CONSTITUTIONAL, salt=salt)
    proposal = proposed(chain, payload)
    record = found(chain, proposal)
    numbers = {key(number): number for number in OPERATORS}
    for elector in record.electors:
        done(send(chain, numbers[elector.operator], Ballot(proposal, YES)))
    wait_until(chain, record.enacts_ms)
    return send(chain, 67, Enact(proposal))


def genesis_with(name: str, value: int) -> Genesis:
    """A genesis document as it is read that has one value, which no vote decides."""
    if name == "time_ms":
        return from_json(to_json(msgspec.structs.replace(GENESIS, time_ms=value)))
    parameters = msgspec.structs.replace(SMALL, **{name: value})
    base, cap = parameters.timeout_base_ms, parameters.timeout_cap_ms
    if name == "timeout_base_ms":
        parameters = msgspec.structs.replace(parameters, timeout_cap_ms=max(base, cap))
    if name == "timeout_cap_ms":
        parameters = msgspec.structs.replace(parameters, timeout_base_ms=min(base, cap))
    return from_json(to_json(msgspec.structs.replace(GENESIS, parameters=parameters)))


@pytest.mark.parametrize("name", FIXED)
def test_no_genesis_document_has_a_value_beyond_an_end(name: str) -> None:
    least, most = ends_of(name)
    for value in (least - 1, most + 1, INT_MAX):
        with pytest.raises(BadGenesis):
            genesis_with(name, value)


@pytest.mark.parametrize(
    ("name", "value"), [(name, end) for name in FIXED for end in ends_of(name)]
)
def test_chain_goes_on_at_each_end_of_what_no_vote_decides(name: str, value: int) -> None:
    """Also if a proposer puts its block as far ahead of all clocks as it may."""
    genesis = genesis_with(name, value)
    chain = Chain(genesis)
    window, gap = genesis.parameters.clock_window_ms, genesis.parameters.block_gap_min_ms
    for _ in range(3):
        wall_ms = chain.ledger.tip.time_ms
        block = chain.propose(step_ms=window)
        assert chain.ledger.judge(block, wall_ms=wall_ms) is None
        chain.add(step_ms=window)
        signed = chain.order(64, Transfer(0, key(90), 1, b""), ahead_ms=600_000 - window)
        made = chain.add(signed, step_ms=max(1, gap))
        assert made.receipts()[0].code is Code.DONE
        assert decode(encode(made.block), Block, size_max=BLOCK_BYTES_MAX) == made.block
    tip, state = chain.ledger.tip, dict(chain.ledger._state)
    Ledger(genesis, state, verifier=Ed25519Verifier(), tip=tip)


@pytest.mark.parametrize("name", GOVERNED)
def test_nothing_beyond_an_end_is_put_to_the_vote(name: str) -> None:
    chain = Chain(GENESIS)
    least, most = ends_of(name)
    for value in (least - 1, most + 1, INT_MAX):
        if value >= 0:
            payload = proposal_of((name, value), category=Category.CONSTITUTIONAL)
            assert send(chain, 66, payload) is Code.BAD_VALUE


def test_a_vote_is_checked_against_the_members_there_are_when_it_takes_effect() -> None:
    chain = Chain(GENESIS)
    payload = proposal_of(("vote_min", 300 * FTNS), category=Category.CONSTITUTIONAL)
    proposal = proposed(chain, payload)
    for operator in (32, 33):
        done(send(chain, operator, Ballot(proposal, YES)))
    done(send(chain, 33, Leave()))
    while key(33) in chain.ledger.view.roster():
        chain.add(step_ms=101)
    wait_until(chain, found(chain, proposal).enacts_ms)
    assert send(chain, 67, Enact(proposal)) is Code.BAD_VALUE
    assert chain.ledger.parameters == SMALL


def test_who_cannot_vote_already_keeps_nobody_from_lowering_the_least_weight() -> None:
    stakes = (60 * FTNS, 40 * FTNS, 40 * FTNS, 40 * FTNS)
    chain = Chain(small_genesis(stakes=stakes, parameters=SMALL))
    for value, code in ((60, Code.DONE), (61, Code.BAD_VALUE), (41, Code.DONE)):
        payload = proposal_of(("vote_min", value * FTNS), category=Category.CONSTITUTIONAL)
        assert send(chain, 66, payload) is code


@pytest.mark.parametrize(
    ("name", "value"), [(name, end) for name in GOVERNED for end in ends_of(name)]
)
def test_chain_goes_on_at_each_end_and_the_vote_is_undone(name: str, value: int) -> None:
    chain = Chain(GENESIS)
    lock, receipt = bound_work(chain)
    changes = [(name, value)]
    if (name, value) in TOGETHER:
        changes.append(TOGETHER[name, value])
    done(decide(chain, *changes))
    assert value_of(chain.ledger.parameters, name) == value
    done(send(chain, 64, Transfer(0, key(90), 1, b"")))
    dispute = Dispute(lock.job, 0, 0, encode(receipt))
    assert send(chain, REQUESTER, dispute) is DISPUTES.get((name, value), Code.DONE)
    proposed(chain, proposal_of(category=Category.COMMUNITY))
    done(send(chain, 35, Leave()))
    while key(35) in chain.ledger.view.roster():
        chain.add(step_ms=1 + chain.ledger.parameters.epoch_ms // 10)
    Ledger(
        GENESIS, dict(chain.ledger._state), verifier=Ed25519Verifier(), tip=chain.ledger.tip
    )  # a node that starts again sees no breach
    done(decide(chain, *((each, value_of(SMALL, each)) for each, _ in changes)))
    assert chain.ledger.parameters == SMALL
    done(send(chain, 64, Transfer(0, key(90), 1, b"")))
