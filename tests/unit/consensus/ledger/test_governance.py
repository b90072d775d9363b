"""Proposals, votes by stake, delegation, timelock, and what takes effect when."""

import msgspec
import pytest

from prsm.consensus.ledger.admission import Checked
from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.context import (
    HaltChanged,
    ParametersChanged,
    ProposalClosed,
    ProposalOpened,
)
from prsm.consensus.ledger.errors import FeeTooLow
from prsm.consensus.ledger.fees import fee_min
from prsm.consensus.ledger.proposals import Elector, Proposal, ProposalStatus, Tally
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import TREASURY
from prsm.protocol.governance import GOVERNED, Category
from prsm.protocol.transactions.governance import (
    Ballot,
    Choice,
    Enact,
    HaltOrder,
    Propose,
    proposal_id,
)
from prsm.protocol.transactions.membership import Leave
from prsm.protocol.transactions.payloads import Commit, CommitRow, Halt, Transfer
from prsm.protocol.transactions.results import Code, Payment
from prsm.testnet.chain import FTNS, Chain, small_genesis
from tests.tools.decisions import (
    ABSTAIN,
    CID,
    NO,
    QUICK,
    SMALL,
    YES,
    found,
    opened,
    proposal_of,
    vote,
    voting_chain,
    wait_until,
)
from tests.tools.members import done, key, roll


@pytest.fixture
def chain() -> Chain:
    return voting_chain()


def test_accepted_change_acts_from_the_block_after_its_enactment(chain: Chain) -> None:
    view, before = chain.ledger.view, chain.ledger.view.account(key(64))
    payload = proposal_of(("fee_base", 5_000), ("treasury_bps", 100))
    receipt = chain.send(64, payload, step_ms=1)
    proposal = proposal_id(chain.genesis.chain_id, key(64), payload)
    assert chain.made[-1].outcome.events == (ProposalOpened(proposal, key(64), 2),)
    assert view.account(key(64)) == before - receipt.fee - 20 * FTNS
    assert view.supply().locked == 20 * FTNS
    vote(chain, proposal, k32=YES, k33=YES, k34=NO)
    record = found(chain, proposal)
    assert record.tally() == Tally(700 * FTNS, 200 * FTNS, 0, 1_000 * FTNS)
    wait_until(chain, record.closes_ms - 1)
    assert chain.send(65, Enact(proposal), step_ms=1).code is Code.TOO_EARLY
    wait_until(chain, record.enacts_ms - 1)
    assert chain.send(65, Enact(proposal), step_ms=1).code is Code.TOO_EARLY
    cheap = [chain.order(66, Transfer(0, key(90), 1, b""), nonce=nonce) for nonce in (0, 1)]
    checked = chain.ledger.admission.check(cheap[1])
    made = chain.add(chain.order(65, Enact(proposal)), cheap[0], step_ms=1)
    assert [each.code for each in made.receipts()] == [Code.DONE, Code.DONE]
    assert made.receipts()[0].paid == (Payment(key(64), 20 * FTNS),)
    assert made.outcome.events == (
        ProposalClosed(proposal, ProposalStatus.ENACTED),
        ParametersChanged(("fee_base", "treasury_bps")),
    )
    assert (chain.ledger.parameters.fee_base, chain.ledger.parameters.treasury_bps) == (5_000, 100)
    assert chain.ledger.parameters == view.parameters()
    assert chain.genesis.parameters.fee_base == 1_000
    with pytest.raises(FeeTooLow, match="at least"):
        chain.ledger.admission.check(cheap[1])
    reason = chain.ledger.judge(chain.propose(cheap[1]), wall_ms=None)
    assert reason is not None
    assert "fee" in reason
    assert checked.transaction.fee < chain.order_fee(Transfer(0, key(90), 1, b""))
    assert view.supply().locked == 0
    assert chain.send(65, Enact(proposal), step_ms=1).code is Code.PROPOSAL_CLOSED


def test_what_admission_remembers_pays_the_new_fee_or_is_refused(chain: Chain) -> None:
    """A node that checked it under the old fee must judge like one that never saw it."""
    kept: dict[bytes, Checked] = {}
    chain.ledger.admission._recall = kept.get
    raw = chain.order(66, Transfer(0, key(90), 1, b""))
    rich = chain.order(67, Transfer(0, key(90), 1, b""), fee=10**6)
    for each in (raw, rich):
        kept[chain.ledger.admission.check(each).id] = chain.ledger.admission.check(each)
    dear = msgspec.structs.replace(SMALL, fee_base=500_000)
    chain.ledger.admission.follow(dear)
    with pytest.raises(FeeTooLow):
        chain.ledger.admission.check(raw)
    assert chain.ledger.admission.check(rich).parameters is dear


