"""Copies with one key: the bar of the gate, the control, and scenarios that mean what they say."""

import pytest

from prsm.protocol.signing import Kind
from prsm.testnet.sim import twins
from prsm.testnet.sim.batch import play
from prsm.testnet.sim.copies import Copies, Round
from prsm.testnet.sim.plan import Wish
from prsm.testnet.sim.twins import LEAVES

FOUR: tuple[int, ...] = (1, 1, 1, 1)


@pytest.mark.slow
def test_twenty_thousand_scenarios_with_twins_are_safe() -> None:
    summary = play(range(20_000), Wish(twins=True), jobs=2)
    assert (summary.seeds, summary.violations, summary.failures) == (20_000, 0, {})
    assert summary.events > 1_000_000
    assert summary.heights > 20_000


@pytest.mark.slow
def test_control_with_twins_of_half_of_the_stake_breaks_agreement() -> None:
    summary = play(range(10 * LEAVES), Wish(twins=True, control=True))
    assert summary.violations > 100
    assert set(summary.invariants) == {"1 agreement"}


def test_enumerated_rounds_are_all_different() -> None:
    rounds = {twins._numbered(digit) for digit in range(LEAVES)}
    assert len(rounds) == LEAVES
    assert Round((0, 0, 0, 0, 0)) in rounds
    assert Round((0, 1, 1, 0, 1), Kind.COMMIT, 4) in rounds


def test_twins_of_an_undivided_network_propose_two_blocks_and_one_is_decided() -> None:
    """The leader is twice there: each copy proposes its own block."""
    copies = twins._start(FOUR, (0, 1, 2, 3, 0))
    copies.play(Round((0, 0, 0, 0, 0)))
    assert copies.violations == []
    assert copies.height() >= 1
    blocks = {each.ledger.blocks[0][0].body.transactions for each in copies.copies}
    assert len(blocks) == 1


def test_twin_that_reads_votes_of_the_other_copy_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Honest programs that lost a vote fall silent; twins that did would be no liars."""
    ends: list[bool] = []
    height = Copies.height

    def noted(copies: Copies) -> int:
        ends.append(any(each.state.observer for each in copies.copies))
        return height(copies)

    monkeypatch.setattr(Copies, "height", noted)
    outcomes = list(twins.play(range(2 * LEAVES, 3 * LEAVES), Wish(twins=True)))
    assert not any(outcome.violations for outcome in outcomes)
    assert (len(ends), any(ends)) == (LEAVES, False)


def test_a_minority_hears_nothing_and_catches_up_later() -> None:
    copies = twins._start(FOUR, (0, 1, 2, 3, 3))
    copies.play(Round((0, 0, 0, 1, 0)))
    heights = [each.ledger.tip.height for each in copies.copies]
    assert heights[3] == 0
    assert min(heights[:3]) >= 1
    copies.play(Round((0, 0, 0, 0, 0)))
    assert copies.copies[3].ledger.tip.height >= heights[0]


def test_a_branch_leaves_its_root_as_it_was() -> None:
    copies = twins._start(FOUR, (0, 1, 2, 3, 1))
    copies.play(Round((0, 0, 1, 1, 1)))
    before = [(each.state.instance.view, each.ledger.tip.height) for each in copies.copies]
    branch = copies.fork()
    branch.play(Round((0, 0, 0, 0, 0)))
    assert before == [(e.state.instance.view, e.ledger.tip.height) for e in copies.copies]
    again = copies.fork()
    again.play(Round((0, 0, 0, 0, 0)))
    assert [e.ledger.tip for e in again.copies] == [e.ledger.tip for e in branch.copies]


def test_twins_weigh_less_than_a_third_of_the_stake() -> None:
    for tree in range(1, 61, 2):
        root, leaves = twins._draw(tree, Wish())
        stakes = [member.stake for member in root.genesis.validators]
        assert 3 * sum(stakes[key] for key in root.twins) < sum(stakes)
        assert len(leaves) == LEAVES


def test_a_scenario_is_the_same_alone_and_among_its_branches() -> None:
    tree = list(twins.play(range(LEAVES, LEAVES + 60), Wish(twins=True)))
    for outcome in tree[20::13]:
        alone = next(twins.play(range(outcome.seed, outcome.seed + 1), Wish(twins=True)))
        assert (alone.height, alone.violations) == (outcome.height, outcome.violations)


def test_some_drawn_trees_see_epochs_of_other_stakes() -> None:
    seen = 0
    for outcome_tree in range(1, 41, 2):
        root, _ = twins._draw(outcome_tree, Wish())
        ends = [each.ledger.tip.epoch.number for each in root.copies]
        seen += max(ends) > 1
    assert seen >= 3
