"""How long a transaction takes in the simulator: with f nodes dead and messages lost for good.

A real link hides losses behind TCP (testnet/outages measures that); here each message is lost by
itself and only the replicas' own retransmission brings it back. Knows: plans, one run. Must not
know: why it takes what it takes.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from prsm.protocol.genesis import Parameters
from prsm.testnet.sim.plan import FAULTS, TREE_BITS, Plan, draw
from prsm.testnet.sim.world import World

RUN_MS: Final = 60_000
DELAY_MS: Final = (1, 5)
STAKES: Final = (1, 1, 1, 1)
FOR_EVER_MS: Final = 10**9


def plan_of(seed: int, *, loss: int) -> Plan:
    """A run without any fault but losses.

    Args:
        seed: of its dice.
        loss: messages lost, in per mille.
    """
    nothing = {name: value for fault in FAULTS.values() for name, value in fault.items()}
    plan = replace(draw(seed), **nothing)  # type: ignore[arg-type] # by name
    return replace(
        plan,
        stakes=STAKES,
        parameters=Parameters(tree_bits=TREE_BITS),
        faults_ms=RUN_MS,
        loss=loss,
        delay_ms=DELAY_MS,
    )


def latencies_ms(seeds: Iterable[int], *, loss: int, dead: int) -> list[int]:
    """From submission to the first ledger that has it, for every transaction of these runs.

    Args:
        seeds: each is a minute of virtual time.
        loss: messages lost, in per mille.
        dead: nodes that never say anything.
    """
    found: list[int] = []
    for seed in seeds:
        world = World(plan_of(seed, loss=loss))
        for node in world.nodes[:dead]:
            node.paused_until_ms = FOR_EVER_MS
        world.play()
        found += world.latencies_ms
    return found