def test_what_admission_remembers_pays_for_its_operations_too(chain: Chain) -> None:
    kept: dict[bytes, Checked] = {}
    admission = chain.ledger.admission
    admission._recall = kept.get
    rows = tuple(CommitRow(bytes([i]) * 32, 0, bytes(32), b"") for i in range(5))
    raw = chain.order(66, Commit(rows))
    checked = admission.check(raw)
    kept[checked.id] = checked
    known = chain.ledger.parameters
    for more, code in ((0, None), (1, FeeTooLow)):
        spare = checked.transaction.fee - fee_min(known, size_bytes=len(raw), operations=5)
        each = known.fee_per_operation + spare // 5 + more
        admission.follow(msgspec.structs.replace(known, fee_per_operation=each))
        if code is None:
            assert admission.check(raw).transaction == checked.transaction
        else:
            with pytest.raises(code):
                admission.check(raw)


@pytest.mark.parametrize(
    ("votes", "status"),
    [
        ({}, ProposalStatus.NO_QUORUM),
        ({"k33": YES}, ProposalStatus.NO_QUORUM),
        ({"k33": YES, "k35": ABSTAIN}, ProposalStatus.ENACTED),
        ({"k32": ABSTAIN}, ProposalStatus.REJECTED),
        ({"k33": YES, "k34": NO}, ProposalStatus.ENACTED),
        ({"k34": YES, "k33": NO}, ProposalStatus.REJECTED),
        ({"k32": YES, "k33": NO}, ProposalStatus.REJECTED),
        ({"k32": NO}, ProposalStatus.REJECTED),
        ({"k33": YES, "k34": NO, "k35": NO}, ProposalStatus.REJECTED),
    ],
)
def test_quorum_counts_all_votes_and_the_threshold_yes_and_no(
    chain: Chain, votes: dict[str, Choice], status: ProposalStatus
) -> None:
    """Quorum 40 % of 1,000; yes at least 60 % of yes and no. Weights are 400, 300, 200, 100."""
    proposal = opened(chain, proposal_of(category=Category.COMMUNITY))
    vote(chain, proposal, **votes)
    treasury, proposer = (chain.ledger.view.account(each) for each in (TREASURY, key(64)))
    wait_until(chain, found(chain, proposal).closes_ms)
    receipt = chain.send(65, Enact(proposal), step_ms=1)
    done(receipt.code)
    assert found(chain, proposal).status is status
    lost = status is ProposalStatus.NO_QUORUM
    view = chain.ledger.view
    assert view.account(TREASURY) - treasury == receipt.fee + (20 * FTNS if lost else 0)
    assert view.account(key(64)) - proposer == (0 if lost else 20 * FTNS)


def test_vote_may_change_until_it_ends(chain: Chain) -> None:
    proposal = opened(chain, proposal_of(category=Category.COMMUNITY))
    vote(chain, proposal, k32=NO)
    assert chain.send(32, Ballot(proposal, NO), step_ms=1).code is Code.ALREADY_VOTED
    assert chain.send(64, Ballot(proposal, NO), step_ms=1).code is Code.NOT_OPERATOR
    assert chain.send(32, Ballot(bytes(32), NO), step_ms=1).code is Code.UNKNOWN_PROPOSAL
    vote(chain, proposal, k32=YES)
    assert found(chain, proposal).tally().yes == 400 * FTNS
    wait_until(chain, found(chain, proposal).closes_ms)
    assert chain.send(33, Ballot(proposal, YES), step_ms=1).code is Code.TOO_LATE


def test_electorate_is_that_of_the_opening(chain: Chain) -> None:
    """Who has left since still votes with the weight he had; who comes later does not."""
    proposal = opened(chain, proposal_of(category=Category.COMMUNITY))
    done(chain.send(35, Leave(), step_ms=1).code)
    roll(chain, 2)
    assert len(chain.ledger.epoch.validators) == 3
    vote(chain, proposal, k35=YES, k33=YES)
    assert found(chain, proposal).tally().yes == 400 * FTNS
    later = opened(chain, proposal_of(category=Category.COMMUNITY, text="later"))
    assert chain.send(35, Ballot(later, YES), step_ms=1).code is Code.NOT_OPERATOR


