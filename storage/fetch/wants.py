"""Which source is asked for which leaves now, and whom to stop waiting for: pure, no clock.

Knows leaves, providers, milliseconds handed in. Must not know how to ask: `fetching` does what
`plan` says. Source: docs/spec/storage.md, "Exchange".
"""

from collections.abc import Sequence
from typing import Final

from prsm.storage.fetch.asks import Action, Open
from prsm.storage.fetch.providers import RUNS_OPEN_MAX, Provider
from prsm.storage.fetch.wantlist import Session
from prsm.storage.interfaces import Leaf

HEDGE_MS_MIN: Final = 1_000
HEDGE_P95: Final = 2  # a run is late after so many times what 19 of 20 took
END_MS_MIN: Final = 200  # in the end game, when others have nothing else to do
STEAL_RATIO: Final = 2  # who takes a run over must be so much sooner done with it


def plan(session: Session, now_ms: int) -> list[Action]:
    """Say what to do now: whom to stop waiting for, whom to drop, whom to ask for what.

    Args:
        session: changed as if all of it were done.
        now_ms: monotonic.
    """
    session.expire(now_ms)
    actions = session.take_actions()
    actions += _fill_all(session, now_ms)
    while session.waiting and session.widen(now_ms):
        actions += _fill_all(session, now_ms)
    for provider in session.ready(now_ms):
        actions += _help_out(session, provider, now_ms)
    return actions


def _fill_all(session: Session, now_ms: int) -> list[Action]:
    """Fill every source's window in turn, one run each."""
    asks: list[Action] = []
    for _ in range(RUNS_OPEN_MAX):
        for provider in session.ready(now_ms):
            ask = session.fill(provider, now_ms=now_ms)
            if ask is not None:
                asks.append(ask)
    return asks


def _help_out(session: Session, provider: Provider, now_ms: int) -> Sequence[Action]:
    """Let a source with nothing to do take a run over, or double one that is late."""
    room = provider.room()
    if not room or provider.strikes or provider.open_asks:
        return ()
    others = [ask for ask in session.open_asks if ask.source != provider.name]
    for ask in reversed(others):
        if _is_worth_stealing(session, ask, provider):
            return session.take_over(ask, provider, now_ms=now_ms)
    for ask in others:
        if not _is_worth_doubling(session, ask, provider, now_ms):
            continue
        leaves = _affordable(session, ask, provider, room)
        if leaves:
            return (session.double(provider, leaves, now_ms=now_ms),)
    return ()


def _is_worth_stealing(session: Session, ask: Open, thief: Provider) -> bool:
    owner = session.providers[ask.source]
    if ask.came or ask.is_hedge or owner.open_asks[0] == ask.number or session.is_doubled(ask):
        return False
    if not thief.rate.bytes_per_s or not all(thief.has(index) for index in ask.pending):
        return False
    before = sum(other.size for other in session.open_asks if other.source == ask.source)
    return owner.due_ms(before) > STEAL_RATIO * thief.due_ms(ask.size)


def _is_worth_doubling(session: Session, ask: Open, helper: Provider, now_ms: int) -> bool:
    if ask.is_hedge or session.is_doubled(ask):
        return False
    age_ms, p95_ms = now_ms - ask.since_ms, session.durations.p95_ms()
    if age_ms >= max(HEDGE_MS_MIN, HEDGE_P95 * p95_ms):
        return True
    # The end game: what the slow still owe is all there is to do.
    is_end = not session.waiting and len(session.open_asks) < 2 * len(session.providers)
    if not is_end or not helper.rate.bytes_per_s or age_ms < max(END_MS_MIN, p95_ms):
        return False
    owner = session.providers[ask.source]
    return owner.due_ms(ask.size) > STEAL_RATIO * helper.due_ms(ask.size)


def _affordable(session: Session, ask: Open, helper: Provider, room: int) -> list[Leaf]:
    """The first successive leaves of an ask this source holds and the budget has room for."""
    leaves: list[Leaf] = []
    left = session.waste.left
    for leaf in ask.pending.values():
        if len(leaves) == room or leaf.size > left or not helper.has(leaf.index):
            break
        if leaves and leaf.index != leaves[-1].index + 1:
            break
        leaves.append(leaf)
        left -= leaf.size
    return leaves
