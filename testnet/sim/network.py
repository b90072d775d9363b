"""Links between nodes: delay, loss, duplicates, reordering, partitions. Bytes in, objects out.

Every message is encoded by its sender; equal bytes are decoded and checked once in a run, since
records are immutable. Knows: plans, bytes. Must not know: what a message means.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final, final

from prsm.consensus.pbft.opened import Opened, is_signed, open_message
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import RemoteError
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.signing import Kind
from prsm.testnet.sim.clock import Timeline
from prsm.testnet.sim.plan import Plan
from prsm.testnet.sim.roster import Roster

_STORM: Final = (Kind.PROPOSE, Kind.NEW_VIEW)
HEALED_JITTER_MS: Final = 10
LATE_MS: Final = 600  # far behind its time: the height is usually decided

Deliver = Callable[[int, int, Opened | Record], None]  # sender, receiver, what


@final
class Network:
    """All links of one run."""

    def __init__(self, plan: Plan, dice: Random, timeline: Timeline, deliver: Deliver) -> None:
        self.plan = plan
        self.is_faulty = True
        self.cut: set[tuple[int, int]] = set()  # (from, to); looked up, never iterated
        self._dice = dice
        self._timeline = timeline
        self._deliver = deliver
        self._black: dict[tuple[Kind, int, int, int], bool] = {}
        self._decoded: dict[bytes, Opened | None] = {}
        count = len(plan.stakes) + plan.spares
        self._slow = {
            (a, b)
            for a in range(count)
            for b in range(count)
            if dice.random() * 1000 < plan.slow_links
        }
        self.roster: Roster | None = None
        self.verifier: Verifier | None = None
        self.chain_id = b""

    def admit(self, message: SignedMessage) -> Opened | None:
        """Send a message through the codec; None if a receiver would refuse it."""
        raw = encode(message)
        if raw in self._decoded:
            return self._decoded[raw]
        assert self.roster is not None
        assert self.verifier is not None
        opened: Opened | None = None
        with contextlib.suppress(RemoteError):
            opened = open_message(decode(raw, SignedMessage, size_max=BULK_FRAME_BYTES_MAX))
        members = self.roster.sets.get(message.epoch)
        if opened is not None and (
            members is None
            or not is_signed(opened, members, chain_id=self.chain_id, verifier=self.verifier)
        ):
            opened = None
        self._decoded[raw] = opened
        return opened

    def send(self, sender: int, receiver: int, what: Opened | Record) -> None:
        """Carry something to a node, or lose it on the way."""
        plan, roll = self.plan, self._dice.random
        low, high = plan.delay_ms
        if not self.is_faulty:
            span = min(high, low + HEALED_JITTER_MS) - low + 1
            self._later(sender, receiver, what, low + int(roll() * span))
            return
        if (sender, receiver) in self.cut:
            return
        if isinstance(what, Opened) and (
            (plan.storm and what.message.kind in _STORM)
            or (plan.blackout and self._is_black(receiver, what))
        ):
            return
        fate = roll() * 1000
        if fate < plan.loss:
            return
        if (sender, receiver) in self._slow:
            low, high = low * 10, high * 10
        span = high - low + 1
        self._later(sender, receiver, what, low + int(roll() * span))
        if fate > 1000 - plan.duplicate:
            self._later(sender, receiver, what, low + int(roll() * span))
        if plan.late and roll() * 1000 < plan.late:
            self._later(sender, receiver, what, high + int(roll() * LATE_MS))

    def _is_black(self, receiver: int, opened: Opened) -> bool:
        """Is this kind of message of this view kept from this receiver, however often it is sent?

        Losses that belong together leave some replicas prepared and others not; independent
        ones hardly ever do.
        """
        message = opened.message
        key = (message.kind, message.height, message.view, receiver)
        found = self._black.get(key)
        if found is None:
            found = self._black[key] = self._dice.random() * 1000 < self.plan.blackout
        return found

    def _later(self, sender: int, receiver: int, what: Opened | Record, delay_ms: int) -> None:
        self._timeline.after(delay_ms, partial(self._deliver, sender, receiver, what))
