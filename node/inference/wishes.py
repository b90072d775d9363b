"""What a plan is made of and from: the wish, the offers with their measured facts, the plan.

Records only. Source: docs/spec/work.md, "Planning".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from prsm.node.inference.refusals import PlanRefused
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.models import Shard
from prsm.protocol.receipts import WorkKind
from prsm.protocol.transactions.payloads import Unit

ShardKey = tuple[bytes, int, int]  # manifest, stages, index
OPINIONS: Final = 3  # 2 of 3, when nothing else is said
BY_VALUE: Final = 0  # as `Wish.redundancy`: so many opinions as the work is worth
WINDOW_MAX: Final = 64  # as the credit of `Accepted`
WINDOW: Final = 4  # micro-batches without an answer; 2 give 1.80 of 2 cores, 4 give 1.85


class Mode(Enum):
    """How rows meet workers."""

    REPLICAS = "replicas"  # whole rows, spread
    PIPELINE = "pipeline"  # stages, one behind the other


def needed_of(opinions: int) -> int:
    """How many must agree: more than half, so that two answers cannot both be right."""
    return opinions // 2 + 1


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """A worker that answered `AskCapacity`, and what was measured of it.

    Attributes:
        worker: account.
        peer: where it is.
        price_per_row: micro-FTNS a row of one stage, quoted or asked.
        slots_free: units it would take now.
        runtime: of its children.
        models: manifests it holds completely.
        memory_bytes: one child of it may take; 0 when it did not say.
        waiting_ms: work that waits there.
        row_ms: time of a row by shard: measured by us, else as it says.
        classes: determinism class by loaded shard.
        rtt_ms: round trip, None when not measured.
        bytes_per_s: to it and back, None when not measured.
        load_ms: to open a shard there, by shard, where it was measured.
        bonded_for: highest price of a sampled unit its pledge covers, None when nobody asked.
        refused: why it would not run this model the last time; empty when it never refused.
    """

    worker: bytes
    peer: PeerId
    price_per_row: int
    slots_free: int
    runtime: str
    models: frozenset[bytes]
    memory_bytes: int = 0
    waiting_ms: int = 0
    row_ms: Mapping[ShardKey, float] = field(default_factory=dict)
    classes: Mapping[ShardKey, bytes] = field(default_factory=dict)
    rtt_ms: float | None = None
    bytes_per_s: float | None = None
    load_ms: Mapping[ShardKey, float] = field(default_factory=dict)
    bonded_for: int | None = None
    refused: str = ""

    def is_bonded(self, price: int) -> bool:
        """Does its pledge cover a unit of that price that nobody compares?"""
        return self.bonded_for is None or price <= self.bonded_for


@dataclass(frozen=True, slots=True)
class Wish:
    """What the requester wants.

    Attributes:
        model: CID of the manifest.
        batch_rows: rows of each micro-batch.
        stages: pipeline stages; None: as the planner finds best.
        spread: parts of the rows that are done side by side; None: as the planner finds best.
        redundancy: workers named for each unit, 1 to 5, of which more than half must agree;
            `BY_VALUE` for as many as the work is worth.
        home_stages: first stages that the requester computes itself: its inputs stay at home.
        spares: replacements of the dearest unit that the lock's budget pays for; None: one where
            a unit has a single worker, none elsewhere.
        price_cap: micro-FTNS the whole escrow may hold, None for no bound.
        time_left_ms: until the deadline, in block time.
        estimate_ms: how long the rows took on earlier jobs, 0 when unknown.
        sizes: of the free axes, as the tokens of a padded row.
        window: micro-batches in flight at each worker.
        kind: of the work.
        only: accounts that may work; empty for all.
    """

    model: bytes
    batch_rows: tuple[int, ...]
    stages: int | None = 1
    spread: int | None = 1
    redundancy: int = OPINIONS
    home_stages: int = 0
    spares: int | None = None
    price_cap: int | None = None
    time_left_ms: int = 3_600_000
    estimate_ms: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    window: int = WINDOW
    kind: WorkKind = WorkKind.INFER
    only: tuple[bytes, ...] = ()

    @property
    def rows(self) -> int:
        """All rows of the job."""
        return sum(self.batch_rows)


@dataclass(frozen=True, slots=True)
class Considered:
    """A way to lay the job out, and what became of it.

    Attributes:
        mode: replicas or pipeline.
        stages: of the model.
        spread: parts of the rows.
        workers: distinct ones.
        amount: micro-FTNS it would lock.
        estimate_ms: of the work, None when too little was measured.
        why_not: empty for the one that was taken.
    """

    mode: Mode
    stages: int
    spread: int
    workers: int
    amount: int
    estimate_ms: float | None
    why_not: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the plan is as it is, for a person.

    Attributes:
        one_machine_ms: all rows on the best single worker, None when it is not known or fits none.
        plan_ms: as the plan does them, None when it is not known.
        because: sentences.
        considered: all layouts that were looked at, the taken one first.
    """

    one_machine_ms: float | None
    plan_ms: float | None
    because: tuple[str, ...]
    considered: tuple[Considered, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A job that can be locked.

    Attributes:
        units: in order of stages, then of rows.
        shards: of each unit.
        peers: of all named workers.
        amount: micro-FTNS the escrow holds, `budget` included.
        budget: micro-FTNS for replacements.
        home: shards of the first stages, computed by the requester itself.
        runtime: of the model.
        sizes: of the free axes, by name.
        why: the explanation.
    """

    units: tuple[Unit, ...]
    shards: tuple[Shard, ...]
    peers: dict[bytes, PeerId]
    amount: int
    budget: int = 0
    home: tuple[Shard, ...] = ()
    runtime: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    why: Explanation = Explanation(None, None, (), ())


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no plan: one reason or more."""

    reasons: tuple[PlanRefused, ...]
