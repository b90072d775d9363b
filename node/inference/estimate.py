"""How long a layout takes, from measured facts alone; None where too little was measured.

Pure. Floats never leave this node: they order plans and are shown to a person.
Source: docs/spec/work.md, "Planning".
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from prsm.node.inference.memory import needed
from prsm.node.inference.routing import StageCost
from prsm.node.inference.wishes import WorkerOffer
from prsm.protocol.limits import MIB
from prsm.protocol.messages.models import Shard, TensorSpec
from prsm.protocol.tensors import ITEM_BYTES
from prsm.protocol.transactions.payloads import Unit

# What a child takes beside the weights: measured 43 MiB of base, 3 x the weights while it loads.
CHILD_BASE_BYTES: Final = 64 * MIB
CHILD_WEIGHTS_TIMES: Final = 3


def memory_needed(shard: Shard) -> int:
    """Bytes a child needs to load a shard."""
    if shard.weights:
        # The files are about of one size; of one that is larger the child itself says so.
        return needed(0, [shard.weight_bytes // len(shard.weights)] * len(shard.weights))
    return CHILD_BASE_BYTES + CHILD_WEIGHTS_TIMES * shard.weight_bytes


def row_bytes(specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> int:
    """Bytes of one row of tensors; a free axis without a size counts once."""
    total = 0
    for spec in specs:
        count = ITEM_BYTES[spec.dtype]
        for dim in spec.shape[1:]:
            count *= dim if isinstance(dim, int) else sizes.get(dim, 1)
        total += count
    return total


class Clockwork:
    """Times of shards at workers, with what nobody measured taken from what is nearest.

    A shard that never ran at a worker takes its part of what another shard of the model took
    there, by weight elements; without any at that worker, the median of the others.
    """

    def __init__(
        self,
        model: bytes,
        shards: Sequence[Shard],
        offers: Sequence[WorkerOffer],
        sizes: Mapping[str, int],
    ) -> None:
        self._model, self._offers, self._sizes = model, offers, sizes
        self._weights = {(s.stages, s.index): max(1, s.weight_flops) for s in shards}

    def row_ms(self, offer: WorkerOffer, shard: Shard) -> float | None:
        """Time of a row of a shard at a worker."""
        own = self._scaled(offer, shard)
        if own is not None:
            return own
        others = [self._scaled(each, shard) for each in self._offers]
        known = [ms for ms in others if ms is not None]
        return median(known) if known else None

    def _scaled(self, offer: WorkerOffer, shard: Shard) -> float | None:
        exact = offer.row_ms.get((self._model, shard.stages, shard.index))
        if exact is not None:
            return exact
        weight = self._weights[shard.stages, shard.index]
        parts = [
            ms * weight / self._weights[stages, index]
            for (model, stages, index), ms in sorted(offer.row_ms.items())
            if model == self._model and (stages, index) in self._weights
        ]
        return median(parts) if parts else None

    def transfer_ms(self, offer: WorkerOffer, shard: Shard, rows: int) -> float:
        """Time the tensors of so many rows take both ways; 0 where no rate was measured."""
        if not offer.bytes_per_s:
            return 0.0
        each = row_bytes(shard.inputs, self._sizes) + row_bytes(shard.outputs, self._sizes)
        return rows * each * 1000 / offer.bytes_per_s

    def cost(self, offer: WorkerOffer, shard: Shard, rows: int, *, batches: int = 1) -> StageCost:
        """The edge into a stage at a worker, of one micro-batch."""
        key = (self._model, shard.stages, shard.index)
        is_loaded = key in offer.classes
        load_ms = 0.0 if is_loaded else offer.load_ms.get(key, 0.0)
        return StageCost(
            rtt_ms=offer.rtt_ms or 0.0,
            transfer_ms=self.transfer_ms(offer, shard, rows),
            compute_ms=rows * (self.row_ms(offer, shard) or 0.0),
            queue_ms=float(offer.waiting_ms),
            load_ms=load_ms / max(1, batches),
        )

    def makespan_ms(
        self,
        units: Sequence[tuple[Unit, Shard]],
        offers: Mapping[bytes, WorkerOffer],
        batch_rows: Sequence[int],
        *,
        window: int,
    ) -> float | None:
        """Time until the last output, from the first push.

        A worker computes one micro-batch at a time, whatever unit it is of; a unit passes at most
        `window` micro-batches a round trip; and each stage is waited for once.
        """
        busy: dict[bytes, float] = {}
        slowest, fill = 0.0, dict[int, float]()
        for unit, shard in units:
            rows = batch_rows[unit.first : unit.first + unit.count]
            for worker in unit.workers[: unit.needed]:
                offer = offers[worker]
                if self.row_ms(offer, shard) is None:
                    return None
                cost = self.cost(offer, shard, max(rows))
                busy[worker] = busy.get(worker, cost.queue_ms) + cost.compute_ms * len(rows)
                around = cost.rtt_ms + cost.transfer_ms + cost.compute_ms
                slowest = max(slowest, around * len(rows) / window, cost.transfer_ms * len(rows))
                fill[unit.stage] = max(fill.get(unit.stage, 0.0), around)
        first = max(fill.values(), default=0.0)
        return max(slowest, max(busy.values(), default=0.0)) + sum(fill.values()) - first
