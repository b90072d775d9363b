"""The ten promises of a run, by number and name; each violation says which one it breaks.

Knows: numbers, names. Must not know: how one is checked (testnet/sim/checker, book, world).
Source: docs/spec/pbft.md, "Invariants".
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final


class Invariant(IntEnum):
    """What no run may break while faulty stake is below a third."""

    AGREEMENT = 1  # one block a height among honest nodes
    STATE = 2  # equal height: equal state and receipts root
    HONEST_KEYS = 3  # no honest key in valid evidence; no honest node gives up its signature
    TRANSACTIONS = 4  # each valid, in order, once; money conserved
    CERTIFICATES = 5  # of each decided block, by the set of its epoch
    DURABILITY = 6  # nothing left a node whose record was not durable
    LIVENESS = 7  # after healing all honest nodes go on, in time
    PUNISHMENT = 8  # a double vote that two honest nodes saw is punished, once
    MEMORY = 9  # tables stay in their bounds
    DETERMINISM = 10  # same seed, same run: checked by playing twice


_NAMES: Final = {each: each.name.lower().replace("_", " ") for each in Invariant}


def violation(invariant: Invariant, what: str) -> str:
    """A line of a report."""
    return f"{invariant.value} {_NAMES[invariant]}: {what}"


def counted(violations: Iterable[str]) -> dict[str, int]:
    """How often each invariant is broken in these lines; other lines count as `crash`."""
    found: dict[str, int] = {}
    known = {f"{each.value} {name}" for each, name in _NAMES.items()}
    for line in violations:
        name = line.partition(":")[0]
        name = name if name in known else "crash"
        found[name] = found.get(name, 0) + 1
    return found
