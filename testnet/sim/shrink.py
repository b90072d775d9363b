"""The smallest run that still fails: faults left out one by one, the faulty phase made shorter.

Knows: plans, and that a run is decided by its plan. Must not know: what broke.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Final

from prsm.testnet.sim.batch import describe
from prsm.testnet.sim.invariants import counted
from prsm.testnet.sim.plan import FAULTS, Plan
from prsm.testnet.sim.world import Outcome, World

FAULTS_MS_MIN: Final = 100
_NOTHING: Final[dict[str, object]] = {
    name: nothing for fault in FAULTS.values() for name, nothing in fault.items()
}
_TOGETHER: Final = frozenset(("epochs", "money"))


def fails(plan: Plan) -> bool:
    """Does a run break an invariant, raise, or not go on after healing?"""
    return bool(_broken_by(plan))


def _broken_by(plan: Plan) -> frozenset[str]:
    return frozenset(counted(describe(play(plan))))


def play(plan: Plan, *, traced: bool = False) -> Outcome:
    """Play a plan; an exception of the code under test is a violation."""
    world = World(plan, traced=traced)
    try:
        return world.play()
    except Exception as error:  # noqa: BLE001 - any failure belongs to its run
        what = f"the code under test raised {type(error).__name__}: {error}"
        return Outcome(plan.seed, 0, 0, 0, None, [what], world.lines)


def shrink(plan: Plan, is_failing: Callable[[Plan], bool] | None = None) -> Plan:
    """Return a plan that fails and of which nothing can be left out.

    Args:
        plan: one that fails.
        is_failing: the question a smaller plan must still answer with yes; without it, whether it
            breaks one of the invariants that `plan` breaks: another failure is another fault.
    """
    if is_failing is None:
        broken = _broken_by(plan)

        def is_failing(each: Plan) -> bool:
            return bool(broken & _broken_by(each))

    assert is_failing(plan), "only a failing run can be made smaller"
    while True:
        smaller = next((each for each in _smaller(plan) if is_failing(each)), None)
        if smaller is None:
            return plan
        plan = smaller


def difference(plan: Plan) -> list[str]:
    """One line for each thing that is left in a plan."""
    return [
        f"{each.name}: {getattr(plan, each.name)}"
        for each in fields(plan)
        if getattr(plan, each.name) != _NOTHING.get(each.name)
    ]


def _smaller(plan: Plan) -> Iterator[Plan]:
    for fault, nothing in FAULTS.items():
        # A later set names spare nodes and keys, and operators own money: these go together.
        alone = () if fault in _TOGETHER else nothing.items()
        for fields_gone in (nothing, *({name: value} for name, value in alone)):
            if any(getattr(plan, name) != value for name, value in fields_gone.items()):
                yield replace(plan, **fields_gone)  # type: ignore[arg-type] # by name
    for script in plan.scripts:
        if plan.liars:
            yield replace(plan, scripts=tuple(each for each in plan.scripts if each != script))
    if plan.faults_ms // 2 >= FAULTS_MS_MIN:
        yield replace(plan, faults_ms=plan.faults_ms // 2)
    for name in ("partitions", "crashes", "pauses"):
        count = getattr(plan, name)
        if count > 1:
            yield replace(plan, **{name: count - 1})
