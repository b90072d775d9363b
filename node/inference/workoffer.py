"""What this node's operator lets it do for others: paused or not, for how much, how much at once.

Said at run time, kept over restarts, above what config.toml says. A pause takes nothing new; what
is begun is finished and paid. Duties of the ledger (checks one is drawn for) go on: leaving them
costs the pledge.

Knows: the terms of this node, one small file. Must not know: jobs, how work is done.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import msgspec
import trio

from prsm.node.inference.capacity import Standing
from prsm.node.inference.interface import JobFacts, Policy
from prsm.node.inference.terms import Terms
from prsm.node.telemetry import logs
from prsm.protocol.jsontext import UNREADABLE
from prsm.protocol.limits import INT_MAX
from prsm.storage.wholefile import refused, replace_file

_FILE_BYTES_MAX: Final = 4096
PAUSED: Final = "its operator has paused work for others"

log: Final = logs.get("worker")


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator said; None: as config.toml and the program have it."""

    paused: bool = False
    price: Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)] | None = None
    units_max: Annotated[int, msgspec.Meta(ge=1)] | None = None


class WorkOffer:
    """The operator's word over a node's terms, and the policy that keeps it.

    Args:
        terms: of this node; price and units at once are changed here and nowhere else.
        inner: the policy that decides what is not paused.
        path: where the word is kept.
        hindrances: each says why nothing is taken now, or "".
    """

    def __init__(
        self,
        terms: Terms,
        inner: Policy,
        path: Path,
        *,
        hindrances: Sequence[Callable[[], str]] = (),
    ) -> None:
        self._terms, self._inner, self._path = terms, inner, path
        self._hindrances = hindrances
        self._turn = trio.Lock()
        self.configured: Final = replace(terms)
        self.said = _load(path)
        self._apply()

    @property
    def terms(self) -> Terms:
        """As they are now."""
        return self._terms

    async def change(self, change: Callable[[Said], Said]) -> None:
        """Let another word hold from now on; it is on disk first.

        Args:
            change: the word so far -> the one that is to hold.

        Raises:
            Full, StoreUnavailable: the disk refused, and nothing changed.
        """
        async with self._turn:
            said = change(self.said)
            raw = msgspec.json.encode(said)
            await trio.to_thread.run_sync(replace_file, self._path, raw)
            self.said = said
            self._apply()
        log.info(
            "work for others",
            paused=said.paused,
            price=self._terms.price_per_row,
            units_max=self._terms.units_max,
        )

    def hindrance(self) -> str:
        """Why nothing new is taken now; "" when it is."""
        if self.said.paused:
            return PAUSED
        return next((why for one in self._hindrances if (why := one())), "")

    def before(self, facts: JobFacts) -> str:
        """Why the work is refused; empty when it may be done."""
        return PAUSED if self.said.paused else self._inner.before(facts)

    def after(self, facts: JobFacts, outcome: str) -> None:
        """The inner policy is told."""
        self._inner.after(facts, outcome)

    def offered(self, standing: Callable[[], Standing]) -> Callable[[], Standing]:
        """The same offer, without free places while it is paused."""

        def now() -> Standing:
            offer = standing()
            return replace(offer, slots_free=0) if self.said.paused else offer

        return now

    def _apply(self) -> None:
        said, usual = self.said, self.configured
        self._terms.price_per_row = usual.price_per_row if said.price is None else said.price
        wanted = usual.units_max if said.units_max is None else said.units_max
        self._terms.units_max = min(wanted, usual.units_max)


def _load(path: Path) -> Said:
    """What was said before; a damaged file is nothing said.

    Raises:
        StoreUnavailable: the disk refused.
    """
    if not path.exists():
        return Said()
    with refused(path), path.open("rb") as file:
        raw = file.read(_FILE_BYTES_MAX)
    try:
        return msgspec.json.decode(raw, type=Said)
    except UNREADABLE:
        log.warning("what was said of work for others cannot be read", file=str(path))
        return Said()
