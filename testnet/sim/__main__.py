"""`python -m prsm.testnet.sim`, `prsm-testnet sim`: play seeds, say which ones break something.

Exit code 0: no violation, and every run live after healing. With `--control` liars, or twins,
hold a third of the stake or more, and 0 means that violations were seen.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from prsm.protocol.errors import LocalError
from prsm.testnet.sim import progress
from prsm.testnet.sim.batch import TWINS_CHUNK, Summary, describe, play
from prsm.testnet.sim.plan import FAULTS, NODES_MAX, NODES_MIN, Wish, draw
from prsm.testnet.sim.shrink import difference, fails, shrink
from prsm.testnet.sim.shrink import play as play_plan

PIECE = 5_000  # seeds between two notes of `--resume`
_PIECES_OF_TWINS = 50 * TWINS_CHUNK


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what the command line asks for; return the exit code."""
    options = _parse(arguments)
    wish = _wish(options)
    if options.shrink is not None:
        return _shrink(options.shrink, wish, traced=options.trace)
    if options.seed is not None:
        return _one(options.seed, wish, traced=options.trace)
    first, _, last = options.seeds.partition(":")
    seeds = range(int(first), int(last))
    playing = partial(play, wish=wish, jobs=options.jobs, first=options.first)
    if options.resume is None:
        summary = playing(seeds)
    else:
        size = _PIECES_OF_TWINS if wish.twins else PIECE
        try:
            summary = progress.run(options.resume, seeds, wish, playing, size=size)
        except LocalError as error:
            _say(str(error))
            return 2
    document = _document(options.seeds, summary)
    if options.json:
        _say(json.dumps(document, sort_keys=True))
    else:
        for name, value in document.items():
            _say(f"{name}: {value}")
    broken = summary.violations > 0 if wish.control else not summary.violations + summary.not_live
    return 0 if broken else 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="prsm-testnet sim", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", metavar="A:B", help="play seeds A .. B-1")
    what.add_argument("--seed", type=int, metavar="N", help="play one seed")
    what.add_argument("--shrink", type=int, metavar="N", help="leave out of seed N what it can")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--nodes", type=int, metavar="N", help="validators, 4 .. 13")
    parser.add_argument("--faults", metavar="A,B", help=f"these alone, of: {', '.join(FAULTS)}")
    parser.add_argument("--twins", action="store_true", help="scenarios of copies with one key")
    parser.add_argument("--control", action="store_true", help="liars hold >= T/3: must break")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="note and skip what is done")
    parser.add_argument("--first", action="store_true", help="stop at the first failing seed")
    parser.add_argument("--trace", action="store_true", help="with --seed or --shrink: each event")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args(arguments)
    if options.nodes is not None and not NODES_MIN <= options.nodes <= NODES_MAX:
        parser.error(f"{options.nodes} nodes, {NODES_MIN} .. {NODES_MAX}")
    unknown = sorted(set((options.faults or "").split(",")) - {"", *FAULTS})
    if unknown:
        parser.error(f"no fault {', '.join(unknown)}; one of {', '.join(FAULTS)}")
    if options.twins and options.seeds is None:
        parser.error("--twins goes with --seeds")
    return options


def _wish(options: argparse.Namespace) -> Wish:
    faults = None if options.faults is None else tuple(sorted(set(options.faults.split(","))))
    return Wish(control=options.control, nodes=options.nodes, faults=faults, twins=options.twins)


def _one(seed: int, wish: Wish, *, traced: bool) -> int:
    outcome = play_plan(draw(seed, wish), traced=traced)
    for line in outcome.trace:
        _say(line)
    healed = (
        "not live" if outcome.heal_ms is None else f"went on {outcome.heal_ms} ms after healing"
    )
    _say(f"seed {seed}: height {outcome.height}, {outcome.events} events, {healed}")
    for line in describe(outcome):
        _say(f"  {line}")
    return 1 if describe(outcome) else 0


def _shrink(seed: int, wish: Wish, *, traced: bool) -> int:
    plan = draw(seed, wish)
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
    return {
        "range": seeds,
        "seeds": summary.seeds,
        "events": summary.events,
        "heights": summary.heights,
        "violations": summary.violations,
        "not_live": summary.not_live,
        "heal_ms_max": summary.heal_ms_max,
        "events_per_second": summary.events * 1_000 // summary.cpu_ms if summary.cpu_ms else 0,
        "cpu_seconds": round(summary.cpu_ms / 1_000, 2),
        "invariants": summary.invariants,
        "failures": summary.failures,
        "code": progress.code_digest(),
    }


if __name__ == "__main__":
    sys.exit(main())
