"""Hashes of later blocks, kept only for whom a draw waits: nobody knew them when it was bound.

A height is wanted by whoever will draw from it; then the hash of the next block is kept, and of
the first one after it by another proposer, so that nobody draws from a block of its own making.
Source: docs/spec/work.md, "Audits".
"""

from typing import Final

import msgspec

from prsm.consensus.ledger.audit_records import AWAITED_KEY, Awaited, Beacon, beacon_key
from prsm.consensus.ledger.state import Reader, State, read

HEIGHTS_WAITED_MAX: Final = 64  # with one proposer there is no other: the first must do


def want(state: State, height: int) -> None:
    """Keep the hash of the first block after this one, until it is forgotten as often."""
    found = state.read(beacon_key(height), Beacon)
    if found is None:
        found = Beacon(wanted=0, first=None, proposer=None, second=None)
        awaited = state.read(AWAITED_KEY, Awaited)
        heights = () if awaited is None else awaited.heights
        if height not in heights:
            state.write(AWAITED_KEY, Awaited((*heights, height)))
    state.write(beacon_key(height), msgspec.structs.replace(found, wanted=found.wanted + 1))


def forget(state: State, height: int) -> None:
    """One draw from this height is over."""
    found = state.read(beacon_key(height), Beacon)
    assert found is not None, "a beacon nobody wanted"
    assert found.wanted > 0
    if found.wanted == 1:
        state.delete(beacon_key(height))
    else:
        state.write(beacon_key(height), msgspec.structs.replace(found, wanted=found.wanted - 1))


def hash_after(reader: Reader, height: int, *, unlike: bytes) -> bytes | None:
    """Hash of the first block after a wanted height whose proposer is not this account.

    None while there is none; with one proposer only, that of the first one in the end.
    """
    found = read(reader, beacon_key(height), Beacon)
    if found is None or found.first is None or found.proposer != unlike:
        return None if found is None else found.first
    if found.second is not None or is_awaited(reader, height):
        return found.second
    return found.first


def is_awaited(reader: Reader, height: int) -> bool:
    """May a block still come that completes the beacon of this height?"""
    awaited = read(reader, AWAITED_KEY, Awaited)
    return awaited is not None and height in awaited.heights


def note_block(state: State, *, height: int, name: bytes, proposer: bytes) -> None:
    """Keep the hash of a block for those who wait for it; after all else of the block.

    Args:
        state: after the block; written to.
        height: of the block.
        name: its hash.
        proposer: operator who proposed it.
    """
    awaited = state.read(AWAITED_KEY, Awaited)
    if awaited is None:
        return
    left = []
    for wanted in awaited.heights:
        found = state.read(beacon_key(wanted), Beacon)
        if found is None:  # forgotten meanwhile
            continue
        if wanted < height:
            found = _seen(found, name, proposer)
            state.write(beacon_key(wanted), found)
        if found.second is None and height < wanted + HEIGHTS_WAITED_MAX:
            left.append(wanted)
    if not left:
        state.delete(AWAITED_KEY)
    elif tuple(left) != awaited.heights:
        state.write(AWAITED_KEY, Awaited(tuple(left)))


def _seen(beacon: Beacon, name: bytes, proposer: bytes) -> Beacon:
    if beacon.first is None:
        return msgspec.structs.replace(beacon, first=name, proposer=proposer)
    if proposer != beacon.proposer:
        return msgspec.structs.replace(beacon, second=name)
    return beacon
