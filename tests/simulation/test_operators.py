"""Operators of runs: sets that change by transactions on the product's ledger."""

from random import Random

import msgspec
import pytest

from prsm.protocol.transactions.envelope import decode_transaction
from prsm.protocol.transactions.payloads import JOIN, LEAVE, ROTATE, STAKE, WITHDRAW
from prsm.protocol.validators import Members, ValidatorSet
from prsm.testnet.sim.money import MoneyLedger
from prsm.testnet.sim.operators import Operators
from prsm.testnet.sim.plan import Plan, draw, faulty_of
from prsm.testnet.sim.roster import genesis_of
from prsm.testnet.sim.signing import KeyedSigner, KeyedVerifier
from prsm.testnet.sim.world import World

PLANS = [plan for plan in map(draw, range(800)) if plan.has_operators]


def _operators(plan: Plan) -> tuple[Operators, MoneyLedger]:
    count = len(plan.stakes) + plan.spares
    signers = [KeyedSigner(1, index) for index in range(4 * count)]
    keys = [signers[node * 3 : node * 3 + 3] for node in range(count)]
    owners = signers[3 * count :]
    genesis = genesis_of(plan, keys, (), owners)
    ledger = MoneyLedger(genesis, KeyedVerifier(signers))
    return Operators(plan, genesis, owners, keys, Random(1)), ledger


def test_operators_ask_for_everything() -> None:
    asked = set()
    for plan in PLANS:
        operators, _ = _operators(plan)
        asked |= {decode_transaction(operators.order(0)).kind for _ in range(60)}
    assert asked == {JOIN, STAKE, LEAVE, ROTATE, WITHDRAW}


def test_faulty_stay_below_a_third_of_whatever_is_granted() -> None:
    for plan in PLANS:
        operators, _ = _operators(plan)
        for _ in range(200):
            operators.order(0)
        faulty = sum(operators.most[node] for node in faulty_of(plan))
        honest = sum(
            each for node, each in enumerate(operators.least) if node not in faulty_of(plan)
        )
        assert 2 * faulty < honest


def test_set_beyond_its_bonds_or_with_a_faulty_third_is_named() -> None:
    plan = next(plan for plan in PLANS if faulty_of(plan))
    operators, ledger = _operators(plan)
    good = ledger.tip.epoch.following
    view = ledger.ledger.view
    assert operators.wrong_in(good, view) == ""
    first, *rest = good.validators
    heavy = msgspec.structs.replace(first, stake=first.stake * 10)
    stranger = msgspec.structs.replace(first, operator=bytes(32))
    for wrong, members in (
        ("bonded", (heavy, *rest)),
        ("another operator", (stranger, *rest)),
        ("a third", tuple(good.validators[node] for node in sorted(faulty_of(plan)))),
    ):
        found = operators.wrong_in(ValidatorSet(Members(good.epoch, members)), view)
        assert wrong in found


@pytest.mark.slow
def test_runs_with_operators_see_sets_change_and_money_conserved() -> None:
    changed = rotated = punished = 0
    for plan in PLANS:
        world = World(plan)
        outcome = world.play()
        assert (outcome.violations, outcome.heal_ms is None) == ([], False)
        sets = {known.validators for known in world.roster.sets.values()}
        changed += len(sets) > 1
        keys = {(each.operator, each.consensus) for members in sets for each in members}
        rotated += len(keys) > len({operator for operator, _ in keys})
        punished += bool(world.punishment.punished)
    assert changed >= 6
    assert rotated >= 4
    assert punished >= 2
