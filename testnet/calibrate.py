"""`python -m prsm.testnet.calibrate`: the simulator against real processes, with the same links.

Starts real nodes (testnet/gossip), plays the same links, delays and records in the simulator
(testnet/netsim), prints both medians and their ratio. What a node needs to handle a message is the
one figure that is fitted (`--handling`); it holds for this machine, where all nodes share two
cores, and a second run with other links shows how far it carries. Knows both sides' figures. Must
not know how either gets them.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from prsm.testnet.gossip import Options, draw_links, run_gossip
from prsm.testnet.netsim.measure import Figures
from prsm.testnet.netsim.plan import Plan
from prsm.testnet.netsim.world import play

RATIO: Final = (0.7, 1.3)
SETTLE_MS: Final = 5_000


def plan_of(options: Options, *, handling_ms: int) -> Plan:
    """The same network for the simulator.

    Args:
        options: of the real nodes; nothing is lost.
        handling_ms: what a node needs for a message before it passes it on.
    """
    links = draw_links(options, random.Random(options.seed))
    return Plan(
        seed=options.seed,
        nodes=options.nodes,
        seeds=0,
        known=0,
        cold=True,
        settle_ms=SETTLE_MS,
        records=options.rate * options.seconds,
        every_ms=1000 // options.rate,
        drain_ms=SETTLE_MS,
        delay_ms=(options.delay, 0),
        wired=tuple(links),
        handling_ms=handling_ms,
    )


def simulate(options: Options, *, handling_ms: int) -> Figures:
    """Play it."""
    return play(plan_of(options, handling_ms=handling_ms)).figures


def main(arguments: Sequence[str]) -> int:
    """Run both, print one JSON document; 0 if the medians are close enough."""
    parser = argparse.ArgumentParser(prog="python -m prsm.testnet.calibrate", description=__doc__)
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--dials", type=int, default=4)
    parser.add_argument("--delay", type=int, default=50, help="ms, one way, every link")
    parser.add_argument("--rate", type=int, default=1, help="records a second")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--handling", type=int, default=12, help="ms a message takes a node")
    parser.add_argument("--simulated", action="store_true", help="start no real nodes")
    given = parser.parse_args(arguments)
    options = Options(
        nodes=given.nodes,
        dials=given.dials,
        delay=given.delay,
        rate=given.rate,
        seconds=given.seconds,
        seed=given.seed,
    )
    simulated = simulate(options, handling_ms=given.handling)
    document: dict[str, object] = {
        **{name: getattr(given, name) for name in vars(given)},
        "simulated_p50_ms": simulated.p50_ms,
        "simulated_p99_ms": simulated.p99_ms,
    }
    code = 0
    if not given.simulated:
        real = run_gossip(options)
        ratio = (simulated.p50_ms or 0) / max(1, real.p50_ms)
        document |= {
            "real_p50_ms": real.p50_ms,
            "real_p99_ms": real.p99_ms,
            "real_delivered_percent": real.delivered_percent,
            "others_percent": real.others_percent,
            "ratio": round(ratio, 3),
        }
        code = int(not RATIO[0] <= ratio <= RATIO[1])
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
