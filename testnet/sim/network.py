"""Links between nodes: delay, loss, duplicates, reordering, partitions. Bytes in, objects out.

Every message goes through the codec; equal ones are encoded, decoded and checked once in a run,
since records are immutable. Knows: plans, bytes. Must not know: what a message means.
"""

import contextlib
from collections.abc import Callable, Iterable
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
        self._decoded: dict[SignedMessage, Opened | None] = {}
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
        if message in self._decoded:  # equal records have equal bytes
            return self._decoded[message]
        assert self.roster is not None
        assert self.verifier is not None
        opened: Opened | None = None
        with contextlib.suppress(RemoteError):
            raw = encode(message)
            opened = open_message(decode(raw, SignedMessage, size_max=BULK_FRAME_BYTES_MAX))
        members = self.roster.sets.get(message.epoch)
        if opened is not None and (
            members is None
            or not is_signed(opened, members, chain_id=self.chain_id, verifier=self.verifier)
        ):
            opened = None
        self._decoded[message] = opened
        return opened

    def send(self, sender: int, receiver: int, what: Opened | Record) -> None:
        """Carry something to a node, or lose it on the way."""
        self.spread(sender, (receiver,), what)

    def spread(self, sender: int, receivers: Iterable[int], what: Opened | Record) -> None:
        """Carry something to some nodes, or lose it on the way to each of them."""
        plan, roll, after = self.plan, self._dice.random, self._timeline.after
        deliver, is_faulty = self._deliver, self.is_faulty
        opened = what if isinstance(what, Opened) else None
        is_stormy = opened is not None and plan.storm and opened.message.kind in _STORM
        for receiver in receivers:
            low, high = plan.delay_ms
            arrive = partial(deliver, sender, receiver, what)
            if not is_faulty:
                span = min(high, low + HEALED_JITTER_MS) - low + 1
                after(low + int(roll() * span), arrive)
                continue
            if self.cut and (sender, receiver) in self.cut:
                continue
            if is_stormy or (opened and plan.blackout and self._is_black(receiver, opened)):
                continue
            fate = roll() * 1000
            if fate < plan.loss:
                continue
            if self._slow and (sender, receiver) in self._slow:
                low, high = low * 10, high * 10
            span = high - low + 1
            after(low + int(roll() * span), arrive)
            if fate > 1000 - plan.duplicate:
                after(low + int(roll() * span), arrive)
            if plan.late and roll() * 1000 < plan.late:
                after(high + int(roll() * LATE_MS), arrive)

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
