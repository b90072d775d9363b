"""Deals of custody: rounds, answers, misses, slashing, grants. Each code of the rules once."""

from dataclasses import replace

import msgspec
import pytest

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.context import DealChanged
from prsm.consensus.ledger.custody import COLLATERAL_ROUNDS_MIN
from prsm.consensus.ledger.custody_records import Deal, DealStatus
from prsm.consensus.ledger.invariants import assert_sound
from prsm.consensus.ledger.rounds import round_ms
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import TREASURY, Parameters
from prsm.protocol.limits import PROOFS_PER_BLOCK_MAX
from prsm.protocol.transactions.custody import (
    Accept,
    Grant,
    Lapse,
    Release,
    deal_id,
)
from prsm.protocol.transactions.payloads import Halt
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.testnet.chain import FTNS, Chain, small_genesis
from tests.tools.keepers import (
    ANYBODY,
    CLIENT,
    HOLDER,
    ROUND_MS,
    File,
    answer_of,
    begin,
    key,
    terms_of,
    turn,
)

FILE = File()


@pytest.fixture
def chain() -> Chain:
    return Chain(small_genesis())


def deal_of(chain: Chain, deal: bytes) -> Deal:
    found = chain.ledger.view.deal(deal)
    assert found is not None
    return found


def money(chain: Chain, *numbers: int) -> list[int]:
    return [chain.ledger.view.account(key(number)) for number in numbers]


def prove(chain: Chain, deal: bytes, file: File = FILE, **how: object) -> TxReceipt:
    return chain.send(HOLDER, answer_of(chain, file, deal, **how))  # type: ignore[arg-type]  # by name


def test_entrusted_deal_locks_the_price_of_all_rounds(chain: Chain) -> None:
    [before] = money(chain, CLIENT)
    receipt = chain.send(CLIENT, terms_of(FILE))
    identity = deal_id(chain.genesis.chain_id, key(CLIENT), terms_of(FILE))
    assert receipt.code is Code.DONE
    assert money(chain, CLIENT) == [before - receipt.fee - 20_000]
    assert chain.ledger.view.supply().locked == 20_000
    deal = deal_of(chain, identity)
    assert (deal.status, deal.locked, deal.collateral) == (DealStatus.OFFERED, 20_000, 0)
    assert chain.made[-1].outcome.events == (DealChanged(identity, DealStatus.OFFERED, 0, 0, 0, 0),)
    assert chain.ledger.view.deals() == [deal]
    assert chain.ledger.view.custody_round() is None
    assert chain.send(CLIENT, terms_of(FILE)).code is Code.DEAL_EXISTS


@pytest.mark.parametrize(
    "changes",
    [
        {"price": 0},
        {"grant": Grant(proposal=bytes(32), copies=1)},
        {"collateral": COLLATERAL_ROUNDS_MIN * 1_000 - 1},
    ],
)
def test_terms_nobody_should_sign_are_refused(chain: Chain, changes: dict[str, object]) -> None:
    assert chain.send(CLIENT, terms_of(FILE, **changes)).code is Code.BAD_TERMS
    assert chain.ledger.view.deals() == []


def test_deal_beyond_the_balance_is_refused(chain: Chain) -> None:
    rich = terms_of(FILE, price=1_000 * FTNS, collateral=10_000 * FTNS)
    assert chain.send(CLIENT, rich).code is Code.INSUFFICIENT_FUNDS
    dear = terms_of(FILE, collateral=10_000 * FTNS)
    assert chain.send(CLIENT, dear).code is Code.DONE
    identity = deal_id(chain.genesis.chain_id, key(CLIENT), dear)
    assert chain.send(HOLDER, Accept(identity)).code is Code.INSUFFICIENT_FUNDS


def test_only_the_holder_accepts_and_only_once(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE))
    deal = deal_of(chain, identity)
    assert (deal.status, deal.first, deal.collateral) == (DealStatus.ACTIVE, 1, 100_000)
    assert chain.ledger.view.supply().locked == 120_000
    assert chain.send(HOLDER, Accept(identity)).code is Code.DEAL_CLOSED
    assert chain.send(HOLDER, Accept(bytes(32))).code is Code.UNKNOWN_DEAL
    other = terms_of(FILE, salt=bytes([1]) * 32)
    chain.send(CLIENT, other)
    second = deal_id(chain.genesis.chain_id, key(CLIENT), other)
    assert chain.send(ANYBODY, Accept(second)).code is Code.NOT_HOLDER


