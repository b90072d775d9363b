"""What this node knows, between its jobs, of those who could work for it.

State only. Must not know plans.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

import trio

from prsm.node.inference.gauges import Gauges
from prsm.node.inference.interface import Chain
from prsm.node.inference.quotes import Asked, QuoteBook
from prsm.node.inference.routing import Bans
from prsm.node.inference.unitrun import UnitRun
from prsm.protocol.codec import encode

Recruit = Callable[[bytes, str, Collection[bytes]], Awaitable[bool]]


async def nobody(_model: bytes, _runtime: str, _only: Collection[bytes]) -> bool:
    """Link to no more workers: nobody else was heard of."""
    await trio.lowlevel.checkpoint()
    return False


def _loop_ms() -> int:
    return int(trio.current_time() * 1000)


@dataclass(slots=True)
class Market:
    """Measured facts, bans and quotes of peers.

    Attributes:
        now_ms: of bans.
        recruit: links to more workers for a model, a runtime and certain accounts (all if none are
            named); whether there are any.
    """

    gauges: Gauges = field(default_factory=Gauges)
    bans: Bans = field(default_factory=Bans)
    quotes: QuoteBook = field(default_factory=QuoteBook)
    now_ms: Callable[[], int] = _loop_ms
    recruit: Recruit = nobody

    def quote_of(self, worker: bytes, unit: UnitRun, chain: Chain) -> bytes:
        """Canonical bytes of the quote that holds for a unit; empty without one."""
        spec = unit.spec
        rows = sum(unit.stage.batch_rows[batch] for batch in unit.batches)
        asked = Asked(spec.model, spec.stages, rows)
        quote = self.quotes.find(worker, asked, time_ms=chain.block_time_ms())
        return b"" if quote is None else encode(quote)
