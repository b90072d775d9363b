"""The check of a plan: every refusal, and under hypothesis the order against a dumb twin."""

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.node.workplans.graph import (
    HITS_MAX,
    STEPS_MAX,
    TEXTS_MAX,
    Embed,
    Infer,
    OverBudget,
    PlanCycle,
    PlanFault,
    Search,
    Step,
    TooManySteps,
    UnknownStep,
    Work,
    Workplan,
    WrongFlow,
    check,
)
from tests.tools.work import MODEL, given_rows


def plan(*steps: Step, budget: int = 100) -> Workplan:
    return Workplan(steps, budget)


def embed(name: str = "read", *, after: tuple[str, ...] = ()) -> Step:
    return Step(name, Embed(MODEL, ("a",)), after=after)


def test_steps_come_behind_what_they_need() -> None:
    steps = (
        Step("find", Search("read")),
        Step("more", Infer(MODEL, source="read"), after=("find",)),
        embed(),
    )
    assert check(plan(*steps)) == ("read", "find", "more")
    assert [step.gives for step in steps] == ["hits", "tensors", "vectors"]
    assert [step.is_paid for step in steps] == [False, True, True]


@pytest.mark.parametrize(
    ("steps", "fault", "words"),
    [
        ((), TooManySteps, "0 steps"),
        (tuple(embed(f"s{i}") for i in range(STEPS_MAX + 1)), TooManySteps, "17 steps"),
        ((embed(), embed()), UnknownStep, "two steps"),
        ((Step("find", Search("read")),), UnknownStep, "'read'"),
        ((embed(), Step("find", Search(""))), PlanFault, "searches by no vectors"),
        ((embed(), Step("find", Search("read", limit=0))), PlanFault, "0 hits"),
        ((embed(), Step("find", Search("read", limit=HITS_MAX + 1))), PlanFault, "101 hits"),
        ((embed(), Step("find", Search("read"), price_cap=5)), PlanFault, "costs nothing"),
        ((Step("go", Infer(MODEL)),), PlanFault, "0 kinds"),
        ((Step("go", Infer(MODEL, texts=("a",), inputs=given_rows(1))),), PlanFault, "2 kinds"),
        ((Step("read", Embed(MODEL, ())),), PlanFault, "no texts"),
        ((Step("read", Embed(MODEL, ("a",) * (TEXTS_MAX + 1))),), PlanFault, "4097 texts"),
        ((embed("a", after=("a",)),), PlanCycle, "a"),
        ((embed("a", after=("b",)), embed("b", after=("a",))), PlanCycle, "a, b"),
        (
            (embed(), Step("f", Search("read")), Step("g", Infer(MODEL, source="f"))),
            WrongFlow,
            "f gives hits",
        ),
        (
            (Step("g", Infer(MODEL, texts=("a",))), Step("f", Search("g"))),
            WrongFlow,
            "g gives tensors",
        ),
        (
            (Step("a", Embed(MODEL, ("a",)), 60), Step("b", Embed(MODEL, ("a",)), 41)),
            OverBudget,
            "cost",
        ),
    ],
)
def test_each_refusal_is_typed(steps: tuple[Step, ...], fault: type[PlanFault], words: str) -> None:
    with pytest.raises(fault, match=words):
        check(plan(*steps))


def _possible(steps: Sequence[Step]) -> bool:
    """The dumb twin: is there any order at all?"""
    return any(
        all(
            set(step.needs) <= {before.id for before in order[:place]}
            for place, step in enumerate(order)
        )
        for order in permutations(steps)
    )


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Step, ...]:
    count = draw(st.integers(min_value=1, max_value=5))
    names = [f"s{i}" for i in range(count)]
    steps = []
    for name in names:
        after = tuple(draw(st.lists(st.sampled_from(names), max_size=2, unique=True)))
        source = draw(st.sampled_from(["", *names]))
        work: Work = Infer(MODEL, source=source) if source else Embed(MODEL, ("a",))
        steps.append(Step(name, work, after=after))
    return tuple(steps)


@settings(max_examples=40)
@given(graphs())
def test_an_order_is_found_whenever_there_is_one(steps: tuple[Step, ...]) -> None:
    if not _possible(steps):
        with pytest.raises(PlanCycle):
            check(plan(*steps))
        return
    order = check(plan(*steps))
    assert sorted(order) == sorted(step.id for step in steps)
    by_id = {step.id: step for step in steps}
    for place, name in enumerate(order):
        assert set(by_id[name].needs) <= set(order[:place])


@st.composite
def possible_graphs(draw: st.DrawFn) -> tuple[Step, ...]:
    """Every step needs some of those before it; then they are written in another order."""
    steps: list[Step] = []
    for place in range(draw(st.integers(min_value=1, max_value=5))):
        before = [step.id for step in steps]
        after = draw(st.lists(st.sampled_from(before), max_size=2, unique=True)) if before else []
        steps.append(Step(f"s{place}", Embed(MODEL, ("a",)), after=tuple(after)))
    return tuple(draw(st.permutations(steps)))


@settings(max_examples=40)
@given(possible_graphs())
def test_steps_that_could_both_come_next_stay_as_written(steps: tuple[Step, ...]) -> None:
    order = check(plan(*steps))
    for place, name in enumerate(order):
        ready = [s.id for s in steps if s.id not in order[:place]]
        free = [i for i in ready if set(_needs(steps, i)) <= set(order[:place])]
        assert name == free[0]


def _needs(steps: Sequence[Step], name: str) -> tuple[str, ...]:
    return next(step.needs for step in steps if step.id == name)
