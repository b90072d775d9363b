"""What a job of ours is run with: peers, children, patience, and who leases what is left.

Records and one port. Must not know how they are used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from prsm.node.inference.links import Links
from prsm.node.inference.market import Market
from prsm.node.inference.shards import ShardCache
from prsm.node.inference.unitrun import UnitRun
from prsm.node.inference.wishes import WINDOW
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB
from prsm.protocol.transactions.payloads import Unit


class NoQuorumOfResults(LocalError):
    """Too few equal opinions are possible; what is locked comes back at the deadline."""

    reason = "no_quorum_of_results"


class JobTooLarge(LocalError):
    """The tensors between the stages would take more memory than a job may."""

    reason = "job_too_large"


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds of one job of ours.

    Attributes:
        open_s: for a worker to fetch and load its shard.
        answer_s: for one micro-batch, from its push.
        finish_s: for a worker to commit and show its receipt.
        bytes_max: inputs and boundary tensors kept until settlement.
        hedge_times: a batch that takes so many times the average is given to another, too.
        hedge_s: but never before that.
    """

    open_s: float = 120.0
    answer_s: float = 60.0
    finish_s: float = 60.0
    bytes_max: int = 1024 * MIB
    hedge_times: float = 4.0
    hedge_s: float = 1.0


DEFAULT_PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True)
class Grant:
    """Work leased to others: the lock that pays it, its one unit, its workers."""

    job: bytes
    unit: Unit
    peers: dict[bytes, PeerId]


class Lessor(Protocol):
    """Who leases what a unit left undone to other workers."""

    async def lease(self, unit: UnitRun, batches: Sequence[int]) -> Grant:
        """Lock the lease; the batches are among those it covers.

        Raises:
            PrsmError: no budget, or nobody to do it.
        """
        ...

    async def compare(self, unit: UnitRun) -> tuple[float, float] | None:
        """Ms of a micro-batch at the one worker of a unit, and at the best other one.

        Returns:
            None where one of them was not measured.
        """
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What a job is run with.

    Attributes:
        links: conversations with the workers.
        lessor: None: what is lost stays lost.
        home: our own children, for the stages that stay at home.
        market: told what was measured, who failed, and who answered.
        patience: bounds.
        window: micro-batches in flight at each worker.
        is_open_ended: of the lock.
    """

    links: Links
    lessor: Lessor | None = None
    home: ShardCache | None = None
    market: Market = field(default_factory=Market)
    patience: Patience = DEFAULT_PATIENCE
    window: int = WINDOW
    is_open_ended: bool = False
