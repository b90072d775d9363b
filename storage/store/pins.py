"""What somebody wants kept, here already or not, and how far that has come.

Knows: names, owners, honest states. Must not know: who fetches what is pinned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from prsm.storage.cid import Cid
from prsm.storage.store.index import PinRow, State
from prsm.storage.store.shelf import Shelf

ADDED: Final = "added"  # the name that keeps what was brought in here: it may be nowhere else yet
REPAIR: Final = "repair"  # name of the pin of a copy that is kept for others


class PinState(Enum):
    """How far a pin has come."""

    HELD = "held"  # whole, here, and never collected
    FETCHING = "fetching"
    WAITING = "waiting"  # not here, and nobody fetches it now
    FAILED = "failed"  # somebody tried; the pin says why


@dataclass(frozen=True, slots=True)
class Pin:
    """A name under which a root is kept, and what there is of it."""

    root: Cid
    name: str
    owner: str
    state: PinState
    why: str


class Pins:
    """The pins of one store."""

    def __init__(self, shelf: Shelf) -> None:
        """Keep what is on a shelf."""
        self._shelf = shelf

    async def add(self, root: Cid, name: str, owner: str) -> PinState:
        """Keep a root under a name; answers at once. Pinned again, an old failure is forgotten."""
        await self._shelf.index.pin(PinRow(root, name, owner))
        return await self._state(PinRow(root, name, owner))

    async def fail(self, root: Cid, why: str) -> None:
        """Note on all pins of a root why it could not be fetched; empty: it could."""
        for pin in await self._shelf.index.pins():
            if pin.root == root and pin.why != why:
                await self._shelf.index.pin(replace(pin, why=why))

    async def list(self) -> Sequence[Pin]:
        """Return all pins, by root and name."""
        pins = []
        for row in await self._shelf.index.pins():
            state = await self._state(row)
            why = row.why if state is PinState.FAILED else ""
            pins.append(Pin(row.root, row.name, row.owner, state, why))
        return pins

    async def _state(self, pin: PinRow) -> PinState:
        row = await self._shelf.index.get_root(pin.root)
        if row is not None and row.state is State.SEALED:
            return PinState.HELD
        if pin.root in self._shelf.partials:
            return PinState.FETCHING
        if await self._shelf.index.held_blocks((pin.root.digest,)) and row is None:
            return PinState.HELD  # a manifest, or a block by itself
        return PinState.FAILED if pin.why else PinState.WAITING
