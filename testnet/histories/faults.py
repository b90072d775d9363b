"""What is done to a network while clients use it: drawn from a seed, in rounds.

Knows: processes, the proxy, clocks. Must not know: clients, or what nodes make of it. One round
does one thing, or two at once, for a while, and takes it back; nodes that were killed come back
on their own. Whatever happens in between, `heal` leaves nothing behind.
"""

import random
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from prsm.testnet.launch import Network, Node, NodeDied
from prsm.testnet.proxy import Conditions, Proxy
from prsm.testnet.skewed import set_skew

LOSSY: Final = Conditions(delay_ms=10, jitter_ms=20, loss=0.1)
SLOW: Final = Conditions(delay_ms=100, jitter_ms=100, bytes_per_s=200_000)
HOUR_MS: Final = 3_600_000
SKEWS_MS: Final = (HOUR_MS, -HOUR_MS, 3_000, -3_000)  # beyond the window of proposals, and within
DOWN_SECONDS: Final = 0.5  # a killed node stays away at least so long


class Kind(Enum):
    """What can be done."""

    KILL = "kill"  # SIGKILL of one node, started again
    PAUSE = "pause"  # SIGSTOP of one node, then SIGCONT
    ISOLATE = "isolate"  # one node against all others
    SPLIT = "split"  # two parts, neither of which can decide
    SILENCE = "silence"  # one node hears all and nobody hears it
    LOSS = "loss"  # 10 % of chunks lost, on every link
    SLOW = "slow"  # 100 to 200 ms and 200 kB/s, on every link
    CUT = "cut"  # all connections of one node reset
    CLOCK = "clock"  # one node's wall clock jumps
    BLACKOUT = "blackout"  # SIGKILL of all nodes at once


@dataclass(frozen=True, slots=True)
class Round:
    """What happens at once, to whom, for how long."""

    faults: tuple[tuple[Kind, int], ...]  # kind and place of the node it is about
    seconds: float
    rest_seconds: float  # without faults afterwards
    skew_ms: int


def schedule(
    seed: int, nodes: int, *, kinds: Sequence[Kind] = tuple(Kind), scale: float = 1.0
) -> Iterator[Round]:
    """Draw rounds without end: each cycle has every kind once, in an order of its own.

    Args:
        seed: the same seed gives the same rounds.
        nodes: how many there are.
        kinds: which.
        scale: of all durations.
    """
    dice = random.Random(f"{seed} faults")
    first = True
    while True:
        order = list(kinds)
        dice.shuffle(order)
        for kind in order:
            drawn = [(kind, dice.randrange(nodes))]
            if not first and dice.random() < 0.25:
                drawn.append((dice.choice(order), dice.randrange(nodes)))
            yield Round(
                faults=tuple(drawn),
                seconds=scale * dice.uniform(0.6, 2.0),
                rest_seconds=scale * dice.uniform(0.3, 1.5),
                skew_ms=dice.choice(SKEWS_MS),
            )
        first = False


@dataclass(slots=True)
class Trouble:
    """Carries rounds out on a running network."""

    network: Network
    proxy: Proxy
    dice: random.Random
    done: Counter[Kind] = field(default_factory=Counter)

    async def play(self, each: Round) -> None:
        """One round, its rest included.

        Raises:
            NodeDied: a node ended by itself.
        """
        async with trio.open_nursery() as nursery:
            for kind, place in each.faults:
                nursery.start_soon(self._one, kind, place, each)
        self.check_alive()
        self.heal()
        await trio.sleep(each.rest_seconds)

    def heal(self) -> None:
        """Take back all faults; nodes that are down are started, not waited for."""
        self.proxy.heal()
        for node in self.network.nodes:
            set_skew(node.home, 0)
            node.signal(signal.SIGCONT)
            if not node.is_running():
                node.start()
        self.network.save()

    def check_alive(self) -> None:
        """Notice a node that ended by itself.

        Raises:
            NodeDied: which, and its last words.
        """
        for node in self.network.nodes:
            if node.pid and not node.is_running():
                raise NodeDied(f"{node.name} ended by itself: {node.last_words()}")

    async def _one(self, kind: Kind, place: int, each: Round) -> None:
        self.done[kind] += 1
        nodes = self.network.nodes
        match kind:
            case Kind.KILL:
                await self._kill([nodes[place]], each.seconds)
            case Kind.BLACKOUT:
                await self._kill(nodes, DOWN_SECONDS)
            case Kind.PAUSE:
                nodes[place].signal(signal.SIGSTOP)
                await trio.sleep(each.seconds)
                nodes[place].signal(signal.SIGCONT)
            case Kind.CLOCK:
                set_skew(nodes[place].home, each.skew_ms)
                await trio.sleep(each.seconds)
            case Kind.CUT:
                for other in range(len(nodes)):
                    if other != place:
                        self.proxy.cut(place, other)
            case _:
                self._disturb_links(kind, place)
                await trio.sleep(each.seconds)

    def _disturb_links(self, kind: Kind, place: int) -> None:
        places = list(range(len(self.network.nodes)))
        match kind:
            case Kind.ISOLATE:
                self.proxy.partition(set(places) - {place})
            case Kind.SPLIT:
                self.dice.shuffle(places)
                half = len(places) // 2
                self.proxy.partition(places[:half], places[half:])
            case Kind.SILENCE:
                self.proxy.silence(place)
            case Kind.LOSS:
                self.proxy.set_all(LOSSY)
            case _:
                self.proxy.set_all(SLOW)

    async def _kill(self, victims: Sequence[Node], seconds: float) -> None:
        for node in victims:
            node.signal(signal.SIGKILL)
        for node in victims:
            while node.is_running():  # noqa: ASYNC110 - a process that dies tells nobody here
                await trio.sleep(0.005)
            node.pid = 0
        await trio.sleep(max(DOWN_SECONDS, seconds))
        for node in victims:
            if not node.pid:
                node.start()
        self.network.save()
