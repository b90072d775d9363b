"""`python -m prsm.testnet.sim`: play seeds, say which ones break something.

Exit code 0: no violation, and every run live after healing. With `--control` liars hold a third
of the stake or more, and 0 means that violations were seen.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from prsm.testnet.sim.batch import Summary, describe, play
from prsm.testnet.sim.plan import draw
from prsm.testnet.sim.shrink import difference, fails, shrink
from prsm.testnet.sim.shrink import play as play_plan
from prsm.testnet.sim.world import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what the command line asks for; return the exit code."""
    options = _parse(arguments)
    if options.shrink is not None:
        return _shrink(options.shrink, control=options.control, traced=options.trace)
    if options.seed is not None:
        return _one(options.seed, control=options.control, traced=options.trace)
    first, _, last = options.seeds.partition(":")
    seeds = range(int(first), int(last))
    summary = play(seeds, jobs=options.jobs, control=options.control, first=options.first)
    document = _document(options.seeds, summary)
    if options.json:
        _say(json.dumps(document, sort_keys=True))
    else:
        for name, value in document.items():
            _say(f"{name}: {value}")
    if options.control:
        return 0 if summary.violations else 1
    return 1 if summary.failures else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m prsm.testnet.sim", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", metavar="A:B", help="play seeds A .. B-1")
    what.add_argument("--seed", type=int, metavar="N", help="play one seed")
    what.add_argument("--shrink", type=int, metavar="N", help="leave out of seed N what it can")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--control", action="store_true", help="liars hold >= T/3: must break")
    parser.add_argument("--first", action="store_true", help="stop at the first failing seed")
    parser.add_argument("--trace", action="store_true", help="with --seed or --shrink: each event")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser.parse_args(arguments)


def _one(seed: int, *, control: bool, traced: bool) -> int:
    outcome = run(seed, control=control, traced=traced)
    for line in outcome.trace:
        _say(line)
    healed = (
        "not live" if outcome.heal_ms is None else f"went on {outcome.heal_ms} ms after healing"
    )
    _say(f"seed {seed}: height {outcome.height}, {outcome.events} events, {healed}")
    for violation in outcome.violations:
        _say(f"  {violation}")
    return 0 if not outcome.violations and outcome.heal_ms is not None else 1


def _shrink(seed: int, *, control: bool, traced: bool) -> int:
    plan = draw(seed, control=control)
    if not fails(plan):
        _say(f"seed {seed} does not fail")
        return 0
    smallest = shrink(plan)
    outcome = play_plan(smallest, traced=traced)
    for line in (*outcome.trace, *difference(smallest)):
        _say(line)
    _say(f"seed {seed}, {outcome.events} events:")
    for what in describe(outcome):
        _say(f"  {what}")
    return 1


def _document(seeds: str, summary: Summary) -> dict[str, object]:
    rate = int(summary.events / summary.cpu_seconds) if summary.cpu_seconds else 0
    return {
        "seeds": seeds,
        "played": summary.seeds,
        "events": summary.events,
        "heights": summary.heights,
        "violations": summary.violations,
        "not_live": summary.not_live,
        "heal_ms_max": max(summary.heal_ms, default=0),
        "events_per_second": rate,
        "cpu_seconds": round(summary.cpu_seconds, 2),
        "failures": {str(seed): what[:3] for seed, what in list(summary.failures.items())[:10]},
    }


if __name__ == "__main__":
    sys.exit(main())
