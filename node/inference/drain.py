"""A node that is about to end, or to be looked after: nothing new, what is held is finished.

It says so to whoever it holds work for; they move what would take too long. At the end of the
grace what is still held is closed and claimed: nothing that was done loses its receipt, and no
receipt or pledge is let go by draining. Must not know what the work is.
Source: docs/spec/work.md, "Draining".
"""

from collections.abc import Callable, Collection
from typing import Final, Protocol

import trio

from prsm.node.net.interface import Busy, Channel, Network
from prsm.node.telemetry import logs
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.serving import LEFT_MS_MAX, Draining

LOOK_S: Final = 0.1
# After the last unit is closed: the receipts are on the disk, a block binds us to them. A network
# that ends as a whole makes none any more.
BOUND_S: Final = 2.0
# Writing receipts, at the hard end.
CLAIM_S: Final = 2.0
DRAIN_MORE_S: Final = BOUND_S + CLAIM_S + 1.0  # beyond the grace, at most

DRAINING: Final = "draining: what is held is finished, nothing new is taken"

log: Final = logs.get("drain")


class DrainingNow(Busy):
    """Nothing new is taken: this node is about to end, or its operator looks after it."""

    reason = "draining"


class Holder(Protocol):
    """Who holds work of others."""

    def held(self) -> Collection[PeerId]:
        """Whose units are not over here: one entry for each."""
        ...

    def end(self) -> None:
        """Close them all, and claim what was done; may be told again."""
        ...


class Drain:
    """Lets the work of others run out.

    Invariant: the end, once said, only comes nearer, until `resume`.
    """

    def __init__(self, network: Network, unbound: Callable[[], int]) -> None:
        """Nothing drains yet; `unbound` counts receipts that no block has taken yet."""
        self._network, self._unbound = network, unbound
        self._holders: list[Holder] = []
        self._end_s: float | None = None  # of the loop's clock
        self._empty_s: float | None = None  # since when nothing is held
        self._told: set[PeerId] = set()
        self._over, self._begun = trio.Event(), trio.Event()

    def add(self, holder: Holder) -> None:
        """Have what it holds finished; before `run`."""
        self._holders.append(holder)

    @property
    def is_on(self) -> bool:
        """Is nothing new taken?"""
        return self._end_s is not None

    @property
    def is_over(self) -> bool:
        """Is nothing held any more?"""
        return self._over.is_set()

    @property
    def left_ms(self) -> int:
        """Until what is held is closed; 0 when nothing is to end, or has ended."""
        if self._end_s is None:
            return 0
        left_s = max(0.0, self._end_s - trio.current_time())
        return min(LEFT_MS_MAX, round(left_s * 1000))

    @property
    def held(self) -> int:
        """Units that are not over."""
        return sum(len(holder.held()) for holder in self._holders)

    def told(self) -> str:
        """For a person: how far it is; empty while nothing drains."""
        if not self.is_on:
            return ""
        if self.is_over:
            return "drained: nothing is held for others"
        return f"draining: {self.held} units held, {self.left_ms / 1000:.0f} s left"

    def check(self) -> None:
        """May something new be taken?

        Raises:
            DrainingNow: no; ask again when this drain is over.
        """
        if self.is_on:
            raise DrainingNow(DRAINING, retry_after_ms=max(1000, self.left_ms))

    def begin(self, grace_s: float) -> None:
        """Take nothing new; what is held has so long. A second word can only shorten it."""
        end_s = trio.current_time() + grace_s
        if self._end_s is None or end_s < self._end_s:
            self._end_s = end_s
            self._told.clear()
        self._begun.set()
        log.info("draining", held=self.held, left_ms=self.left_ms)

    def resume(self) -> None:
        """Work again."""
        if self._end_s is None:
            return
        self._end_s = self._empty_s = None
        self._over, self._begun = trio.Event(), trio.Event()
        for peer in self._told & self._peers():
            self._network.send_nowait(peer, Draining(left_ms=None), channel=Channel.CTL)
        self._told.clear()

    async def wait_over(self) -> None:
        """Return once nothing is held; never where nothing drains."""
        await self._over.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch what is held while it drains, until cancelled."""
        task_status.started()
        while True:
            await self._begun.wait()
            self._look(trio.current_time())
            await trio.sleep(LOOK_S)

    def _look(self, now_s: float) -> None:
        """Tell who holds something, end what is late, see whether all is over."""
        if self._end_s is None or self.is_over:
            return
        peers = self._peers()
        if now_s >= self._end_s:
            for holder in self._holders:
                holder.end()
        for peer in sorted(peers - self._told):
            message = Draining(left_ms=self.left_ms)
            self._network.send_nowait(peer, message, channel=Channel.CTL)
        self._told |= peers
        if peers:
            self._empty_s = None
            is_late = now_s >= self._end_s + CLAIM_S
        else:
            self._empty_s = now_s if self._empty_s is None else self._empty_s
            is_late = now_s >= self._empty_s + BOUND_S
        if is_late or not (peers or self._unbound()):
            log.info("drained", peers=len(peers), unbound=self._unbound())
            self._over.set()

    def _peers(self) -> set[PeerId]:
        return {peer for holder in self._holders for peer in holder.held()}
