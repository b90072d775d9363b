"""Virtual time for many events: all of one millisecond are one entry of the simulator's heap.

A network of 10,000 nodes has hundreds of thousands of timers and messages under way; a heap of
all of them costs more than what they do. Within a millisecond the order is that of being asked
for. Knows milliseconds, callbacks and seeds. Must
not know nodes.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import final

from prsm.testnet.sim.clock import Action, Timeline

Handler = Callable[[int, int, object], None]  # receiver, sender, what
_Call = tuple[Handler, int, int, object]


@final
class Wheel:
    """What is still to happen in a run."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.events = 0
        self._timeline = Timeline()
        self._due: dict[int, list[_Call]] = {}

    def after(self, delay_ms: int, action: Action) -> None:
        """Do something `delay_ms` from now."""
        self.carry(delay_ms, _do, 0, 0, action)

    def carry(
        self, delay_ms: int, handler: Handler, receiver: int, sender: int, what: object
    ) -> None:
        """Hand something over `delay_ms` from now."""
        at_ms = self.now_ms + delay_ms
        due = self._due.get(at_ms)
        if due is None:
            due = self._due[at_ms] = []
            self._timeline.after(delay_ms, partial(self._turn, at_ms))
        due.append((handler, receiver, sender, what))

    def run(self, until_ms: int) -> None:
        """Do everything that is due before `until_ms`."""
        while self._timeline.step(until_ms):
            pass
        self.now_ms = until_ms

    def _turn(self, at_ms: int) -> None:
        self.now_ms = at_ms
        due = self._due[at_ms]
        # What asks for this very millisecond is done at the end of the same round.
        for handler, receiver, sender, what in due:
            handler(receiver, sender, what)
        self.events += len(due)
        del self._due[at_ms]


@final
class QuickDice:
    """Seeded dice for the real code that draws; `Random.randrange` takes three times as long.

    Args:
        seed: any text; another text, other dice.
    """

    def __init__(self, seed: str) -> None:
        self._random = Random(seed).random

    def randrange(self, start: int, /) -> int:
        """A number from 0 to start - 1."""
        return int(self._random() * start)


def _do(_receiver: int, _sender: int, action: object) -> None:
    assert callable(action)
    action()
