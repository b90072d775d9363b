"""One fetch of one file: does what `wants` decides, hashes, only then writes.

Knows sources, deadlines, the file on its way. Must not know transports, or who waits for the file.
Bytes that do not match are never written (`Landing`); who sent them is dropped and reported, and
what it had under way is not looked at: blocks of one source are checked one after the other.
Source: docs/spec/storage.md, "Exchange".

All tasks of a fetch live in one nursery and change the session between two awaits only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.protocol.errors import PrsmError
from prsm.protocol.limits import KIB
from prsm.storage.cid import Cid
from prsm.storage.errors import (
    Full,
    NotFound,
    SourceBroken,
    SourceCorrupt,
    SourceSlow,
    StoreUnavailable,
)
from prsm.storage.fetch.asking import ANSWER_SECONDS, block_of, slow
from prsm.storage.fetch.asks import Action, Ask, Cancel, Drop, Hedge, Outcome
from prsm.storage.fetch.faults import Faults, verdict
from prsm.storage.fetch.transfers import Meter, Transfers
from prsm.storage.fetch.wantlist import Session
from prsm.storage.fetch.wants import plan
from prsm.storage.interfaces import Landing, Leaf, Source, traits_of

TICK_SECONDS: Final = 0.25  # deadlines are looked at so often
GRACE_SECONDS: Final = 30.0  # of a whole fetch, beside its bytes
RATE_MIN: Final = 256 * KIB  # a second; slower than this on the whole is too slow


@dataclass(frozen=True, slots=True)
class Around:
    """What a fetch is part of.

    Attributes:
        transfers: told of progress.
        is_yielding: whether something more urgent is under way: one ask at a time then.
        turn_of: what whoever checks blocks of a source of that name holds, whatever the file.
    """

    transfers: Transfers
    is_yielding: Callable[[], bool]
    turn_of: Callable[[str], trio.Lock]


class Fetch:
    """A file on its way: joins sources, asks, writes, counts.

    Args:
        root: of the file.
        size: of it, bytes.
        faults: where failures are noted.
        around: what it is part of.
    """

    def __init__(self, root: Cid, size: int, faults: Faults, around: Around) -> None:
        self.root = root
        self.faults = faults
        self._meter: Meter | None = None
        self._size = size
        self._around = around
        self._sources: dict[str, Source] = {}
        self._late: list[Source] = []
        self._bell = trio.Event()
        self._session: Session | None = None
        self._scopes: dict[int, trio.CancelScope] = {}
        self._came: set[int] = set()  # leaves, by index
        self._waited = -1  # leaves that waited when sources were asked again what they hold
        self._untold = 0  # sources that have not said yet what they hold
        self._ours: PrsmError | None = None

    def join(self, source: Source) -> None:
        """Ask this source too, from now on; one that sent wrong bytes is not taken back."""
        name = source.name
        is_back = self.faults.has(name) and not self.faults.is_final(name)
        if is_back:
            self.faults.forgive(name)
        if is_back or name not in self._sources:
            self._sources[name] = source
            self._late.append(source)
            self._bell.set()

    def expel(self, name: str, error: SourceCorrupt) -> None:
        """A source sent wrong bytes of another file: what it owes here is asked of others."""
        if name not in self._sources or self.faults.has(name):
            return
        self.faults.share(name, error)
        if self._session is not None:
            self._session.drop_source(name, now_ms=_now_ms())
        self._bell.set()

    async def run(self, partial: Landing, meter: Meter) -> None:
        """Bring all of it here.

        Args:
            partial: where it goes.
            meter: counts what comes.

        Raises:
            NotFound: every source says it does not hold the rest.
            SourceSlow, SourceCorrupt, SourceFailed: else, the worst that happened.
            BadDag: the root is no file of this size.
            Full, StoreUnavailable: our own disk.
        """
        self._meter = meter
        seconds = GRACE_SECONDS + (self._size - partial.verified_bytes) / RATE_MIN
        with trio.move_on_after(seconds) as scope:
            await self._nodes(partial)
            await self._leaves(partial)
        if scope.cancelled_caught:
            awaited = f"{self.root} was not whole within {seconds:.0f} s"
            raise SourceSlow(f"{awaited}: {self._here(partial)}{self._awaited()}")

    async def _nodes(self, partial: Landing) -> None:
        """Read the DAG down to its leaves."""
        while wanted := partial.wanted_nodes():
            raw = await block_of(list(self._sources.values()), wanted[0], self.faults)
            if raw is None:
                node = f"{self.root}: node {wanted[0].hex()[:16]}"
                raise verdict(f"{node}, {self._here(partial)}", self.faults.told)
            await partial.put_node(raw)

    async def _leaves(self, partial: Landing) -> None:
        session = self._session = Session(partial.missing(), now_ms=_now_ms())
        self._late = [s for s in self._sources.values() if not self.faults.has(s.name)]
        async with trio.open_nursery() as nursery:
            while not session.is_finished and self._ours is None:
                self._bell = trio.Event()
                for source in self._late:
                    self._untold += 1
                    nursery.start_soon(self._have, source)
                self._late.clear()
                session.asks_max = 1 if self._around.is_yielding() else None
                for action in plan(session, _now_ms()):
                    self._do(action, partial, nursery)
                if session.is_stuck and not self._untold and not self._ask_again(nursery):
                    break
                with trio.move_on_after(TICK_SECONDS):
                    await self._bell.wait()
                self._tell()
            nursery.cancel_scope.cancel()
        if self._ours is not None:
            error = self._ours
            raise type(error)(f"{error.what}; {self._here(partial)}", hint=error.hint)
        if not session.is_finished:
            for name in session.losers():
                self.faults.note(
                    name, SourceSlow(f"{name} never sent some leaves it was asked for")
                )
            raise verdict(f"{self.root}: {self._here(partial)}", self.faults.told)

    def _ask_again(self, nursery: trio.Nursery) -> bool:
        """Ask sources that held a part what they hold now, once for each time something came."""
        assert self._session is not None
        growing = self._session.growing()
        if not growing or self._session.waiting == self._waited:
            return False
        self._waited = self._session.waiting
        for name in growing:
            self._untold += 1
            nursery.start_soon(self._have, self._sources[name])
        return True

    def _do(self, action: Action, partial: Landing, nursery: trio.Nursery) -> None:
        match action:
            case Ask() | Hedge():
                scope = self._scopes[action.number] = trio.CancelScope()
                nursery.start_soon(self._carry, action, partial, scope)
            case Cancel():
                if (waiting := self._scopes.get(action.number)) is not None:
                    waiting.cancel()
            case Drop():
                error = SourceBroken if action.is_lie else SourceSlow
                self.faults.note(action.source, error(action.why))

    async def _have(self, source: Source) -> None:
        assert self._session is not None
        error: PrsmError | None = None
        bitset = None
        try:
            with trio.fail_after(ANSWER_SECONDS):
                have = await source.have(self.root)
            bitset = None if have is None else have.bitset
        except trio.TooSlowError:
            error = slow(source.name, "what it holds")
        except PrsmError as caught:
            error = caught
        self._untold -= 1
        if error is None and not self.faults.has(source.name):
            traits = traits_of(source)
            self._session.add_source(source.name, bitset, now_ms=_now_ms(), traits=traits)
        elif error is not None and not isinstance(error, NotFound):
            self.faults.note(source.name, error)
        self._bell.set()

    async def _carry(self, ask: Ask | Hedge, partial: Landing, scope: trio.CancelScope) -> None:
        """Carry an ask out; one that was cancelled has ended for the session already."""
        assert self._session is not None
        source = self._sources[ask.source]
        error: PrsmError | None = None
        with scope:
            try:
                while owed := _first_run(self._session.owed(ask.number)):
                    blocks = await source.fetch(self.root, owed)
                    if not blocks:
                        raise SourceBroken(f"{ask.source} answered with nothing")
                    await self._take(ask, owed, blocks, partial)
                    del blocks  # or they stay in memory until the next ones come
            except PrsmError as caught:
                error = caught
        del self._scopes[ask.number]
        self._bell.set()
        if isinstance(error, Full | StoreUnavailable):
            self._ours = error
        elif not scope.cancelled_caught:
            self._end(ask, error)

    def _end(self, ask: Ask | Hedge, error: PrsmError | None) -> None:
        assert self._session is not None
        retry_ms = 0
        match error:
            case None:
                outcome = Outcome.DONE
            case NotFound():
                outcome = Outcome.LACKS
            case SourceSlow():
                retry_ms = error.retry_after_ms
                outcome = Outcome.BUSY if retry_ms else Outcome.LATE
            case _:
                outcome = Outcome.FAILED
                self.faults.note(ask.source, error)
        self._session.ended(ask.number, outcome, now_ms=_now_ms(), retry_after_ms=retry_ms)

    async def _take(
        self, ask: Ask | Hedge, owed: Sequence[Leaf], blocks: Sequence[bytes], partial: Landing
    ) -> None:
        """Hash and write what came; what is here already was asked for twice.

        Raises:
            SourceCorrupt: other bytes than were asked for; those before them are written.
            Full, StoreUnavailable: our own disk.
        """
        assert self._session is not None
        meter = self._meter
        assert meter is not None
        meter.wasted_bytes += sum(map(len, blocks))
        wrong: PrsmError | None = None
        # A write that began is finished, whoever stops waiting: it takes no longer than that, and
        # than those of its source before it.
        with trio.CancelScope(shield=True):
            async with self._around.turn_of(ask.source):
                if self.faults.is_final(ask.source):
                    return  # it sent wrong bytes meanwhile
                try:
                    await partial.write_run(owed, blocks)
                except SourceCorrupt as error:
                    wrong = error
                    self.faults.note(ask.source, error)
                except (Full, StoreUnavailable) as error:
                    wrong = error
        now_ms = _now_ms()
        came = [leaf for leaf in owed[: len(blocks)] if partial.holds(leaf)]
        fresh = sum(leaf.size for leaf in came if leaf.index not in self._came)
        self._came.update(leaf.index for leaf in came)
        meter.wasted_bytes -= fresh
        if fresh:
            meter.add(ask.source, fresh, now_ms=now_ms)
        self._session.arrived(ask.number, came, now_ms=now_ms)
        self._bell.set()
        if wrong is not None:
            raise wrong

    def _tell(self) -> None:
        assert self._meter is not None
        assert self._session is not None
        self._meter.sources = len(self._session.providers)
        self._around.transfers.moved(self._meter)

    def _here(self, partial: Landing) -> str:
        return f"{partial.verified_bytes} of {partial.size} bytes are here"

    def _awaited(self) -> str:
        if self._session is None:
            return ", interior nodes were awaited"
        owing = sorted({ask.source for ask in self._session.open_asks})
        return f", {', '.join(owing)} still owed some" if owing else ", no source sent the rest"


def _first_run(leaves: Sequence[Leaf]) -> tuple[Leaf, ...]:
    """The first successive ones; what was doubled leaves gaps."""
    count = 1
    while count < len(leaves) and leaves[count].index == leaves[count - 1].index + 1:
        count += 1
    return tuple(leaves[:count])


def _now_ms() -> int:
    return int(trio.current_time() * 1000)
