"""Why a plan is as it is, in sentences.

Pure. Every figure in them was measured, or is said not to be. Source: docs/spec/work.md,
"Planning".
"""

from collections.abc import Sequence

from prsm.node.inference.layout import Layout
from prsm.node.inference.wishes import Considered, Wish, needed_of
from prsm.protocol.ids import format_ftns


def because(
    best: Layout, wish: Wish, one_machine_ms: float | None, others: Sequence[Considered]
) -> tuple[str, ...]:
    """Sentences: the machine alone, the plan, its checks, its price, what was not taken."""
    return (
        _compared(best, one_machine_ms),
        _shape(best, wish),
        _checked(best.opinions),
        _priced(best),
        *_links(best),
        *(f"not {_name(other)}: {other.why_not}" for other in others),
    )


def _compared(best: Layout, one_machine_ms: float | None) -> str:
    one = "not known" if one_machine_ms is None else f"{one_machine_ms:.0f} ms"
    plan = "not known" if best.estimate_ms is None else f"{best.estimate_ms:.0f} ms"
    if best.estimate_ms is None:
        return f"one machine: {one}, plan: {plan}: no worker has run this model yet"
    if one_machine_ms is None:
        return f"one machine: no worker takes the whole model, plan: {plan}"
    if best.estimate_ms <= 0:
        return f"one machine: {one}, plan: {plan}"
    return f"one machine: {one}, plan: {plan}, {one_machine_ms / best.estimate_ms:.2f} times"


def _shape(best: Layout, wish: Wish) -> str:
    batches = len(wish.batch_rows)
    rows = f"{wish.rows} rows in {batches} micro-batches"
    if best.stages == 1:
        return f"replicas: {rows}, {best.spread} parts side by side on {len(best.offers)} workers"
    home = f", {len(best.home)} of them at home" if best.home else ""
    return (
        f"pipeline of {best.stages} stages{home}: {rows}, {best.spread} parts, "
        f"{len(best.offers)} workers, {wish.window} micro-batches in flight at each"
    )


def _checked(opinions: int) -> str:
    if opinions == 1:
        return "each unit by 1 worker, checked by sampling"
    return f"each unit by {needed_of(opinions)} of {opinions} workers, who must agree"


def _priced(best: Layout) -> str:
    spare = f", and {format_ftns(best.budget)} for replacements" if best.budget else ""
    return f"at most {format_ftns(best.reserve)} FTNS for the work{spare}"


def _links(best: Layout) -> tuple[str, ...]:
    unknown = [offer.peer for offer in best.offers if not offer.bytes_per_s]
    if not unknown or best.stages == 1:
        return ()
    return (f"{len(unknown)} links were not measured yet and count as free",)


def _name(other: Considered) -> str:
    parts = f"{other.spread} parts" if other.spread else "any parts"
    return f"{other.mode.value} of {other.stages} stages in {parts}"
