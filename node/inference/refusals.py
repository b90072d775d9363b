"""Why a job cannot run as asked: one class a reason, each with the value and the limit.

Knows words. Must not know how a plan is made. Source: docs/spec/work.md, "Planning".
"""

from typing import ClassVar

from prsm.protocol.errors import LocalError


class PlanRefused(LocalError):
    """This job cannot run as asked; `value` is what there is, `limit` what it would need."""

    reason: ClassVar[str] = "plan_refused"

    def __init__(self, what: str, *, value: object, limit: object, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.value = value
        self.limit = limit


class NoCutForK(PlanRefused):
    """The model is not cut into that many stages."""

    reason = "no_cut_for_k"


class DoesNotFit(PlanRefused):
    """A shard needs more memory than any worker gives."""

    reason = "does_not_fit"


class ClassMissing(PlanRefused):
    """No determinism class is shared by as many workers as must agree."""

    reason = "class_missing"


class RuntimeMismatch(PlanRefused):
    """Workers run another runtime than the model was pinned with: their bits would differ."""

    reason = "runtime_mismatch"


class LinkBound(PlanRefused):
    """The tensors between stages need more bandwidth than was measured."""

    reason = "link_bound"


class TooFewPeers(PlanRefused):
    """Fewer workers than opinions needed."""

    reason = "too_few_peers"


class SessionQuota(PlanRefused):
    """The session cache is larger than a worker has room for."""

    reason = "session_quota"


class OpRefused(PlanRefused):
    """Every worker refused the model itself: an operator its gate does not let pass."""

    reason = "op_refused"


class PriceOverCap(PlanRefused):
    """The escrow would be higher than the requester allows."""

    reason = "price_over_cap"


class DeadlineImpossible(PlanRefused):
    """The estimate does not fit before the deadline."""

    reason = "deadline_impossible"


class TooManyBatches(PlanRefused):
    """More micro-batches than a receipt can list."""

    reason = "too_many_batches"
