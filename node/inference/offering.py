"""What this node tells whoever asks: what it would do, for how much, how quick the way is.

Joins three desks. Must not know jobs.
"""

from collections.abc import Callable

from prsm.node.clock import Clock
from prsm.node.inference.capacity import CapacityDesk, Standing
from prsm.node.inference.interface import Chain, Models
from prsm.node.inference.probing import ProbeDesk
from prsm.node.inference.quotes import QuoteDesk
from prsm.node.net.interface import Network


def offer_work(
    network: Network,
    chain: Chain,
    models: Models,
    standing: Callable[[], Standing],
    clock: Clock,
) -> None:
    """Open the desks, before the network runs."""
    CapacityDesk(network, chain, models, standing=standing)
    QuoteDesk(network, chain, standing=standing)
    ProbeDesk(network, clock)