def test_halted_file_is_neither_entrusted_nor_accepted(chain: Chain) -> None:
    terms = terms_of(FILE)
    chain.send(CLIENT, terms)
    for operator in (32, 33, 34):
        chain.send(operator, Halt(cid=terms.root, lift=False, reason=""))
    again = msgspec.structs.replace(terms, salt=bytes([1]) * 32)
    assert chain.send(CLIENT, again).code is Code.MODEL_HALTED
    identity = deal_id(chain.genesis.chain_id, key(CLIENT), terms)
    assert chain.send(HOLDER, Accept(identity)).code is Code.MODEL_HALTED


def test_a_round_needs_its_time_and_ten_heights(chain: Chain) -> None:
    begin(chain, terms_of(FILE))
    chain.add(step_ms=ROUND_MS)
    present = chain.ledger.view.custody_round()
    assert present is not None
    assert present.number == 0, "a chain that stood still fails nobody"
    for _ in range(8):
        chain.add(step_ms=1)
    parent = chain.ledger.tip.block_hash
    chain.add(step_ms=1)
    present = chain.ledger.view.custody_round()
    assert present is not None
    assert (present.number, present.began_height) == (1, chain.ledger.height)
    assert present.began_ms == chain.ledger.tip.time_ms
    assert parent != present.seed != bytes(32)
    for _ in range(20):
        chain.add(step_ms=1)
    later = chain.ledger.view.custody_round()
    assert later == present, "heights alone do not end a round"


def test_rounds_stand_still_without_deals(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE, rounds=1))
    turn(chain)
    assert prove(chain, identity).code is Code.DONE
    assert deal_of(chain, identity).status is DealStatus.ENDED
    before = chain.ledger.view.custody_round()
    for _ in range(12):
        chain.add(step_ms=ROUND_MS)
    assert chain.ledger.view.custody_round() == before


def test_round_is_short_where_epochs_are() -> None:
    assert round_ms(Parameters()) == 300_000
    assert round_ms(Parameters(epoch_ms=3_600_000, unbonding_ms=604_800_000)) == 300_000
    assert round_ms(Parameters(epoch_ms=1_000)) == 5_000


def test_right_answer_is_paid_once_and_its_bytes_cost_nothing(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE))
    turn(chain)
    before, treasury = money(chain, HOLDER)[0], chain.ledger.view.account(TREASURY)
    answer = answer_of(chain, FILE, identity)
    receipt = chain.send(HOLDER, answer)
    back = 10 * (len(answer.cells) + len(answer.nodes))
    assert (receipt.code, receipt.detail) == (Code.DONE, 1)
    assert [(p.account, p.amount) for p in receipt.paid] == [(key(HOLDER), 1_000 + back)]
    assert money(chain, HOLDER) == [before + 1_000 + back - receipt.fee]
    assert chain.ledger.view.account(TREASURY) == treasury + receipt.fee - back
    assert receipt.fee - back < 10_000
    deal = deal_of(chain, identity)
    assert (deal.proven, deal.missed, deal.paid, deal.locked) == (1, 0, 1_000, 19_000)
    assert prove(chain, identity).code is Code.ALREADY_PROVEN
    assert money(chain, HOLDER)[0] < before + 1_000


def test_answers_at_the_wrong_time_or_by_another_are_refused(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE))
    assert prove(chain, identity).code is Code.TOO_EARLY
    number = turn(chain)
    old = answer_of(chain, FILE, identity)
    assert chain.send(ANYBODY, old).code is Code.NOT_HOLDER
    assert prove(chain, identity, number=number + 1).code is Code.WRONG_ROUND
    turn(chain)
    assert chain.send(HOLDER, old).code is Code.WRONG_ROUND
    unknown = msgspec.structs.replace(old, deal=bytes(32))
    assert chain.send(HOLDER, unknown).code is Code.UNKNOWN_DEAL
    assert deal_of(chain, identity).judged == 0


def test_answer_to_the_last_round_given_again_breaks_the_deal(chain: Chain) -> None:
    """A replay: the cells were asked of the round before, not of this one."""
    identity = begin(chain, terms_of(FILE))
    turn(chain)
    old = answer_of(chain, FILE, identity)
    number = turn(chain)
    replayed = msgspec.structs.replace(old, round=number)
    assert chain.send(HOLDER, replayed).code is Code.DONE
    assert deal_of(chain, identity).status is DealStatus.BROKEN


