"""Which source is asked for which leaves next: pure, synchronous, no clock.

Knows: leaves, who holds what, windows. Must not know: how to ask, or how long it takes.

Invariants: a leaf is wanted by at most one open ask; a source that was dropped is never asked
again in the session; every leaf is either done, waiting or in an open ask.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from prsm.storage.interfaces import Leaf

RUN_LEAVES: Final = 8  # 8 MiB: one thread hop hashes and writes them
WINDOW: Final = 2  # runs open with one source, so that its pipe never runs dry


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this source for these successive leaves."""

    source: str
    leaves: tuple[Leaf, ...]


@dataclass(slots=True)
class _Provider:
    """What the session knows of a source."""

    bitset: bytes | None  # None: it cannot tell, so it is tried
    lacks: set[int] = field(default_factory=set)
    open_asks: int = 0

    def has(self, index: int) -> bool:
        if index in self.lacks:
            return False
        if self.bitset is None:
            return True
        return index // 8 < len(self.bitset) and bool(self.bitset[index // 8] >> index % 8 & 1)


class Session:
    """The leaves of one file that are still wanted, and who may be asked for them."""

    def __init__(self, missing: Iterable[Leaf]) -> None:
        """Begin with what is missing."""
        self._waiting = {leaf.index: leaf for leaf in missing}
        self._open = 0
        self._providers: dict[str, _Provider] = {}

    @property
    def is_finished(self) -> bool:
        """Whether every leaf has come."""
        return not self._waiting and not self._open

    @property
    def open_asks(self) -> int:
        """How many asks are under way."""
        return self._open

    def add_source(self, name: str, bitset: bytes | None) -> None:
        """Ask this source too; `bitset` says which leaves it holds, None that it cannot tell."""
        self._providers[name] = _Provider(bitset)

    def drop_source(self, name: str) -> None:
        """Never ask this source again; its open asks end with `ended` as all do."""
        self._providers.pop(name, None)

    def ended(self, ask: Ask, *, missing: Sequence[Leaf], lacks: bool = False) -> None:
        """Take back an ask.

        Args:
            ask: as `plan` returned it.
            missing: those of its leaves that did not come; they wait again.
            lacks: the source says it does not hold them.
        """
        self._open -= 1
        self._waiting.update((leaf.index, leaf) for leaf in missing)
        provider = self._providers.get(ask.source)
        if provider is not None:
            provider.open_asks -= 1
            if lacks:
                provider.lacks.update(leaf.index for leaf in missing)

    def take_run(self, provider: _Provider) -> tuple[Leaf, ...]:
        """Take the first successive leaves this source holds out of those that wait."""
        run: list[Leaf] = []
        for index in sorted(self._waiting):
            if run and (index != run[-1].index + 1 or len(run) == RUN_LEAVES):
                break
            if provider.has(index):
                run.append(self._waiting[index])
            elif run:
                break
        for leaf in run:
            del self._waiting[leaf.index]
        return tuple(run)

    def fill(self, name: str) -> Ask | None:
        """Give a source one more run, if it has room and holds something that waits."""
        provider = self._providers[name]
        if provider.open_asks >= WINDOW:
            return None
        run = self.take_run(provider)
        if not run:
            return None
        provider.open_asks += 1
        self._open += 1
        return Ask(name, run)

    def sources(self) -> Sequence[str]:
        """Return who may be asked, those with the fewest open asks first."""
        return sorted(self._providers, key=lambda name: self._providers[name].open_asks)


def plan(session: Session) -> list[Ask]:
    """Return what to ask now, filling every source's window in turn."""
    asks: list[Ask] = []
    for _ in range(WINDOW):
        for name in session.sources():
            ask = session.fill(name)
            if ask is not None:
                asks.append(ask)
    return asks
