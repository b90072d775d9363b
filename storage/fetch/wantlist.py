"""The leaves one session still wants, who may be asked for them, and what happened so far: pure.

Knows leaves, providers, milliseconds handed in. Must not know how to ask, or a clock: `fetching`
says what happened, `wants` decides. Source: docs/spec/storage.md, "Exchange".

Invariants: a leaf is done, waits, or is in one open ask; in two only while it is doubled, and
what was doubled stays within the waste budget; a source that was dropped is never asked again.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from prsm.protocol.limits import KIB
from prsm.storage.fetch.asks import Action, Ask, Cancel, Drop, Hedge, Open, Outcome, Waste, named
from prsm.storage.fetch.providers import LIES_MAX, STRIKES_MAX, Provider
from prsm.storage.fetch.rates import Durations, Rate
from prsm.storage.interfaces import Leaf, Traits

STALL_MS: Final = 5_000  # owing something and sending nothing
RUN_MS: Final = 15_000  # 8 MiB at 0.5 MiB/s
WASTE_PERCENT: Final = 3
BUSY_MAX: Final = 20  # refusals in a row that name a time to come back
TIER_RATE: Final = 256 * KIB  # a second; below it the next tier of sources is asked too
TIER_MS: Final = 3_000


@dataclass(slots=True)
class _Book:
    """Leaves that wait, in order, and what is open."""

    waiting: dict[int, Leaf]
    order: list[int]  # indexes of `waiting`, ascending
    open: dict[int, Open] = field(default_factory=dict)
    cover: dict[int, int] = field(default_factory=dict)  # open asks a leaf is in


class Session:
    """The leaves of one file that are still wanted, and who may be asked for them.

    Args:
        missing: what is wanted.
        now_ms: monotonic.
    """

    def __init__(self, missing: Iterable[Leaf], *, now_ms: int) -> None:
        waiting = {leaf.index: leaf for leaf in missing}
        self._book = _Book(waiting, sorted(waiting))
        size = sum(leaf.size for leaf in waiting.values())
        largest = max((leaf.size for leaf in waiting.values()), default=0)
        self.waste = Waste(max(size * WASTE_PERCENT // 100, largest))
        self.providers: dict[str, Provider] = {}
        self.durations = Durations()
        self._rate = Rate(now_ms=now_ms)
        self.asks_max: int | None = None  # of all sources together; None: as windows allow
        self._numbers = 0
        self._joined = 0
        self._busy: dict[str, int] = {}
        self._actions: list[Action] = []
        self._tier = 0
        self._tier_ms = now_ms

    @property
    def is_finished(self) -> bool:
        """Whether every leaf has come."""
        return not self._book.waiting and not self._book.open

    @property
    def waiting(self) -> int:
        """Leaves nobody is asked for."""
        return len(self._book.waiting)

    @property
    def open_asks(self) -> Sequence[Open]:
        """What is under way, the oldest first."""
        return tuple(self._book.open.values())

    @property
    def is_stuck(self) -> bool:
        """Whether nothing is under way and nobody can be asked, now or later."""
        if self._book.open or self._actions:
            return False
        return not any(
            provider.has(index)
            for provider in self.providers.values()
            for index in self._book.order
        )

    def growing(self) -> Sequence[str]:
        """Sources that did not hold all of what waits when they said what they hold."""
        return [
            provider.name
            for provider in self.providers.values()
            if provider.bitset is not None and not all(map(provider.claims, self._book.order))
        ]

    def losers(self) -> Sequence[str]:
        """Sources that still owe leaves which were asked of them too often."""
        return [provider.name for provider in self.providers.values() if provider.has_lost]

    # -- what happened

    def add_source(
        self, name: str, bitset: bytes | None, *, now_ms: int, traits: Traits | None = None
    ) -> None:
        """Ask this source too, or believe its newer have-map.

        Args:
            name: of the source.
            bitset: which leaves it says it holds; None: it cannot tell.
            now_ms: monotonic.
            traits: how it likes to be asked.
        """
        known = self.providers.get(name)
        if known is not None:
            known.bitset = bitset
            return
        self._joined += 1
        self.providers[name] = Provider(
            name, bitset, traits or Traits(), Rate(now_ms=now_ms), self._joined, heard_ms=now_ms
        )

    def drop_source(self, name: str, *, now_ms: int) -> None:
        """Never ask this source again; what it owes waits again, and `plan` says to cancel it."""
        provider = self.providers.pop(name, None)
        if provider is None:
            return
        for number in list(provider.open_asks):
            self._release(self._book.open[number], now_ms=now_ms, refund=True)
            self._actions.append(Cancel(number, name))

    def owed(self, number: int) -> tuple[Leaf, ...]:
        """What an ask still has to bring, in order; empty once it has ended."""
        ask = self._book.open.get(number)
        return () if ask is None else tuple(ask.pending.values())

    def arrived(self, number: int, leaves: Sequence[Leaf], *, now_ms: int) -> None:
        """Verified leaves came by an ask; whoever else owes them need not send them."""
        size = sum(leaf.size for leaf in leaves)
        self._rate.add(size, now_ms=now_ms)
        ask = self._book.open.get(number)
        if ask is not None:
            ask.came += len(leaves)
            provider = self.providers[ask.source]
            provider.is_proven |= bool(leaves)
            self._thank(provider, size, now_ms=now_ms)
        for leaf in leaves:
            if leaf.index in self._book.waiting:
                self._unwait(leaf.index)
            for other in self._holders(leaf.index):
                self._settle(other, leaf.index)
        for other in [other for other in self._book.open.values() if not other.pending]:
            self._release(other, now_ms=now_ms, refund=False)
            if other.number != number:
                self._actions.append(Cancel(other.number, other.source))
            else:
                self.durations.add(now_ms - other.since_ms)

    def ended(self, number: int, outcome: Outcome, *, now_ms: int, retry_after_ms: int = 0) -> None:
        """An ask ended; what it still owes waits again. One the session ended itself is ignored."""
        ask = self._book.open.get(number)
        if ask is None:
            return
        provider = self.providers[ask.source]
        provider.heard_ms = now_ms
        match outcome:
            case Outcome.DONE:
                pass
            case Outcome.LACKS:
                provider.lacks(ask.pending)
            case Outcome.LATE:
                self._strike(provider, (ask,))
            case Outcome.BUSY:
                self._busy[ask.source] = self._busy.get(ask.source, 0) + 1
                provider.paused_ms = now_ms + max(1, retry_after_ms)
            case Outcome.FAILED:
                pass
        self._release(ask, now_ms=now_ms, refund=outcome is not Outcome.DONE)
        if outcome is Outcome.FAILED:
            self.drop_source(ask.source, now_ms=now_ms)
        elif why := self._unfit(provider):
            self._drop(provider, why, now_ms=now_ms)

    # -- what to do: called by `plan`

    def take_actions(self) -> list[Action]:
        """What events have made necessary already."""
        actions, self._actions = self._actions, []
        return actions

    def expire(self, now_ms: int) -> None:
        """Stop waiting for those who stall, and for runs that take too long."""
        for provider in list(self.providers.values()):
            asks = [self._book.open[number] for number in provider.open_asks]
            if asks and now_ms - provider.heard_ms >= STALL_MS:
                why = f"sent nothing for {STALL_MS // 1000} s of {named(asks)}"
            else:
                asks = [ask for ask in asks if now_ms - ask.since_ms >= RUN_MS]
                why = f"did not send {named(asks)} within {RUN_MS // 1000} s"
            if not asks:
                continue
            self._strike(provider, asks)
            for ask in asks:
                self._release(ask, now_ms=now_ms, refund=True)
                self._actions.append(Cancel(ask.number, ask.source))
            provider.heard_ms = now_ms
            if provider.strikes > STRIKES_MAX:
                self._drop(provider, f"{why}, {provider.strikes} times", now_ms=now_ms)

    def ready(self, now_ms: int) -> list[Provider]:
        """Who may be asked now: those with the fewest open leaves for their pace first."""
        able = [
            provider
            for provider in self.providers.values()
            if provider.traits.tier <= self._tier and provider.is_asked_at(now_ms)
        ]
        return sorted(able, key=lambda p: (p.strikes, len(p.open_asks), p.joined))

    def fill(self, provider: Provider, *, now_ms: int) -> Ask | None:
        """Give a source one more run, if it has room and holds something that waits."""
        if self.asks_max is not None and len(self._book.open) >= self.asks_max:
            return None
        run = self._take_run(provider, provider.room())
        return None if not run else self.open(provider, run, now_ms=now_ms)

    def open(self, provider: Provider, leaves: Sequence[Leaf], *, now_ms: int) -> Ask:
        """Note that leaves which wait no more are asked of a source."""
        self._numbers += 1
        ask = Ask(self._numbers, provider.name, tuple(leaves))
        self._enter(provider, ask.number, ask.leaves, now_ms=now_ms, is_hedge=False)
        return ask

    def double(self, provider: Provider, leaves: Sequence[Leaf], *, now_ms: int) -> Hedge:
        """Note that leaves another one owes are asked of a source too."""
        self._numbers += 1
        self.waste.doubled += sum(leaf.size for leaf in leaves)
        hedge = Hedge(self._numbers, provider.name, tuple(leaves))
        self._enter(provider, hedge.number, hedge.leaves, now_ms=now_ms, is_hedge=True)
        return hedge

    def take_over(self, ask: Open, thief: Provider, *, now_ms: int) -> tuple[Cancel, Ask]:
        """Move an ask that has brought nothing yet to a faster source."""
        leaves = tuple(ask.pending.values())
        self._release(ask, now_ms=now_ms, refund=False)
        for leaf in leaves:
            self._unwait(leaf.index)
        return Cancel(ask.number, ask.source), self.open(thief, leaves, now_ms=now_ms)

    def is_doubled(self, ask: Open) -> bool:
        """Whether another source is asked for some of its leaves too."""
        return any(self._book.cover[index] > 1 for index in ask.pending)

    def widen(self, now_ms: int) -> bool:
        """Ask the next tier of sources too, if those so far give little; says whether it did."""
        later = [p.traits.tier for p in self.providers.values() if p.traits.tier > self._tier]
        if not later or not self._book.waiting:
            return False
        is_idle = not self._book.open and not any(
            not p.is_asked_at(now_ms)
            for p in self.providers.values()
            if p.traits.tier <= self._tier
        )
        if self._rate.fade(now_ms=now_ms) >= TIER_RATE:
            self._tier_ms = now_ms
        if not is_idle and now_ms - self._tier_ms < TIER_MS:
            return False
        self._tier, self._tier_ms = min(later), now_ms
        return True

    # -- leaves

    def _take_run(self, provider: Provider, most: int) -> list[Leaf]:
        """Take the first successive leaves this source holds out of those that wait."""
        run: list[Leaf] = []
        if most < 1:
            return run
        for index in self._book.order:
            if run and (index != run[-1].index + 1 or len(run) == most):
                break
            if provider.has(index):
                run.append(self._book.waiting[index])
            elif run:
                break
        for leaf in run:
            self._unwait(leaf.index)
        return run

    def _unwait(self, index: int) -> None:
        del self._book.waiting[index]
        del self._book.order[bisect_left(self._book.order, index)]

    def _enter(
        self,
        provider: Provider,
        number: int,
        leaves: Sequence[Leaf],
        *,
        now_ms: int,
        is_hedge: bool,
    ) -> None:
        if not provider.open_asks:
            provider.heard_ms = now_ms
            provider.rate.rest(now_ms=now_ms)
        pending = {leaf.index: leaf for leaf in leaves}
        self._book.open[number] = Open(number, provider.name, pending, now_ms, is_hedge)
        provider.open_asks.append(number)
        provider.open_leaves += len(leaves)
        for index in pending:
            self._book.cover[index] = self._book.cover.get(index, 0) + 1

    def _holders(self, index: int) -> list[Open]:
        if index not in self._book.cover:
            return []
        return [ask for ask in self._book.open.values() if index in ask.pending]

    def _settle(self, ask: Open, index: int) -> Leaf:
        """A leaf is in this ask no more."""
        if (provider := self.providers.get(ask.source)) is not None:
            provider.open_leaves -= 1
        self._book.cover[index] -= 1
        if not self._book.cover[index]:
            del self._book.cover[index]
        return ask.pending.pop(index)

    def _release(self, ask: Open, *, now_ms: int, refund: bool) -> None:
        """End an ask; what nobody else owes waits again, and what was never sent is no waste."""
        for index in list(ask.pending):
            leaf = self._settle(ask, index)
            if index not in self._book.cover:
                self._book.waiting[index] = leaf
                insort(self._book.order, index)
            elif refund:
                self.waste.doubled = max(0, self.waste.doubled - leaf.size)
        del self._book.open[ask.number]
        provider = self.providers.get(ask.source)
        if provider is not None:
            provider.open_asks.remove(ask.number)
            if not provider.open_asks:
                provider.rate.rest(now_ms=now_ms)

    def _thank(self, provider: Provider, size: int, *, now_ms: int) -> None:
        provider.heard_ms = now_ms
        provider.strikes = 0
        provider.rate.add(size, now_ms=now_ms)
        self._busy.pop(provider.name, None)

    def _strike(self, provider: Provider, asks: Sequence[Open]) -> None:
        provider.strikes += 1
        for ask in asks:
            provider.lost(ask.pending)

    def _unfit(self, provider: Provider) -> str:
        """Why a source that answers is not asked any more; empty while it is."""
        if provider.lies >= LIES_MAX:
            return f"said {provider.lies} times that it holds leaves, and did not have them"
        if self._busy.get(provider.name, 0) > BUSY_MAX:
            return f"was busy {BUSY_MAX} times in a row"
        if provider.strikes > STRIKES_MAX:
            return f"gave up {provider.strikes} times in a row"
        return ""

    def _drop(self, provider: Provider, why: str, *, now_ms: int) -> None:
        self.drop_source(provider.name, now_ms=now_ms)
        is_lie = provider.lies >= LIES_MAX
        self._actions.append(Drop(provider.name, f"{provider.name} {why}", is_lie=is_lie))
