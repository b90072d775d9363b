"""What a request may cost: one amount that its micro-batches and their second tries share.

Must not know tabs, nor who asks. Invariants: what was taken never passes what is allowed; nothing
of it comes back, since a worker that is lost or refuses may have computed, and be paid.
"""

from dataclasses import dataclass

from prsm.node.inference.planner import PriceOverCap
from prsm.protocol.ids import format_ftns


@dataclass(slots=True)
class Purse:
    """Micro-FTNS of one request.

    Attributes:
        allowed: at most; None for no bound.
        taken: for slots so far.
    """

    allowed: int | None = None
    taken: int = 0

    def check(self, price: int, *, times: int = 1) -> None:
        """Is there enough for so many slots of a price?

        Raises:
            PriceOverCap: there is not.
        """
        cost = self.taken + price * times
        if self.allowed is not None and cost > self.allowed:
            raise PriceOverCap(
                f"the request costs up to {format_ftns(cost)} FTNS, "
                f"{format_ftns(self.allowed)} are allowed",
                value=cost,
                limit=self.allowed,
                hint="allow more, send fewer rows, or ask for fewer opinions",
            )

    def take(self, price: int, *, times: int = 1) -> None:
        """Take the price of so many slots.

        Raises:
            PriceOverCap: as `check`; nothing is taken.
        """
        self.check(price, times=times)
        self.taken += price * times