def test_who_weighs_too_little_has_no_vote() -> None:
    poor = Chain(small_genesis(stakes=(60 * FTNS, 60 * FTNS, 49 * FTNS), parameters=SMALL))
    proposal = opened(poor, proposal_of(category=Category.COMMUNITY))
    assert [each.weight for each in found(poor, proposal).electors] == [60 * FTNS] * 2
    poorer = Chain(small_genesis(stakes=(1, 1, 1, 1), parameters=SMALL))
    assert poorer.send(64, proposal_of(), step_ms=1).code is Code.NO_ELECTORS


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (proposal_of(("fee_bass", 1)), Code.UNKNOWN_PARAMETER),
        (proposal_of(("economic.", 1)), Code.UNKNOWN_PARAMETER),
        (proposal_of(("tree_bits", 9)), Code.PARAMETER_FIXED),
        (proposal_of(("economic", 9)), Code.PARAMETER_FIXED),
        (proposal_of(("slash_bps", 9)), Code.WRONG_CATEGORY),
        (proposal_of(("fee_base", 9), category=Category.COMMUNITY), Code.WRONG_CATEGORY),
        (proposal_of(("fee_base", 9), ("fee_base", 8)), Code.BAD_VALUE),
        (proposal_of(("treasury_bps", 10_001)), Code.BAD_VALUE),
        (
            proposal_of(("economic.threshold_bps", 4_999), category=Category.CONSTITUTIONAL),
            Code.BAD_VALUE,
        ),
        (proposal_of(("epoch_ms", 40_000), category=Category.TECHNICAL), Code.BAD_VALUE),
        (proposal_of(halt=HaltOrder(CID, lift=False)), Code.WRONG_CATEGORY),
        (
            proposal_of(halt=HaltOrder(CID, lift=True), category=Category.SAFETY),
            Code.NOTHING_TO_VOTE,
        ),
    ],
)
def test_proposal_is_refused(chain: Chain, payload: Propose, code: Code) -> None:
    before = chain.ledger.view.account(key(64))
    receipt = chain.send(64, payload, step_ms=1)
    assert receipt.code is code
    assert chain.ledger.view.account(key(64)) == before - receipt.fee


def test_proposal_opens_once_and_costs_its_deposit(chain: Chain) -> None:
    opened(chain, proposal_of())
    assert chain.send(64, proposal_of(), step_ms=1).code is Code.PROPOSAL_EXISTS
    opened(chain, proposal_of(salt=b"2" * 32))
    opened(chain, proposal_of(), sender=65)
    assert len(chain.ledger.view.proposals()) == 3
    poor = chain.send(64, Transfer(0, key(90), 959 * FTNS, b""), step_ms=1)
    done(poor.code)
    assert chain.send(64, proposal_of(salt=b"3" * 32), step_ms=1).code is Code.INSUFFICIENT_FUNDS


def test_constitutional_proposals_change_rules_and_anything(chain: Chain) -> None:
    changes = (("economic.quorum_bps", 1_000), ("fee_base", 7), ("operator_cap", 300 * FTNS))
    proposal = opened(chain, proposal_of(*changes, category=Category.CONSTITUTIONAL))
    running = opened(chain, proposal_of(("fee_per_byte", 1)))
    vote(chain, proposal, k32=YES, k33=YES)
    wait_until(chain, found(chain, proposal).enacts_ms)
    done(chain.send(65, Enact(proposal), step_ms=1).code)
    parameters = chain.ledger.parameters
    assert parameters.economic.quorum_bps == 1_000
    assert (parameters.fee_base, parameters.operator_cap) == (7, 300 * FTNS)
    assert found(chain, running).rules.quorum_bps == 4_000, "a running vote keeps its rules"
    assert set(GOVERNED) & {"tree_bits", "clock_window_ms", "timeout_base_ms"} == set()


def test_accepted_proposal_lapses_if_nobody_enacts_it(chain: Chain) -> None:
    proposal = opened(chain, proposal_of(("fee_base", 5)))
    vote(chain, proposal, k32=YES, k33=YES)
    wait_until(chain, found(chain, proposal).lapses_ms)
    receipt = chain.send(65, Enact(proposal), step_ms=1)
    assert receipt.paid == (Payment(key(64), 20 * FTNS),)
    assert found(chain, proposal).status is ProposalStatus.LAPSED
    assert chain.ledger.parameters.fee_base == 1_000


def test_two_accepted_changes_that_contradict_each_other(chain: Chain) -> None:
    """Each was good when it was proposed; the second finds the first one's parameters."""
    constitutional = Category.CONSTITUTIONAL
    first = opened(chain, proposal_of(("epoch_ms", 30_000), category=constitutional))
    second = opened(chain, proposal_of(("unbonding_ms", 10_000), category=constitutional))
    for proposal in (first, second):
        vote(chain, proposal, k32=YES, k33=YES)
    wait_until(chain, found(chain, second).enacts_ms)
    made = chain.add(chain.order(65, Enact(first)), chain.order(66, Enact(second)), step_ms=1)
    assert [each.code for each in made.receipts()] == [Code.DONE, Code.BAD_VALUE]
    assert chain.ledger.parameters.unbonding_ms == 60_000
    assert found(chain, second).status is ProposalStatus.OPEN


