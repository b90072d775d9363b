"""Measure what stands below every figure of daemons: one check, one durable row, one round trip.

For parts whose figures come from commands: their limits are then of the same run. Knows the
pieces. Must not know what is built of them.
"""

from collections.abc import Mapping
from typing import Final

import trio
from benchmarks import four_nodes, replica
from benchmarks.four_nodes import FLOOR, ROUND_TRIP
from benchmarks.replica import CHECKS

LIMITS: Final[Mapping[str, str]] = {}
Row = tuple[str, float, str]


def measure_all() -> list[Row]:
    """All three, in a second or two."""
    trip = four_nodes.measure_round_trip()
    return [
        (ROUND_TRIP, trip, "ms"),
        (FLOOR, trip + trio.run(four_nodes.measure_commit), "ms"),
        (CHECKS, replica.measure_checks(), "1/s"),
    ]
