"""What the replica asks on the way, answered by the ledger: a draft, a verdict.

Knows: which answers are short enough for the loop, which want a thread. Must not know: when the
replica asks, or what becomes of the answer.
"""

from collections.abc import Callable
from functools import partial

import trio

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.pbft.effects import Effect, NeedPayload, Validate
from prsm.consensus.pbft.events import Event, Payload, Verdict
from prsm.consensus.pbft.state import State
from prsm.node.chain.drafts import INLINE_MAX, Drafts
from prsm.node.chain.pace import Pace
from prsm.node.clock import Clock
from prsm.node.telemetry import logs

log = logs.get("driver")


class Answers:
    """Asks the ledger on behalf of a replica.

    Args:
        state: of the replica.
        ledger: at the replica's tip.
        drafts: of proposals.
        pace: bounds a proposal.
        clock: of the node; its wall time binds fresh proposals.
    """

    def __init__(
        self, state: State, *, ledger: Ledger, drafts: Drafts, pace: Pace, clock: Clock
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._drafts = drafts
        self._pace = pace
        self._clock = clock

    def at_once(self, effect: Effect) -> Event | None:
        """The answer, where it costs less than a thread; None for a long one or another effect."""
        match effect:
            case NeedPayload(height=height, view=view):
                draft = self._drafts.draft_nowait(self._own(view), count_max=self._pace.block(view))
                return None if draft is None else Payload(height, view, draft)
            case Validate(block=block) if len(block.body.transactions) <= INLINE_MAX:
                return _verdict(effect, self._judge(effect)())
            case _:
                return None

    async def in_thread(self, asked: NeedPayload | Validate) -> Payload | Verdict:
        """The answer, whatever it costs, computed in a thread."""
        if isinstance(asked, Validate):
            return _verdict(asked, await trio.to_thread.run_sync(self._judge(asked)))
        view = asked.view
        draft = await self._drafts.draft(self._own(view), count_max=self._pace.block(view))
        return Payload(asked.height, view, draft)

    def _own(self, view: int) -> int:
        return self._state.instance.schedule.at(view)

    def _judge(self, asked: Validate) -> Callable[[], str | None]:
        block = asked.block
        # A re-proposed block keeps its old time: the window binds fresh proposals only.
        wall = self._clock.wall_ms() if block.header.view == self._state.instance.view else None
        return partial(self._ledger.judge, block, wall_ms=wall)


def _verdict(asked: Validate, fault: str | None) -> Verdict:
    if fault is not None:
        log.warning("block refused", height=asked.block.header.height, why=fault)
    return Verdict(asked.block_hash, fault is None)
