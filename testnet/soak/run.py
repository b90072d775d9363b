"""`prsm-testnet soak`: daemons under faults and load for an hour: what grows, what is lost.

Knows: the stages and faults of `chaos`, who visits, what is looked at. Must not know: how any of it
is done. Half of the nodes are never killed on purpose, for a slope needs a long line; the others
are. What happens stands in the network's folder from the start, and a fault of the run itself
becomes a line of the document: an hour is not thrown away at its end.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.protocol.errors import PrsmError
from prsm.testnet import chaos, checking, scene, stages
from prsm.testnet.faults import Kind, Round, schedule
from prsm.testnet.jobload import rows
from prsm.testnet.perturb import Perturber
from prsm.testnet.perturbed import done
from prsm.testnet.report import Screen
from prsm.testnet.scene import Scene
from prsm.testnet.soak import figures, newcomers, samples, visitors
from prsm.testnet.soak.newcomers import Newcomers
from prsm.testnet.soak.samples import Samples
from prsm.testnet.soak.visitors import Visitors

SOAK_PULSE: Final = 3  # account of this stage
REPORT_SECONDS: Final = 60.0
WARM_SHARE: Final = 6  # a slope leaves out ten minutes of a process, or this part of a short run
SLOPE_SECONDS_MIN: Final = 600
RSS_MIB_PER_H_MAX: Final = 16.0
# One a minute. What is at work at a look differs by fifty, so slopes of an hour differ by thirty.
FDS_PER_H_MAX: Final = 60.0
TASKS_PER_H_MAX: Final = 60.0
READS_SHARE_MIN: Final = 0.999
Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    minutes: float = 60.0
    nodes: int = 7
    rate: int = 4
    jobs: int = 1
    seed: int = 0
    scale: float = 5.0

    @property
    def chaos(self) -> chaos.Options:
        """The network and its faults."""
        return chaos.Options(
            minutes=self.minutes,
            seed=self.seed,
            nodes=self.nodes,
            rate=self.rate,
            jobs=self.jobs,
            scale=self.scale,
        )

    @property
    def spared(self) -> int:
        """How many nodes, the first ones, are never killed: a quorum lives without the others."""
        return self.nodes - self.nodes // 2

    @property
    def warm_s(self) -> float:
        """Of a process, that no slope sees."""
        return min(figures.WARM_SECONDS, 60 * self.minutes / WARM_SHARE)


def run(options: Options, folder: Path, screen: Screen) -> Document:
    """Make a network, use and break it for its time, heal it, judge it, end it.

    Raises:
        PrsmError: it could not be made, or not be judged.
    """
    chaos.check_options(options.chaos)
    judged = stages.through(
        msgspec.structs.replace(chaos.manifest_of(options.chaos), name="soak"),
        folder,
        screen,
        partial(_run, options, folder, screen),
    )
    return {"minutes": options.minutes, "nodes": options.nodes, "seed": options.seed, **judged}


async def _run(options: Options, folder: Path, screen: Screen) -> Document:
    async with scene.opened(folder) as found:
        perturber = await found.perturber(number=SOAK_PULSE, seed=options.seed)
        dice = random.Random(f"{options.seed} soak")
        guests = Visitors(folder, found.doors, found.accounts, dice, perturber.was_down)
        traffic = stages.Traffic(found)
        await traffic.prepare()
        screen.step("soak")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(traffic.run)
            async with trio.open_nursery() as beside:
                beside.start_soon(Samples(folder, found.network.nodes).run)
                beside.start_soon(guests.run)
                if options.jobs:
                    beside.start_soon(Newcomers(found, dice).run)
                beside.start_soon(_report, perturber, traffic, guests, screen)
                troubles = await _disturb(options, perturber, folder, screen)
                beside.cancel_scope.cancel()
            traffic.close()
        screen.step("wait and check")
        level, judged = await _judge(found)
    return {
        "load": traffic.document(),
        "writes": chaos.writes(traffic),
        **judge(options, folder, troubles),
        **level,
        **judged,
    }


async def _disturb(
    options: Options, perturber: Perturber, folder: Path, screen: Screen
) -> list[str]:
    """Faults until the time is over; what went wrong is noted, healed, and gone on from."""
    ends = trio.current_time() + 60 * options.minutes
    kinds = chaos.kinds_of(options.chaos)
    drawn = schedule(options.seed, options.nodes, kinds=kinds, scale=options.scale)
    rounds = spare(drawn, options.spared, options.nodes)
    troubles: list[str] = []
    while (left := ends - trio.current_time()) > 0:
        try:
            await chaos.disturb(rounds, perturber, folder, seconds=left)
        except* PrsmError as group:
            for error in _leaves(group):
                troubles.append(f"after {60 * options.minutes - left:.0f} s: {error.what}")
                screen.note(troubles[-1])
        with trio.CancelScope(shield=True):
            await perturber.heal()
    return troubles


def _leaves(group: BaseExceptionGroup[PrsmError]) -> Iterator[PrsmError]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


def spare(rounds: Iterator[Round], spared: int, nodes: int) -> Iterator[Round]:
    """The same rounds, but who is killed is always behind the first `spared` nodes."""
    for each in rounds:
        yield replace(
            each,
            faults=tuple(
                replace(fault, places=tuple(spared + p % (nodes - spared) for p in fault.places))
                if fault.kind is Kind.KILL
                else fault
                for fault in each.faults
            ),
        )


async def _judge(found: Scene) -> tuple[Document, Document]:
    try:
        level = await checking.wait_level(found)
        judged = await checking.check_scene(found)
        carried = await found.links.carried()
    except PrsmError as error:
        return {}, {"check": {"broken": [f"could not be judged: {error.what}"], "holds": False}}
    return {"wait": level}, {"check": judged, "bytes_carried": carried.bytes_passed}


def judge(options: Options, folder: Path, troubles: list[str]) -> Document:
    """What the books of a folder say, whether or not the run came to its end."""
    paid = [row for row in rows(folder) if row.paid]
    outcomes = [line.outcome for line in done(folder)]
    return {
        "troubles": troubles,
        "availability": figures.availability(visitors.read(folder)),
        "nodes_seen": {
            f"node{place + 1}": {"spared": place < options.spared, **row}
            for place, row in figures.nodes_of(samples.read(folder), warm_s=options.warm_s).items()
        },
        "models": figures.models_of(newcomers.read(folder)),
        "paid_jobs": len(paid),
        "receipts_verified": sum(row.receipt == "verified" for row in paid),
        "receipts_unseen": sum(not row.receipt for row in paid),
        "perturb": stages.outcomes_of(outcomes, chaos.manifest_of(options.chaos).bounds.heal_s),
    }


async def _report(
    perturber: Perturber, traffic: stages.Traffic, guests: Visitors, screen: Screen
) -> None:
    while True:
        await trio.sleep(REPORT_SECONDS)
        screen.note(
            f"{perturber.done.total()} faults, {len(traffic.transfers.waited_ms)} transfers in "
            f"blocks, {guests.answered} of {guests.asked} reads answered"
        )


def failures(document: Document) -> list[str]:
    """Everything in a document that should have held and did not."""
    broken = [*stages.failures(document)]
    match document:
        case {
            "troubles": list(troubles),
            "availability": {"reads_share": float(share)},
            "nodes_seen": dict(nodes),
        }:
            broken += map(str, troubles)
            if share < READS_SHARE_MIN:
                broken.append(f"{share:.5f} of the reads answered, at least {READS_SHARE_MIN}")
            broken += [what for name, row in nodes.items() for what in _grown(name, row)]
        case _:
            broken.append("the run came to no figures")
    return broken


def _grown(name: str, row: object) -> list[str]:
    """What grows in a node that was never killed; a short line says nothing of an hour."""
    match row:
        case {"spared": True, "slope_s": int(seconds), **figure} if seconds >= SLOPE_SECONDS_MIN:
            bounds = {
                "rss_mib_per_h": RSS_MIB_PER_H_MAX,
                "children_mib_per_h": RSS_MIB_PER_H_MAX,
                "fds_per_h": FDS_PER_H_MAX,
                "tasks_per_h": TASKS_PER_H_MAX,
            }
            return [
                f"{name}: {what} {value}, at most {bounds[what]}"
                for what, value in figure.items()
                if what in bounds and isinstance(value, float) and value > bounds[what]
            ]
        case _:
            return []
