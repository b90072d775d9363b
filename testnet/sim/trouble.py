"""What happens to the nodes and links of a run, at times drawn from its dice.

Knows: the plan's counts, how a node is hurt. Must not know: what nodes make of it.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from prsm.testnet.sim.log import LOST, DiskLog
from prsm.testnet.sim.node import Node
from prsm.testnet.sim.plan import LEDGER, LIE

if TYPE_CHECKING:
    from prsm.testnet.sim.world import World


@dataclass(frozen=True, slots=True)
class Trouble:
    """The faults of one run."""

    world: "World"

    def schedule(self) -> None:
        """Draw when each fault of the plan happens."""
        plan, dice = self.world.plan, self.world.dice
        after = self.world.timeline.after
        for _ in range(plan.crashes):
            node = dice.choice(self.world.nodes)
            after(dice.randrange(plan.faults_ms), partial(self._doom, node))
        for node in self.world.nodes if plan.refusals else ():
            if isinstance(node.log, DiskLog):
                after(dice.randrange(plan.faults_ms), node.log.refuse)
        self._damage()
        for index in plan.skewed * plan.jumps:
            after(dice.randrange(plan.faults_ms), partial(self._jump, self.world.nodes[index]))
        for _ in range(plan.power_cuts):
            after(dice.randrange(plan.faults_ms), self._cut_power)
        for _ in range(plan.pauses):
            node = dice.choice(self.world.nodes)
            after(dice.randrange(plan.faults_ms), partial(self._pause, node))
        for _ in range(plan.partitions):
            after(dice.randrange(plan.faults_ms), self._partition)

    def _damage(self) -> None:
        """One disk is harmed once: by an old backup, by lies, or as the plan says."""
        plan, dice, after = self.world.plan, self.world.dice, self.world.timeline.after
        if plan.damaged is None:
            return
        victim = self.world.nodes[plan.damaged]
        assert isinstance(victim.log, DiskLog)
        first = victim.log.back_up
        if plan.damage == LIE:
            first = partial(self._lie, victim, victim.log)
        after(dice.randrange(plan.faults_ms // 2), first)
        after(dice.randrange(plan.faults_ms), partial(self._harm, victim, victim.log))

    def _doom(self, node: Node) -> None:
        """Let a node crash after some more orders: between any two of a list."""
        if node.state is not None and self.world.network.is_faulty:
            node.orders_left = self.world.dice.randint(0, 5)

    def _harm(self, node: Node, log: DiskLog) -> None:
        """Let a node find its disk harmed when it starts again."""
        self.world.die(node)
        damage = self.world.plan.damage
        log.harm(damage)
        if damage == "wipe":
            self.world.checker.wiped.add(node.index)
        if damage == LEDGER:
            node.lost = LOST
        if damage in {"wipe", LEDGER}:
            node.ledger.forget(node.ledger.tip.height)
            if node.shelf is not None:
                node.shelf.wipe()
        for _ in range(self.world.dice.randint(0, 2)):  # what it was told must outlast these
            self.world.timeline.after(self.world.dice.randint(100, 2_500), partial(self._end, node))

    def _end(self, node: Node) -> None:
        """Let its operator, who sees an observer, start a node again."""
        if self.world.network.is_faulty:
            self.world.die(node)

    def _lie(self, node: Node, log: DiskLog) -> None:
        """Let a disk lie; what its node forgets by that counts against the faulty third."""
        log.lie()
        self.world.checker.wiped.add(node.index)

    def _jump(self, node: Node) -> None:
        """Let a wrong clock show another time, perhaps the right one."""
        node.skew_ms = self.world.dice.choice((-3_600_000, -4_000, 0, 4_000, 3_600_000))

    def _cut_power(self) -> None:
        for node in self.world.nodes:
            self.world.die(node)

    def _pause(self, node: Node) -> None:
        node.paused_until_ms = self.world.timeline.now_ms + self.world.dice.randint(50, 1_000)

    def _partition(self) -> None:
        """Cut some nodes off, in both directions or one, perhaps again and again."""
        if not self.world.network.is_faulty:
            return
        dice, count = self.world.dice, len(self.world.nodes)
        inside = set(dice.sample(range(count), dice.randint(1, count // 2)))
        pairs = {
            (a, b) for a in range(count) for b in range(count) if (a in inside) != (b in inside)
        }
        if dice.random() < 0.3:
            pairs = {(a, b) for a, b in pairs if a in inside}
        self.world.network.cut |= pairs
        self.world.timeline.after(dice.randint(100, 1_500), lambda: self._reconnect(pairs))
        if dice.random() < 0.3:
            self.world.timeline.after(dice.randint(200, 2_000), self._partition)

    def _reconnect(self, pairs: set[tuple[int, int]]) -> None:
        self.world.network.cut -= pairs
