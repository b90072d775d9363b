"""Ranges of seeds over processes, and what they add up to.

Knows: seeds, outcomes, CPU time. Must not know: what a run does.
"""

import gc
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Final

from prsm.testnet.sim import twins
from prsm.testnet.sim.invariants import Invariant, counted, violation
from prsm.testnet.sim.plan import Wish, draw
from prsm.testnet.sim.world import Outcome, World

CHUNK: Final = 25  # seeds a process takes at a time
TWINS_CHUNK: Final = 2 * twins.LEAVES  # scenarios: whole trees
FAILURES_MAX: Final = 20  # described; the rest is counted


@dataclass(slots=True)
class Summary:
    """What many seeds showed."""

    seeds: int = 0
    events: int = 0
    heights: int = 0
    violations: int = 0  # seeds with a broken invariant
    not_live: int = 0  # seeds that did not go on after healing
    heal_ms_max: int = 0
    cpu_ms: int = 0
    invariants: dict[str, int] = field(default_factory=dict)  # broken: how often
    failures: dict[str, list[str]] = field(default_factory=dict)  # seed -> what broke

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        self.seeds += 1
        self.events += outcome.events
        self.heights += outcome.height
        self.violations += bool(outcome.violations)
        is_late = not outcome.violations and outcome.heal_ms is None
        self.not_live += is_late
        self.heal_ms_max = max(self.heal_ms_max, outcome.heal_ms or 0)
        what = describe(outcome)
        for name, count in counted(what).items():
            self.invariants[name] = self.invariants.get(name, 0) + count
        if what and len(self.failures) < FAILURES_MAX:
            self.failures[str(outcome.seed)] = what[:3]

    def merge(self, other: "Summary") -> None:
        """Add what other seeds showed."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name == "heal_ms_max":
                self.heal_ms_max = max(mine, theirs)
            elif isinstance(theirs, int):
                setattr(self, each.name, mine + theirs)
        for name, count in other.invariants.items():
            self.invariants[name] = self.invariants.get(name, 0) + count
        for seed, what in other.failures.items():
            if len(self.failures) < FAILURES_MAX:
                self.failures[seed] = what


def describe(outcome: Outcome) -> list[str]:
    """What is wrong with a run, if anything is."""
    if outcome.violations or outcome.heal_ms is not None:
        return outcome.violations
    return [violation(Invariant.LIVENESS, f"not live after healing at height {outcome.height}")]


def play(seeds: range, wish: Wish | None = None, *, jobs: int = 1, first: bool = False) -> Summary:
    """Play seeds; with `first`, stop soon after the first that fails.

    Args:
        seeds: to be played, in order.
        wish: what every seed is drawn with.
        jobs: processes; 1 stays in this one.
        first: for the search of a failing seed.
    """
    summary = Summary()
    for part in _parts(seeds, wish or Wish(), jobs=jobs):
        summary.merge(part)
        if first and summary.failures:
            break
    return summary


def attempt(seed: int, wish: Wish) -> Outcome:
    """Play one seed; an exception of the code under test is a violation of that seed."""
    try:
        return World(draw(seed, wish)).play()
    except Exception as error:  # noqa: BLE001 - any failure belongs to its seed
        what = f"{type(error).__name__}: {error}"
        return Outcome(seed, 0, 0, 0, None, [f"the code under test raised {what}"])


def _parts(seeds: range, wish: Wish, *, jobs: int) -> Iterator[Summary]:
    step = TWINS_CHUNK if wish.twins else CHUNK
    chunks = [seeds[at : at + step] for at in range(0, len(seeds), step)]
    if jobs == 1:
        yield from (_play_chunk(wish, chunk) for chunk in chunks)
        return
    # What is imported lives as long as the process: no collection need look at it.
    with ProcessPoolExecutor(jobs, initializer=gc.freeze) as pool:
        yield from pool.map(partial(_play_chunk, wish), chunks)


def _play_chunk(wish: Wish, seeds: range) -> Summary:
    before = _cpu_ms()
    summary = Summary()
    if wish.twins:
        for outcome in twins.play(seeds, wish):
            summary.add(outcome)
    else:
        with _collected_by_hand():
            for seed in seeds:
                summary.add(attempt(seed, wish))
                gc.collect(0)  # the run before: all of it is young, and nobody holds it
    summary.cpu_ms = _cpu_ms() - before
    return summary


@contextmanager
def _collected_by_hand() -> Iterator[None]:
    """Let no collection look at a run while it goes on: it makes much and drops next to nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _cpu_ms() -> int:
    times = os.times()
    return int((times.user + times.system) * 1_000)