@pytest.mark.parametrize("how", ["cell", "short", "node", "surplus", "few nodes", "odd"])
def test_wrong_answer_is_not_paid_and_slashed_and_ends_the_deal(chain: Chain, how: str) -> None:
    identity = begin(chain, terms_of(FILE))
    turn(chain)
    good = answer_of(chain, FILE, identity)
    flipped = good.cells[:-1] + bytes([good.cells[-1] ^ 1])
    bad = {
        "cell": {"cells": flipped},
        "short": {"cells": good.cells[:-1]},
        "node": {"nodes": good.nodes[:-1] + bytes([good.nodes[-1] ^ 1])},
        "surplus": {"nodes": good.nodes + bytes(32)},
        "few nodes": {"nodes": good.nodes[:-32]},
        "odd": {"nodes": good.nodes + b"x"},
    }[how]
    client, holder = money(chain, CLIENT, HOLDER)
    treasury = chain.ledger.view.account(TREASURY)
    receipt = chain.send(HOLDER, msgspec.structs.replace(good, **bad))
    assert (receipt.code, receipt.paid, receipt.detail) == (Code.DONE, (), 0)
    deal = deal_of(chain, identity)
    assert (deal.status, deal.paid, deal.slashed) == (DealStatus.BROKEN, 0, 50_000)
    assert money(chain, CLIENT) == [client + 20_000 + 35_000]
    assert money(chain, HOLDER) == [holder - receipt.fee + 50_000]
    assert chain.ledger.view.account(TREASURY) == treasury + receipt.fee + 15_000
    assert chain.ledger.view.supply().locked == 0
    assert chain.send(HOLDER, good).code is Code.DEAL_CLOSED


def test_missed_round_is_slashed_reported_and_given_back(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE))
    turn(chain)
    assert chain.send(ANYBODY, Lapse(identity)).code is Code.NOTHING_LAPSED
    turn(chain)
    before = money(chain, CLIENT, ANYBODY)
    receipt = chain.send(ANYBODY, Lapse(identity))
    # 10 % of the collateral; 5 % of that to who reports, 70 % to the client.
    assert (receipt.code, receipt.detail, receipt.paid[0].amount) == (Code.DONE, 1, 500)
    assert money(chain, CLIENT, ANYBODY) == [
        before[0] + 1_000 + 7_000,
        before[1] + 500 - receipt.fee,
    ]
    deal = deal_of(chain, identity)
    assert (deal.missed, deal.slashed, deal.collateral, deal.locked) == (1, 10_000, 90_000, 19_000)
    assert chain.send(ANYBODY, Lapse(identity)).code is Code.NOTHING_LAPSED
    assert prove(chain, identity).code is Code.DONE
    assert deal_of(chain, identity).missed_in_a_row == 0


def test_missed_rounds_are_judged_with_the_next_answer(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE))
    turn(chain, 3)
    receipt = prove(chain, identity)
    assert receipt.detail == 1
    deal = deal_of(chain, identity)
    assert (deal.missed, deal.proven, deal.slashed, deal.paid) == (2, 1, 20_000, 1_000)


def test_holder_who_reports_himself_gets_no_share(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE))
    turn(chain, 2)
    receipt = chain.send(HOLDER, Lapse(identity))
    assert (receipt.code, receipt.paid) == (Code.DONE, ())


def test_deal_with_oneself_pays_every_penalty_to_the_treasury(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE, holder=key(CLIENT)), holder=CLIENT)
    turn(chain, 2)
    treasury = chain.ledger.view.account(TREASURY)
    receipt = chain.send(CLIENT, Lapse(identity))
    assert chain.ledger.view.account(TREASURY) == treasury + receipt.fee + 10_000


def test_five_missed_rounds_in_a_row_break_the_deal(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE))
    turn(chain, 9)
    receipt = prove(chain, identity)
    assert (receipt.code, receipt.detail, receipt.paid) == (Code.DONE, 0, ())
    deal = deal_of(chain, identity)
    assert (deal.status, deal.missed, deal.slashed) == (DealStatus.BROKEN, 5, 50_000)
    assert (deal.locked, deal.collateral) == (0, 0)
    assert chain.send(ANYBODY, Lapse(identity)).code is Code.DEAL_CLOSED
    present = chain.ledger.view.custody_round()
    assert present is not None
    assert present.deals == 0


def test_last_round_ends_the_deal_proven_or_missed(chain: Chain) -> None:
    proven = begin(chain, terms_of(FILE, rounds=2))
    missed = begin(chain, terms_of(FILE, rounds=1, salt=bytes([1]) * 32))
    turn(chain)
    assert prove(chain, proven).code is Code.DONE
    turn(chain)
    holder = money(chain, HOLDER)
    receipt = prove(chain, proven)
    assert deal_of(chain, proven).status is DealStatus.ENDED
    assert money(chain, HOLDER) == [holder[0] + receipt.paid[0].amount + 100_000 - receipt.fee]
    assert chain.send(ANYBODY, Lapse(missed)).detail == 1
    assert deal_of(chain, missed).status is DealStatus.ENDED
    assert chain.ledger.view.supply().locked == 0


