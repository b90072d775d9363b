"""A disk that runs full takes no work, and works again once there is room."""

from prsm.node.inference.capacity import Standing
from prsm.node.inference.interface import JobFacts
from prsm.node.inference.roomy import RoomyDisk
from prsm.protocol.receipts import WorkKind

FACTS = JobFacts(b"j", b"t", b"r", next(iter(WorkKind)), b"m", 1)


class Inner:
    """Refuses or not, and remembers what it was told."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.told: list[str] = []

    def before(self, facts: JobFacts) -> str:
        assert facts is FACTS
        return self.why

    def after(self, facts: JobFacts, outcome: str) -> None:
        assert facts is FACTS
        self.told.append(outcome)


def test_work_stops_while_the_disk_is_low_and_goes_on_afterwards() -> None:
    low = [True]
    policy = RoomyDisk(Inner(), lambda: low[0])
    offered = policy.offered(lambda: Standing(1, "runtime", 3, ()))
    assert "nearly full" in policy.before(FACTS)
    assert offered().slots_free == 0
    low[0] = False
    assert policy.before(FACTS) == ""
    assert offered().slots_free == 3


def test_the_other_policy_still_decides() -> None:
    inner = Inner("not today")
    policy = RoomyDisk(inner, lambda: False)
    assert policy.before(FACTS) == "not today"
    policy.after(FACTS, "done")
    assert inner.told == ["done"]
