"""Random faults on a working network with a liar: what stays available, how soon it heals.

Knows: the stages, the schedule of faults, the probes. Must not know: how any of it is done. Faults
come in rounds by seed; load, jobs and one-second probes go on all the while; when the time is
over all is healed and everything is judged.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from prsm.protocol.errors import LocalError
from prsm.testnet import checking, scene, stages
from prsm.testnet.faults import PASSING, Kind, Round, schedule
from prsm.testnet.manifest import nearest
from prsm.testnet.outages import shape
from prsm.testnet.perturb import Perturber
from prsm.testnet.perturbed import note_done
from prsm.testnet.report import Screen
from prsm.testnet.tables import BoundSpec, LinkSpec, LoadSpec, Manifest, NodeSpec
from prsm.testnet.vitals import Probes

# Each cycle has every kind once; partitions are what is to be shown, so they come more often. All
# nodes dead at once answer nobody, which is no figure of a network: only if asked for.
KINDS: Final = (
    *(kind for kind in PASSING if kind is not Kind.BLACKOUT), Kind.FLAP, Kind.SPLIT, Kind.DISK_FULL,
)  # fmt: skip
CHAOS_PULSE: Final = 2
REPORT_SECONDS: Final = 30.0
WRITE_SECONDS: Final = 5.0  # a transfer in a block by then counts as available


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    minutes: float = 10.0
    seed: int = 0
    nodes: int = 4
    rate: int = 10
    jobs: int = 1
    blackouts: bool = False
    only: str = ""
    scale: float = 2.0


def kinds_of(options: Options) -> tuple[Kind, ...]:
    """Which faults are drawn.

    Raises:
        LocalError: a word that is no fault which can be drawn again and again.
    """
    if not options.only:
        return (*KINDS, Kind.BLACKOUT) if options.blackouts else KINDS
    known = {kind.value: kind for kind in (*PASSING, Kind.FLAP, Kind.DISK_FULL, Kind.FLOOD)}
    for word in options.only.split(","):
        if word not in known:
            hint = nearest(word, known) or f"; one of {', '.join(known)}"
            raise LocalError(f"--only: no fault {word!r}{hint}")
    return tuple(known[word] for word in options.only.split(","))


def check_options(options: Options) -> None:
    """Refuse what no network can be made of.

    Raises:
        LocalError: which option, and what it may be.
    """
    if not 4 <= options.nodes <= 13:
        raise LocalError(f"{options.nodes} nodes, 4 to 13 share a machine and outlive a fault")
    if not 0 < options.minutes <= 24 * 60:
        raise LocalError(f"{options.minutes} minutes, more than 0 and at most 1,440")
    if not 0 <= options.rate <= 1_000:
        raise LocalError(f"{options.rate} transfers a second, at most 1,000")
    if not 0.1 <= options.scale <= 100:
        raise LocalError(f"a scale of {options.scale}, at least 0.1 and at most 100")
    kinds_of(options)
    if not 0 <= options.jobs <= 8:
        raise LocalError(f"{options.jobs} jobs at a time, at most 8")


def manifest_of(options: Options) -> Manifest:
    """The network of a run: validators that also work, the last of which lies about work."""
    works = bool(options.jobs)
    nodes = {f"node{number}": NodeSpec(models=works) for number in range(1, options.nodes)}
    nodes[f"node{options.nodes}"] = NodeSpec(role="liar", votes=True, models=works)
    return Manifest(
        name="chaos",
        seed=options.seed,
        nodes=nodes,
        links=(LinkSpec(between=("*", "*")),),
        load=LoadSpec(transfers_per_s=options.rate, accounts=64, jobs=options.jobs),
        bounds=BoundSpec(rss_mib=400),
    )


def run(options: Options, folder: Path, screen: Screen) -> dict[str, object]:
    """Make a network, break it for some minutes, heal it, judge it, end it.

    Raises:
        PrsmError: a node ended by itself, or a stage could not be done.
    """
    check_options(options)
    judged = stages.through(
        manifest_of(options), folder, screen, partial(_run, options, folder, screen)
    )
    return {"minutes": options.minutes, "seed": options.seed, "nodes": options.nodes, **judged}


async def _run(options: Options, folder: Path, screen: Screen) -> dict[str, object]:
    async with scene.opened(folder) as found:
        perturber = await found.perturber(number=CHAOS_PULSE, seed=options.seed)
        probes = Probes(found.doors, random.Random(f"{options.seed} probes"))
        traffic = stages.Traffic(found)
        await traffic.prepare()
        screen.step("chaos")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(traffic.run)
            async with trio.open_nursery() as asking:
                asking.start_soon(probes.run)
                asking.start_soon(_report, perturber, traffic, probes, screen)
                kinds = kinds_of(options)
                rounds = schedule(options.seed, options.nodes, kinds=kinds, scale=options.scale)
                try:
                    await disturb(rounds, perturber, folder, seconds=60 * options.minutes)
                finally:
                    with trio.CancelScope(shield=True):
                        await perturber.heal()
                asking.cancel_scope.cancel()
            traffic.close()
        screen.step("wait and check")
        level = await checking.wait_level(found)
        judged = await checking.check_scene(found)
        carried = await found.links.carried()
    return {
        "availability": _availability(probes, traffic),
        "perturb": stages.outcomes_of(perturber.outcomes, found.manifest.bounds.heal_s),
        "load": traffic.document(),
        "wait": level,
        "check": judged,
        "bytes_carried": carried.bytes_passed,
        "chunks_lost": carried.chunks_lost,
    }


async def disturb(
    rounds: Iterator[Round], perturber: Perturber, folder: Path, *, seconds: float
) -> None:
    """Rounds until the time is over, each written down; the last one is played to its end.

    Raises:
        PrsmError: a node ended by itself, or does not heal.
    """
    ends = trio.current_time() + seconds
    for each in rounds:
        known = len(perturber.outcomes)
        await perturber.play(each)
        for number, outcome in enumerate(perturber.outcomes[known:], known + 1):
            note_done(folder, number, outcome)
        if trio.current_time() >= ends:
            return


async def _report(
    perturber: Perturber, traffic: stages.Traffic, probes: Probes, screen: Screen
) -> None:
    while True:
        await trio.sleep(REPORT_SECONDS)
        screen.note(
            f"{perturber.done.total()} faults, {len(traffic.transfers.waited_ms)} transfers in "
            f"blocks, {probes.answered} of {probes.asked} probes answered"
        )


def writes(traffic: stages.Traffic) -> dict[str, object]:
    """How many transfers came into a block, and how many of all so soon that one may rely on it."""
    waited = traffic.transfers.waited_ms
    sent = traffic.transfers.sent
    soon = sum(each <= 1000 * WRITE_SECONDS for each in waited)
    return {
        "transfers": sent,
        "transfers_committed": len(waited),
        "transfers_in_5_s_share": round(soon / max(1, sent), 5),
    }


def _availability(probes: Probes, traffic: stages.Traffic) -> dict[str, object]:
    return {
        "probes": probes.asked,
        "probes_answered": probes.answered,
        "probes_share": round(probes.answered / max(1, probes.asked), 5),
        "probe_ms": shape(probes.waited_ms) if probes.waited_ms else {},
        **writes(traffic),
    }


def failures(document: dict[str, object]) -> list[str]:
    """Everything in a document that should have held and did not."""
    return stages.failures(document)
