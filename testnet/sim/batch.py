"""Ranges of seeds over processes, and what they add up to.

Knows: seeds, outcomes, CPU time. Must not know: what a run does.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from prsm.testnet.sim.world import Outcome, run

CHUNK: Final = 25  # seeds a process takes at a time


@dataclass(slots=True)
class Summary:
    """What many seeds showed."""

    seeds: int = 0
    events: int = 0
    heights: int = 0
    violations: int = 0  # seeds with a broken invariant
    not_live: int = 0  # seeds that did not go on after healing
    heal_ms: list[int] = field(default_factory=list)
    failures: dict[int, list[str]] = field(default_factory=dict)  # seed -> what broke
    cpu_seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        self.seeds += 1
        self.events += outcome.events
        self.heights += outcome.height
        self.violations += bool(outcome.violations)
        self.not_live += not outcome.violations and outcome.heal_ms is None
        if what := describe(outcome):
            self.failures[outcome.seed] = what
        elif outcome.heal_ms is not None:
            self.heal_ms.append(outcome.heal_ms)


def describe(outcome: Outcome) -> list[str]:
    """What is wrong with a run, if anything is."""
    if outcome.violations or outcome.heal_ms is not None:
        return outcome.violations
    return [f"not live after healing at height {outcome.height}"]


def play(
    seeds: Sequence[int], *, jobs: int = 1, control: bool = False, first: bool = False
) -> Summary:
    """Play seeds; with `first`, stop soon after the first that fails.

    Args:
        seeds: to be played, in order.
        jobs: processes; 1 stays in this one.
        control: see `prsm.testnet.sim.plan.draw`.
        first: for the search of a failing seed.
    """
    before = _cpu_seconds()
    summary = Summary()
    for outcome in _outcomes(seeds, jobs=jobs, control=control):
        summary.add(outcome)
        if first and summary.failures:
            break
    summary.cpu_seconds = _cpu_seconds() - before
    return summary


def attempt(seed: int, *, control: bool = False) -> Outcome:
    """Play one seed; an exception of the code under test is a violation of that seed."""
    try:
        return run(seed, control=control)
    except Exception as error:  # noqa: BLE001 - any failure belongs to its seed
        what = f"{type(error).__name__}: {error}"
        return Outcome(seed, 0, 0, 0, None, [f"the code under test raised {what}"])


def _outcomes(seeds: Sequence[int], *, jobs: int, control: bool) -> Iterator[Outcome]:
    if jobs == 1:
        yield from (attempt(seed, control=control) for seed in seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(attempt, control=control), seeds, chunksize=CHUNK)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
