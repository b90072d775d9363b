"""`python -m prsm.testnet.netsim`, `prsm-testnet netsim`: simulated networks of many nodes.

Everything printed is simulated: virtual time, modelled links and mesh; real are the address book,
the selection of peers, the scores and the pull repair. Exit code 0: the bar of the scenario is
met. With `--without` a part of the defence is off, and 0 means that the bar was missed.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from prsm.protocol.errors import LocalError
from prsm.testnet.netsim import eclipse
from prsm.testnet.netsim.scenarios import (
    SCENARIOS,
    SWITCHES,
    mesh_back_ms,
    mesh_ready_ms,
    scaled,
    without,
)
from prsm.testnet.netsim.world import play

ECLIPSE: Final = "eclipse"
ECLIPSE_BAR: Final = 0.999


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what the command line asks for; return the exit code."""
    options = _parse(arguments)
    try:
        document, broken = _eclipse(options) if options.scenario == ECLIPSE else _network(options)
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    document["broken"] = broken
    if options.json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        for name, value in document.items():
            sys.stdout.write(f"{name}: {value}\n")
    return int(bool(broken) != bool(options.without))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    about = "; ".join(f"{name}: {each.about}" for name, each in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="prsm-testnet netsim",
        description=__doc__,
        epilog=f"{about}; {ECLIPSE}: restarts with a poisoned address book.",
    )
    parser.add_argument("scenario", choices=(*SCENARIOS, ECLIPSE))
    parser.add_argument("--seed", type=int, default=0, help="of all dice (default 0)")
    parser.add_argument("--nodes", type=int, metavar="N", help="other than the scenario's")
    parser.add_argument("--runs", type=int, default=10_000, help="restarts of eclipse")
    parser.add_argument("--ratio", type=int, default=10, help="of poison in eclipse (default 10)")
    parser.add_argument("--groups", type=int, default=32, help="/16s of the attacker (default 32)")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="PART",
        help=f"switch a part of the defence off: {', '.join(SWITCHES)}; must miss the bar",
    )
    parser.add_argument("--trace", action="store_true", help="print each event of a node")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser.parse_args(arguments)


def _network(options: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    scenario = SCENARIOS[options.scenario]
    nodes = options.nodes or scenario.plan.nodes
    plan = scaled(scenario.plan, nodes=nodes, seed=options.seed)
    plan = without(plan, tuple(options.without))
    started = _cpu_s()
    outcome = play(plan, traced=options.trace)
    spent = _cpu_s() - started
    for line in outcome.trace:
        sys.stdout.write(line + "\n")
    document: dict[str, object] = {
        "simulated": True,
        "scenario": options.scenario,
        "seed": plan.seed,
        "nodes": plan.nodes,
        "sybils": plan.sybils,
        "without": options.without,
        "cpu_s": round(spent, 1),
        "simulated_s": plan.end_ms / 1000,
        **asdict(outcome.figures),
        "ways": outcome.ways,
        "counts": outcome.counts,
    }
    if plan.flash_ms:
        document["mesh_back_ms"] = mesh_back_ms(outcome, plan.flash_ms)
    if plan.cold:
        document["mesh_ready_ms"] = mesh_ready_ms(outcome)
    return document, scenario.broken(outcome)


def _eclipse(options: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    siege = eclipse.Siege(
        seed=options.seed,
        ratio=options.ratio,
        groups=options.groups,
        guard="guard" not in options.without,
    )
    started = _cpu_s()
    outcome = eclipse.play(siege, options.runs)
    spent = _cpu_s() - started
    document: dict[str, object] = {
        "simulated": True,
        "scenario": ECLIPSE,
        "cpu_s": round(spent, 1),
        **asdict(siege),
        **asdict(outcome),
        "share": outcome.share,
    }
    bar = f"{outcome.share:.4%} of restarts with an honest link, {ECLIPSE_BAR:.1%} wanted"
    return document, [bar] if outcome.share < ECLIPSE_BAR else []


def _cpu_s() -> float:
    spent = os.times()
    return spent.user + spent.system


if __name__ == "__main__":
    sys.exit(main())
