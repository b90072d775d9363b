"""Who may write or read next: consensus at once, then inference, then storage, a slice each.

Knows classes, slices and turns of the event loop. Must not know frames, nor how bytes travel.
Encrypting a slice holds the loop, so of everything but consensus one slice leaves between two
turns of it, whichever peer it is for; the same holds for reading. Whoever waited meanwhile to
speak of consensus was run in between; while agreement talks, slices wait a little (`Patience`).

Invariants: consensus takes no turn; of two that wait the one of the higher class goes, of one
class the one that waits longer; a lower class gets at least each `LOWER_EVERY`-th turn.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

import trio

from prsm.node.net.budgets import Account, Accounts, Bucket, Limits, Patience, Rate, Traffic
from prsm.node.net.interface import Channel
from prsm.node.net.throttle import Throttle, Way
from prsm.protocol.ids import PeerId

LOWER_EVERY: Final = 8  # so that a download goes on beside tensors that never end
# A limit is kept over a tenth of a second; with less held, a slice would wait for its own size.
BURST_SHARE: Final = 10
# Encrypted in a hundredth of a millisecond: waiting, also for a turn that nobody else wants, would
# cost more than it saves. A decode step is that small, and so is a call through a relay, which
# would wait at each of four hops.
PROMPT_BYTES_MAX: Final = 16 * 1024  # encrypted in 30 us; the state of a token fits

TRAFFIC: Final = {
    Channel.CTL: Traffic.CONSENSUS,
    Channel.BULK: Traffic.INFERENCE,
    Channel.RANGE: Traffic.STORAGE,
}


_T = TypeVar("_T")


class Line(Generic[_T]):
    """Those who wait for a turn; pure.

    The order is: the highest class that waits, and each `LOWER_EVERY`-th time the lowest.
    """

    def __init__(self) -> None:
        self._waiting: dict[Traffic, deque[_T]] = {traffic: deque() for traffic in Traffic}
        self._passed = 0  # how often a lower class was passed over

    def join(self, traffic: Traffic, who: _T) -> None:
        """Wait behind those of the same class."""
        self._waiting[traffic].append(who)

    def leave(self, traffic: Traffic, who: _T) -> None:
        """Wait no more."""
        self._waiting[traffic].remove(who)

    def next(self) -> _T | None:
        """Take out whose turn it is; None when nobody waits."""
        classes = [traffic for traffic, waiting in self._waiting.items() if waiting]
        if not classes:
            return None
        self._passed = self._passed + 1 if len(classes) > 1 else 0
        chosen = classes[0]
        if self._passed >= LOWER_EVERY:
            self._passed, chosen = 0, classes[-1]
        return self._waiting[chosen].popleft()


class Slot:
    """A place of a semaphore for the time of a block; a free one costs no turn of the loop."""

    def __init__(self, semaphore: trio.Semaphore) -> None:
        self._semaphore = semaphore

    async def __aenter__(self) -> None:
        try:
            self._semaphore.acquire_nowait()
        except trio.WouldBlock:
            await self._semaphore.acquire()

    async def __aexit__(self, *_error: object) -> None:
        self._semaphore.release()


class Turns:
    """Lets one slice pass in each turn of the loop.

    Args:
        limit_bytes_per_s: of all slices together; 0: none.
        patience: with agreement, shared by all turns of a node.
        now_ms: monotonic.
    """

    def __init__(
        self, *, limit_bytes_per_s: int, patience: Patience, now_ms: Callable[[], int]
    ) -> None:
        self._now_ms = now_ms
        self._patience = patience
        self._line: Line[trio.lowlevel.Task] = Line()
        self._busy = False
        rate = Rate(limit_bytes_per_s, limit_bytes_per_s // BURST_SHARE)
        self._limit = Bucket(rate, now_ms=0) if limit_bytes_per_s else None

    async def wait(self, traffic: Traffic, size: int) -> None:
        """Wait for the turn of a slice; the next one's comes one turn of the loop later.

        A small one takes no turn where nobody waits for his, and is then no checkpoint.
        """
        if size <= PROMPT_BYTES_MAX and not self._busy and self._limit is None:
            return
        parked = self._busy
        if parked:
            await self._park(traffic)
        self._busy = True
        try:
            if not parked:
                await trio.lowlevel.checkpoint()
            if size > PROMPT_BYTES_MAX:
                await self._be_patient()
            if self._limit is not None:
                wait_ms = self._limit.charge(size, now_ms=self._now_ms())
                await trio.sleep(wait_ms / 1000)
        finally:
            self._pass_on()

    async def _be_patient(self) -> None:
        while wait_ms := self._patience.wait_ms(now_ms=self._now_ms()):  # noqa: ASYNC110 - time
            await trio.sleep(wait_ms / 1000)

    async def _park(self, traffic: Traffic) -> None:
        task = trio.lowlevel.current_task()
        self._line.join(traffic, task)

        def leave(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._line.leave(traffic, task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def _pass_on(self) -> None:
        task = self._line.next()
        if task is None:
            self._busy = False
        else:
            trio.lowlevel.reschedule(task)


class Lane:
    """What one peer may do now.

    Args:
        peer: who it is.
        account: its budgets.
        lanes: what all peers share.
    """

    def __init__(self, peer: PeerId, account: Account, lanes: "Lanes") -> None:
        self._peer = peer
        self._account = account
        self._lanes = lanes
        self._now_ms = lanes.now_ms
        self._strained_ms = 0

    async def before_write(self, traffic: Traffic, size: int) -> None:
        """Wait until a slice may leave; consensus may at once."""
        if traffic is Traffic.CONSENSUS:
            self._lanes.patience.stir(now_ms=self._now_ms())
            return
        if wait_ms := self._account.write(traffic, size, now_ms=self._now_ms()):
            await trio.sleep(wait_ms / 1000)
        if traffic is Traffic.STORAGE:
            await self._lanes.throttle.wait(Way.OUT, self._peer, size)
        await self._lanes.writing.wait(traffic, size)

    async def after_read(self, traffic: Traffic, size: int) -> None:
        """Wait as long as the peer's budget of bytes says, and for a turn to handle them."""
        if wait_ms := self._account.read(traffic, size, now_ms=self._now_ms()):
            await self._hold(traffic, wait_ms)
        if traffic is Traffic.STORAGE:
            await self._lanes.throttle.wait(Way.IN, self._peer, size)
        if traffic is Traffic.CONSENSUS:
            self._lanes.patience.stir(now_ms=self._now_ms())
        else:
            await self._lanes.reading.wait(traffic, size)

    async def after_frame(self, traffic: Traffic) -> None:
        """Wait as long as the peer's budget of messages says."""
        if wait_ms := self._account.heard(traffic, now_ms=self._now_ms()):
            await self._hold(traffic, wait_ms)

    def called(self, traffic: Traffic) -> int:
        """A call arrived: 0 to serve it, otherwise ms after which the peer may try again."""
        return self._account.called(traffic, now_ms=self._now_ms())

    def strained(self, wait_ms: int) -> int:
        """Points for being over a budget of consensus or calls; mostly 0."""
        return self._account.strained(wait_ms, now_ms=self._now_ms())

    def points(self) -> int:
        """Points for what was waited for since this was asked last."""
        if not self._strained_ms:
            return 0
        wait_ms, self._strained_ms = self._strained_ms, 0
        return self.strained(wait_ms)

    async def _hold(self, traffic: Traffic, wait_ms: int) -> None:
        # Tensors and blocks may come as fast as they are read; votes nobody sends so fast.
        if traffic is Traffic.CONSENSUS:
            self._strained_ms += wait_ms
        await trio.sleep(wait_ms / 1000)


class Lanes:
    """The lanes of a node, and what they share.

    Args:
        limits: of the operator.
        now_ms: monotonic.
    """

    def __init__(self, limits: Limits, *, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms
        self.accounts = Accounts()
        self.patience = Patience()
        self.throttle = Throttle(limits.storage, now_ms=now_ms)
        self.writing = self._turns(limits.upload_bytes_per_s)
        self.reading = self._turns(limits.download_bytes_per_s)

    @contextmanager
    def lane(self, peer: PeerId) -> Iterator[Lane]:
        """The lane of a peer, for as long as one conversation with it lasts."""
        account = self.accounts.open(peer, now_ms=self.now_ms())
        try:
            yield Lane(peer, account, self)
        finally:
            self.accounts.close(peer)

    def _turns(self, limit_bytes_per_s: int) -> Turns:
        return Turns(
            limit_bytes_per_s=limit_bytes_per_s, patience=self.patience, now_ms=self.now_ms
        )

    def trust(self, validators: Collection[PeerId]) -> None:
        """Say who the validators are from now on."""
        self.accounts.trust(validators, now_ms=self.now_ms())
