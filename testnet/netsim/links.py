"""Links of a simulated network: delay by region, loss.

A message of gossip that is lost is lost for good: harsher than real links, where TCP brings a
lost segment back and only a full queue loses. What goes over kept streams (calls, handshakes) is
late instead. Knows places and dice. Must not know what a message means.
"""

from random import Random
from typing import Final, final

from prsm.testnet.netsim.clock import Handler, Wheel
from prsm.testnet.netsim.plan import Plan

REGIONS: Final = ("eu", "us-east", "us-west", "asia", "south")
# One way in ms between regions: half of round trips usual on the open internet, rounded.
REGION_DELAY_MS: Final = (
    (8, 42, 70, 85, 100),
    (42, 8, 32, 95, 60),
    (70, 32, 8, 60, 85),
    (85, 95, 60, 15, 140),
    (100, 60, 85, 140, 12),
)
REGION_SHARES: Final = (35, 25, 15, 20, 5)  # of a hundred nodes
ACCESS_MS_MAX: Final = 10  # of each end, on top
JITTER: Final = 0.2  # of a link's delay, at most, on top
RESEND_MS: Final = 200  # a lost segment is sent again after that, then after twice that


@final
class Links:
    """All links of one run.

    Args:
        plan: loss and delays.
        dice: of places, losses and jitter.
        clock: virtual time.
    """

    def __init__(self, plan: Plan, dice: Random, clock: Wheel) -> None:
        self._plan = plan
        self._roll = dice.random
        self._dice = dice
        self._clock = clock
        self._loss = plan.loss / 1000
        self._regions: list[int] = []
        self._access: list[int] = []
        self._handling_ms = plan.handling_ms
        self.sent = 0
        self.lost = 0

    def place(self) -> int:
        """Put one more node somewhere; return its region."""
        region = self._dice.choices(range(len(REGIONS)), REGION_SHARES)[0]
        self._regions.append(region)
        self._access.append(int(self._roll() * ACCESS_MS_MAX))
        return region

    def delay_ms(self, sender: int, receiver: int) -> int:
        """Throw how long one message takes from one node to another."""
        if self._plan.delay_ms is not None:
            base, jitter = self._plan.delay_ms
            return base + int(self._roll() * (jitter + 1)) + self._handling_ms
        base = (
            REGION_DELAY_MS[self._regions[sender]][self._regions[receiver]]
            + self._access[sender]
            + self._access[receiver]
        )
        return int(base * (1.0 + JITTER * self._roll())) + self._handling_ms

    def send(self, handler: Handler, receiver: int, sender: int, what: object) -> None:
        """Carry a message, or lose it."""
        self.sent += 1
        if self._loss and self._roll() < self._loss:
            self.lost += 1
            return
        self._clock.carry(self.delay_ms(sender, receiver), handler, receiver, sender, what)

    def stream(self, handler: Handler, receiver: int, sender: int, what: object) -> None:
        """Carry a message of a kept stream: late when segments are lost, never lost itself."""
        self.sent += 1
        self._clock.carry(self._stream_ms(sender, receiver), handler, receiver, sender, what)

    def handshake_ms(self, dialler: int, listener: int, trips: int) -> int:
        """Throw how long some round trips over TCP take, lost segments and all."""
        return sum(self._stream_ms(dialler, listener) for _ in range(2 * trips))

    def _stream_ms(self, sender: int, receiver: int) -> int:
        wait_ms, resend_ms = self.delay_ms(sender, receiver), RESEND_MS
        while self._loss and self._roll() < self._loss:
            wait_ms += resend_ms
            resend_ms *= 2
        return wait_ms
