"""Rounds of custody: when one begins, and what its samples are drawn from.

A round lasts five epochs, at most five minutes, and at least 10 heights, so that a chain that
stood still fails nobody. Its seed is a hash of the block before its first one, which was fixed
before anybody could know that it would be. Rounds turn only while a deal is active, so a network
without custody has no entry for them. Source: docs/spec/ledger.md, "Custody".
"""

from typing import Final

import msgspec

from prsm.consensus.ledger.custody_records import ROUND_KEY, Round
from prsm.consensus.ledger.state import Reader, State, read
from prsm.protocol.custody import round_seed
from prsm.protocol.genesis import Parameters

ROUND_MS_MAX: Final = 300_000
ROUND_EPOCHS: Final = 5
ROUND_HEIGHTS_MIN: Final = 10


def round_ms(parameters: Parameters) -> int:
    """How long a round lasts at least, in block time."""
    return min(ROUND_MS_MAX, ROUND_EPOCHS * parameters.epoch_ms)


def read_round(reader: Reader) -> Round | None:
    """The present round; None before the first deal of the network was accepted."""
    return read(reader, ROUND_KEY, Round)


def turn(
    state: State,
    parameters: Parameters,
    *,
    chain_id: bytes,
    height: int,
    time_ms: int,
    parent: bytes,
) -> None:
    """Begin the next round if its time has come; before anything else of a block.

    Args:
        state: before the block; written to.
        parameters: those the block runs under.
        chain_id: of the network.
        height: of the block.
        time_ms: of the block.
        parent: hash of the block before it.
    """
    present = read_round(state)
    if present is None or not present.deals:
        return
    if time_ms < present.began_ms + round_ms(parameters):
        return
    if height < present.began_height + ROUND_HEIGHTS_MIN:
        return
    number = present.number + 1
    state.write(
        ROUND_KEY,
        Round(
            number=number,
            began_ms=time_ms,
            began_height=height,
            seed=round_seed(chain_id, number, parent),
            deals=present.deals,
        ),
    )


def begin_deal(state: State, *, height: int, time_ms: int) -> int:
    """Count one more active deal; returns the number of its first round, the next one."""
    present = read_round(state)
    if present is None:
        present = Round(number=0, began_ms=time_ms, began_height=height, seed=bytes(32), deals=0)
    state.write(ROUND_KEY, msgspec.structs.replace(present, deals=present.deals + 1))
    return present.number + 1


def end_deal(state: State) -> None:
    """Count one active deal less."""
    present = read_round(state)
    assert present is not None, "a deal without rounds"
    assert present.deals > 0, "more deals ended than began"
    state.write(ROUND_KEY, msgspec.structs.replace(present, deals=present.deals - 1))
