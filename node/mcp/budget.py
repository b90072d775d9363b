"""What the tools of one server may spend, over all calls together.

What a call may cost is taken from the budget before it begins; what it did not lock comes back
once that is known. Knows: amounts in micro-FTNS. Must not know: calls, tools.
"""

from prsm.protocol.errors import LocalError
from prsm.protocol.ids import format_ftns


class BudgetSpent(LocalError):
    """More than what is left of the budget."""

    reason = "budget_spent"


class Budget:
    """What is left.

    Invariants: what is taken and not given back never passes the limit.

    Args:
        limit: micro-FTNS; None: the node's limit of the token is the only one.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.taken = 0

    @property
    def left(self) -> int | None:
        """Micro-FTNS that may still be taken; None: the node decides."""
        return None if self.limit is None else self.limit - self.taken

    def take(self, wanted: int | None) -> int | None:
        """Reserve the most a call may cost: as it asks, or all that is left.

        Returns:
            What the call may lock at most; None: the node decides.

        Raises:
            BudgetSpent: it asks for more than is left.
        """
        left = self.left
        if left is None:
            cap = wanted
        elif wanted is not None and wanted > left:
            raise BudgetSpent(
                f"{format_ftns(wanted)} FTNS are asked for, {format_ftns(left)} are left of "
                f"{format_ftns(self.limit or 0)}"
            )
        else:
            cap = left if wanted is None else wanted
        self.taken += cap or 0
        return cap

    def give_back(self, cap: int | None, used: int) -> None:
        """Return what a call did not use of its reservation."""
        if cap is None:
            self.taken += used
        else:
            self.taken -= max(0, cap - used)
