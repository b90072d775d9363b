"""A plan of steps, checked before anything runs: which follow which, what flows between them.

Pure. Every refusal is typed and names the step. Must not know: how a step is done, what it costs
in the end, where its output is kept. Source: docs/spec/work.md, "Plans".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from prsm.protocol.errors import LocalError
from prsm.protocol.ids import format_ftns
from prsm.protocol.tensors import Tensor

STEPS_MAX: Final = 16
TEXTS_MAX: Final = 4096
HITS_MAX: Final = 100

Flow = Literal["vectors", "tensors", "hits"]  # what a step gives


class PlanFault(LocalError):
    """A plan that cannot be run as it stands; `step` names the place, empty for the whole."""

    reason: ClassVar[str] = "bad_plan"

    def __init__(self, what: str, *, step: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.step = step


class TooManySteps(PlanFault):
    """More steps than a plan may have, or none."""

    reason = "too_many_steps"


class UnknownStep(PlanFault):
    """A step takes the output of one that is not in the plan, or stands there twice."""

    reason = "unknown_step"


class PlanCycle(PlanFault):
    """Steps wait for one another in a circle."""

    reason = "plan_cycle"


class WrongFlow(PlanFault):
    """A step cannot take what the other one gives."""

    reason = "wrong_flow"


class OverBudget(PlanFault):
    """The steps may cost more than the plan."""

    reason = "over_budget"


@dataclass(frozen=True, slots=True)
class Embed:
    """Texts to vectors: the model's first output is float32 (rows, width)."""

    model: bytes  # CID of the manifest
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """Vectors to the nearest entries of this node's index of cards."""

    source: str  # a step that embeds
    limit: int = 10


@dataclass(frozen=True, slots=True)
class Infer:
    """Rows through a model: texts, arrays, or the outputs of another step.

    Attributes:
        model: CID of the manifest.
        texts: for a model with a tokenizer.
        inputs: whole arrays, the rows along the first axis.
        source: a step whose outputs are the inputs; its names, or `renamed` ones.
        renamed: input of this model by output of that step; outputs without a name here are left
            out if there is any.
    """

    model: bytes
    texts: tuple[str, ...] = ()
    inputs: tuple[Tensor, ...] = ()
    source: str = ""
    renamed: tuple[tuple[str, str], ...] = ()


Work = Embed | Search | Infer


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan.

    Attributes:
        id: its name inside the plan.
        work: what is done.
        price_cap: micro-FTNS this step may lock; None: what is left of the budget.
        after: further steps that must be done before it.
    """

    id: str
    work: Work
    price_cap: int | None = None
    after: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Steps that must be done before it, each once."""
        source = getattr(self.work, "source", "")
        return tuple(dict.fromkeys((*((source,) if source else ()), *self.after)))

    @property
    def gives(self) -> Flow:
        """What flows out of it."""
        match self.work:
            case Embed():
                return "vectors"
            case Search():
                return "hits"
            case Infer():
                return "tensors"

    @property
    def is_paid(self) -> bool:
        """Do peers work for it? A search is done here."""
        return not isinstance(self.work, Search)


@dataclass(frozen=True, slots=True)
class Workplan:
    """Steps and what they may cost together.

    Attributes:
        steps: in the order they were written.
        budget: micro-FTNS put into escrow for all steps.
        deadline_ms: block time from now on.
    """

    steps: tuple[Step, ...]
    budget: int
    deadline_ms: int = 600_000


def check(plan: Workplan) -> tuple[str, ...]:
    """Hold a plan against every rule, and order it.

    Returns:
        Ids of the steps, each behind those it needs; among those that could come next, the one
        written first.

    Raises:
        TooManySteps, UnknownStep, WrongFlow, PlanCycle, OverBudget, PlanFault: the first that
            stands against it.
    """
    if not 1 <= len(plan.steps) <= STEPS_MAX:
        raise TooManySteps(f"{len(plan.steps)} steps, 1 to {STEPS_MAX} go")
    by_id: dict[str, Step] = {}
    for step in plan.steps:
        if step.id in by_id:
            raise UnknownStep(f"two steps are called {step.id!r}", step=step.id)
        by_id[step.id] = step
    for step in plan.steps:
        _check_work(step)
        _check_needs(step, by_id)
    order = _order(plan.steps)
    _check_budget(plan)
    return order


def _check_work(step: Step) -> None:
    match step.work:
        case Embed(texts=texts):
            if not texts:
                raise PlanFault(f"step {step.id} has no texts", step=step.id)
            _check_texts(step, texts)
        case Search(source=source, limit=limit):
            if not source:
                raise PlanFault(
                    f"step {step.id} searches by no vectors",
                    step=step.id,
                    hint="set takes to a step that embeds the question",
                )
            if not 1 <= limit <= HITS_MAX:
                raise PlanFault(
                    f"step {step.id} wants {limit} hits, 1 to {HITS_MAX} go", step=step.id
                )
            if step.price_cap:
                raise PlanFault(f"step {step.id} searches here, it costs nothing", step=step.id)
        case Infer(texts=texts, inputs=inputs, source=source):
            given = bool(texts) + bool(inputs) + bool(source)
            if given != 1:
                raise PlanFault(
                    f"step {step.id} has {given} kinds of input",
                    step=step.id,
                    hint="give exactly one: texts, inputs, or from = another step",
                )
            _check_texts(step, texts)


def _check_texts(step: Step, texts: Sequence[str]) -> None:
    if len(texts) > TEXTS_MAX:
        raise PlanFault(f"step {step.id} has {len(texts)} texts, at most {TEXTS_MAX}", step=step.id)


def _check_needs(step: Step, by_id: Mapping[str, Step]) -> None:
    for other in step.needs:
        if other not in by_id:
            raise UnknownStep(
                f"step {step.id} needs {other!r}, which is not in the plan",
                step=step.id,
                hint=f"there are: {', '.join(by_id)}",
            )
    source = getattr(step.work, "source", "")
    if not source:
        return
    gives = by_id[source].gives
    takes: tuple[Flow, ...] = (
        ("vectors",) if isinstance(step.work, Search) else ("vectors", "tensors")
    )
    if gives not in takes:
        raise WrongFlow(
            f"step {step.id} takes {' or '.join(takes)}, {source} gives {gives}", step=step.id
        )


def _order(steps: Sequence[Step]) -> tuple[str, ...]:
    done: list[str] = []
    left = list(steps)
    while left:
        ready = next((step for step in left if set(step.needs) <= set(done)), None)
        if ready is None:
            circle = ", ".join(step.id for step in left)
            raise PlanCycle(f"these steps wait for one another: {circle}", step=left[0].id)
        done.append(ready.id)
        left.remove(ready)
    return tuple(done)


def _check_budget(plan: Workplan) -> None:
    capped = sum(step.price_cap or 0 for step in plan.steps)
    if capped > plan.budget:
        raise OverBudget(
            f"the steps may cost {format_ftns(capped)} FTNS, the plan {format_ftns(plan.budget)}",
            hint="allow more with --budget, or less for a step",
        )