def test_two_changes_in_one_block_both_act(chain: Chain) -> None:
    first = opened(chain, proposal_of(("fee_base", 5)))
    second = opened(chain, proposal_of(("fee_per_byte", 5)))
    for proposal in (first, second):
        vote(chain, proposal, k32=YES, k33=YES)
    wait_until(chain, found(chain, second).enacts_ms)
    chain.add(chain.order(65, Enact(first)), chain.order(66, Enact(second)), step_ms=1)
    assert (chain.ledger.parameters.fee_base, chain.ledger.parameters.fee_per_byte) == (5, 5)


def test_halt_by_vote_needs_the_weight_of_the_direct_vote_too(chain: Chain) -> None:
    """60 % of those who vote suffice for safety here, but not below `halt_bps` of all."""
    order = HaltOrder(CID, lift=False)
    weak = opened(chain, proposal_of(halt=order, category=Category.SAFETY))
    strong = opened(chain, proposal_of(halt=order, category=Category.SAFETY, text="again"))
    vote(chain, weak, k32=YES, k34=YES)
    vote(chain, strong, k32=YES, k33=YES)
    done(chain.send(34, Halt(CID, lift=False, reason=""), step_ms=1).code)
    wait_until(chain, found(chain, strong).enacts_ms)
    done(chain.send(65, Enact(weak), step_ms=1).code)
    assert found(chain, weak).status is ProposalStatus.REJECTED
    assert not chain.ledger.view.halted(CID)
    done(chain.send(65, Enact(strong), step_ms=1).code)
    assert HaltChanged(CID, halted=True) in chain.made[-1].outcome.events
    assert chain.ledger.view.halted(CID)
    lift = proposal_of(halt=HaltOrder(CID, lift=True), category=Category.EMERGENCY)
    opened(chain, lift)


def test_restart_keeps_the_parameters(chain: Chain) -> None:
    proposal = opened(chain, proposal_of(("fee_base", 5_000)))
    vote(chain, proposal, k32=YES, k33=YES)
    wait_until(chain, found(chain, proposal).enacts_ms)
    done(chain.send(65, Enact(proposal), step_ms=1).code)
    ledger = chain.ledger
    again = Ledger(chain.genesis, dict(ledger._state), verifier=Ed25519Verifier(), tip=ledger.tip)
    assert again.parameters == ledger.parameters
    assert again.parameters.fee_base == 5_000


def test_snapshot_brings_its_parameters_to_the_door(chain: Chain) -> None:
    """A node that takes a state over checks with the fees of that state from then on."""
    proposal = opened(chain, proposal_of(("fee_base", 5_000)))
    vote(chain, proposal, k32=YES, k33=YES)
    wait_until(chain, found(chain, proposal).enacts_ms)
    done(chain.send(65, Enact(proposal), step_ms=1).code)
    ahead, verifier = chain.ledger, Ed25519Verifier()
    behind = Ledger(chain.genesis, {}, verifier=verifier, tip=None)
    door, view = behind.admission, behind.view
    cheap = Chain(chain.genesis, behind).order(67, Transfer(0, key(90), 1, b""))
    door.check(cheap)
    behind.adopt(Ledger(chain.genesis, dict(ahead._state), verifier=verifier, tip=ahead.tip))
    assert (behind.admission, behind.view) == (door, view)
    with pytest.raises(FeeTooLow):
        door.check(cheap)
    made = chain.add()
    behind.commit(behind.apply(made.block))
    assert (behind.height, behind.state_root) == (ahead.height, ahead.state_root)
    assert (behind.epoch, behind.parameters) == (ahead.epoch, ahead.parameters)


def test_tally_of_nobody_is_no_quorum() -> None:
    electors = (Elector(bytes(32), 10, None, None),)
    record = Proposal(
        proposal=bytes(32),
        proposer=bytes(32),
        terms=proposal_of(),
        rules=QUICK,
        halt_bps=6_667,
        opened_height=1,
        closes_ms=1,
        enacts_ms=1,
        lapses_ms=1,
        electors=electors,
        status=ProposalStatus.OPEN,
        deposit=0,
    )
    assert record.outcome() is ProposalStatus.NO_QUORUM