def test_answer_after_the_end_pays_nothing(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE, rounds=1))
    turn(chain, 2)
    assert prove(chain, identity).detail == 0
    assert deal_of(chain, identity).status is DealStatus.ENDED


def test_empty_collateral_is_slashed_no_further() -> None:
    """Misses that are never five in a row take all of it in the end, and not more."""
    chain = Chain(small_genesis(parameters=Parameters(tree_bits=8, slash_bps=3_000)))
    identity = begin(chain, terms_of(FILE))
    for _ in range(4):
        turn(chain, 2)
        assert prove(chain, identity).detail == 1
    deal = deal_of(chain, identity)
    assert (deal.missed, deal.slashed, deal.collateral) == (4, 100_000, 0)


def test_client_withdraws_an_offer_and_nobody_else(chain: Chain) -> None:
    terms = terms_of(FILE)
    [before] = money(chain, CLIENT)
    fee = chain.send(CLIENT, terms).fee
    identity = deal_id(chain.genesis.chain_id, key(CLIENT), terms)
    assert chain.send(HOLDER, Release(identity)).code is Code.NOT_HOLDER
    fee += chain.send(CLIENT, Release(identity)).fee
    assert money(chain, CLIENT) == [before - fee]
    assert deal_of(chain, identity).status is DealStatus.WITHDRAWN
    assert chain.send(CLIENT, Release(identity)).code is Code.DEAL_CLOSED
    assert chain.send(HOLDER, Accept(identity)).code is Code.DEAL_CLOSED
    assert chain.send(CLIENT, Release(bytes(32))).code is Code.UNKNOWN_DEAL


def test_holder_gives_a_deal_up_for_the_price_of_a_miss(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE))
    assert chain.send(CLIENT, Release(identity)).code is Code.NOT_HOLDER
    before = money(chain, CLIENT, HOLDER)
    receipt = chain.send(HOLDER, Release(identity))
    assert money(chain, CLIENT, HOLDER) == [
        before[0] + 20_000 + 7_000,
        before[1] + 90_000 - receipt.fee,
    ]
    deal = deal_of(chain, identity)
    assert (deal.status, deal.slashed) == (DealStatus.WITHDRAWN, 10_000)


def test_giving_up_after_five_missed_rounds_is_a_broken_deal(chain: Chain) -> None:
    identity = begin(chain, terms_of(FILE))
    turn(chain, 7)
    assert chain.send(HOLDER, Release(identity)).code is Code.DONE
    assert deal_of(chain, identity).status is DealStatus.BROKEN


def test_block_holds_two_proofs_and_the_third_waits(chain: Chain) -> None:
    deals = [
        begin(chain, terms_of(FILE, salt=bytes([i]) * 32, holder=key(65 + i)), holder=65 + i)
        for i in range(3)
    ]
    turn(chain)
    orders = [chain.order(65 + i, answer_of(chain, FILE, deals[i])) for i in range(3)]
    reason = chain.ledger.judge(chain.propose(*orders), wall_ms=None)
    assert reason is not None
    assert "proofs" in reason
    picked = chain.ledger.select(
        orders, time_ms=chain.ledger.tip.time_ms + 1, bytes_max=2**19, count_max=9
    )
    assert picked == tuple(orders[:PROOFS_PER_BLOCK_MAX])
    chain.add(*picked)
    assert [deal_of(chain, deal).proven for deal in deals] == [1, 1, 0]


def test_state_with_deals_is_sound_and_an_unsound_one_is_found(chain: Chain) -> None:
    begin(chain, terms_of(FILE))
    state = chain.ledger._state
    assert_sound(state)
    other = Chain(small_genesis())
    begin(other, terms_of(FILE, collateral=100_001))
    mixed = {**state, **{k: v for k, v in other.ledger._state.items() if k[:1] == b"q"}}
    with pytest.raises(AssertionError):
        assert_sound(mixed)


def test_ledger_taken_over_goes_on_in_the_same_round(chain: Chain) -> None:
    """The round and the deals are state: a node that starts again judges as the others do."""
    identity = begin(chain, terms_of(FILE))
    turn(chain)
    again = Ledger(
        chain.genesis,
        dict(chain.ledger._state),
        verifier=Ed25519Verifier(),
        tip=replace(chain.ledger.tip),
    )
    block = chain.propose(chain.order(HOLDER, answer_of(chain, FILE, identity)))
    outcomes = [ledger.apply(block) for ledger in (chain.ledger, again)]
    assert outcomes[0].changes == outcomes[1].changes
