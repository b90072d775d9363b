"""Who reads from a network while it is soaked: every node is asked something each second.

Knows: methods that read, which nodes a fault holds down. Must not know: how faults are made. An
answer counts within a second. Of a node that is dead or stopped by a fault nothing is expected, nor
until it first answers again, half a minute at most; behind a partition a node still reads.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.chain import BlockParams
from prsm.node.rpc.methods.wallet import AccountParams
from prsm.node.rpc.spec import Params
from prsm.testnet import books
from prsm.testnet.asking import Asker, Door

BOOK: Final = "visits.jsonl"
EVERY_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 1.0  # an answer that comes later counts as none
BACK_SECONDS: Final = 30.0  # a node that was down and says nothing for longer is not available
ANSWERED: Final = "answered"
AWAY: Final = "away"  # held down by a fault, or on its way back
LATE: Final = "late"
# What people, dashboards and scripts look at; `net_getTopology` is not here, for it asks others.
READS: Final = (
    "account_getBalance", "account_getNonce", "chain_getBlock", "chain_getStatus",
    "chain_getSupply", "consensus_getRound", "consensus_getValidators", "job_list", "model_list",
    "net_getAnnouncements", "net_getPeers", "node_getHealth", "node_getStatus", "storage_getStats",
)  # fmt: skip
WasDown = Callable[[int, float], bool]


class Visit(msgspec.Struct, frozen=True):
    """One question to one node, and what became of it: a reason, or a word of this module."""

    at_s: float
    place: int
    method: str
    outcome: str
    took_ms: float


@dataclass(slots=True)
class Visitors:
    """A reader for each node.

    Args:
        folder: of the network.
        doors: of its nodes.
        accounts: their wallets.
        dice: draws the methods.
        was_down: did a fault hold a node's process down at any time since then?

    Attributes:
        asked, answered: so far, of nodes that were not held down.
    """

    folder: Path
    doors: Sequence[Door]
    accounts: Sequence[str]
    dice: random.Random
    was_down: WasDown
    asked: int = 0
    answered: int = 0
    _away: dict[int, float] = field(default_factory=dict)  # since when they may come back
    _began: float = 0.0

    async def run(self) -> None:
        """Ask until cancelled."""
        self._began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for place in range(len(self.doors)):
                nursery.start_soon(self._follow, place)

    async def _follow(self, place: int) -> None:
        asker = Asker(self.doors[place])
        turn = self._began + place * EVERY_SECONDS / len(self.doors)
        try:
            while True:
                turn = max(turn + EVERY_SECONDS, trio.current_time())
                await trio.sleep_until(turn)
                self._note(await self._visit(place, asker))
        finally:
            asker.close()

    async def _visit(self, place: int, asker: Asker) -> Visit:
        method, params = self._draw()
        began, outcome = trio.current_time(), LATE
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                await asker.call(method, params, result=msgspec.Raw)
                outcome = ANSWERED
            except RpcError as error:
                outcome = error.reason
            except NodeUnreachable:
                outcome = "unreachable"
        now = trio.current_time()
        if self._is_away(place, began, now, outcome):
            outcome = AWAY
        return Visit(
            round(began - self._began, 2), place, method, outcome, round(1000 * (now - began), 2)
        )

    def _is_away(self, place: int, began: float, now: float, outcome: str) -> bool:
        if self.was_down(place, began):
            self._away[place] = now
            return True
        if outcome == ANSWERED:
            self._away.pop(place, None)
        return now < self._away.get(place, -BACK_SECONDS) + BACK_SECONDS

    def _draw(self) -> tuple[str, Params | None]:
        method = self.dice.choice(READS)
        if method.startswith("account_"):
            return method, AccountParams(self.dice.choice(self.accounts))
        return method, BlockParams() if method == "chain_getBlock" else None

    def _note(self, visit: Visit) -> None:
        self.asked += visit.outcome != AWAY
        self.answered += visit.outcome == ANSWERED
        books.add(self.folder / BOOK, visit)


def read(folder: Path) -> list[Visit]:
    """Every visit, in the order they ended."""
    return books.read(folder / BOOK, Visit)
