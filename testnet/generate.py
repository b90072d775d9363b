"""A random network from a seed: roles, regions, links, load and faults that belong together.

Knows: what a manifest allows, and what agreement outlives. Must not know: how a network is made.
The same seed draws the same manifest; every one of them is valid. Model: CometBFT
test/e2e/generator.
"""

import random
from collections.abc import Sequence
from typing import Final

from prsm.testnet.faults import LOSSY, SKEWS_MS, SLOW, Kind, Lie
from prsm.testnet.tables import (
    ANY,
    FaultSpec,
    LinkSpec,
    LoadSpec,
    Manifest,
    NodeSpec,
    Role,
)

REGIONS: Final = ("eu", "us", "asia")
FAULTS_MAX: Final = 6
FOLLOWERS: Final[tuple[Role, ...]] = ("full", "light")
# What needs no other process than the node's, so that any machine can run it.
KINDS: Final = tuple(kind for kind in Kind if kind not in {Kind.FLOOD, Kind.BYZANTINE})


def generate(seed: int) -> Manifest:
    """Draw a manifest."""
    dice = random.Random(f"{seed} manifest")
    validators = dice.choice((4, 4, 5, 7))
    regions = dice.sample(REGIONS, dice.randint(1, 3))
    nodes = {
        f"validator{number}": NodeSpec(region=dice.choice(regions))
        for number in range(1, validators + 1)
    }
    liar = dice.choice((None, None, *Lie))
    if liar is not None:
        last = f"validator{validators}"
        nodes[last] = NodeSpec(region=nodes[last].region, lies=liar)
    for number in range(1, dice.randint(0, 2) + 1):
        role = dice.choice(FOLLOWERS)
        nodes[f"{role}{number}"] = NodeSpec(role=role, region=dice.choice(regions))
    count = dice.randint(1, FAULTS_MAX)
    return Manifest(
        name=f"generated-{seed}",
        seed=seed,
        nodes=nodes,
        links=_links(dice, sorted({spec.region for spec in nodes.values()})),
        load=LoadSpec(
            transfers_per_s=dice.choice((2, 5, 10)), accounts=16, seconds=float(dice.randint(5, 15))
        ),
        faults=tuple(_fault(dice, list(nodes), validators) for _ in range(count)),
    )


def _links(dice: random.Random, regions: Sequence[str]) -> tuple[LinkSpec, ...]:
    if len(regions) == 1 or dice.random() < 0.3:
        return ()
    links = [LinkSpec(between=(ANY, ANY), delay_ms=dice.randint(0, 5))]
    links += [
        LinkSpec(
            between=(one, other),
            delay_ms=dice.randint(10, 80),
            jitter_ms=dice.randint(0, 10),
            loss=dice.choice((0.0, 0.005, 0.01)),
        )
        for place, one in enumerate(regions)
        for other in regions[place + 1 :]
    ]
    return tuple(links)


def _fault(dice: random.Random, names: list[str], validators: int) -> FaultSpec:
    kind = dice.choice(KINDS)
    seconds = round(dice.uniform(1, 4), 1)
    victim = dice.choice(names[:validators])
    match kind:
        case Kind.SPLIT | Kind.FLAP:
            dice.shuffle(names)
            cut = dice.choice((1, len(names) // 2))
            groups = (tuple(names[:cut]), tuple(names[cut:]))
            return FaultSpec(kind=kind, groups=groups, seconds=seconds + 2)
        case Kind.LOSS:
            return FaultSpec(kind=kind, loss=LOSSY.loss, delay_ms=LOSSY.delay_ms, seconds=seconds)
        case Kind.SLOW:
            return FaultSpec(kind=kind, delay_ms=SLOW.delay_ms, seconds=seconds)
        case Kind.BLACKOUT:
            return FaultSpec(kind=kind, seconds=1.0)
        case Kind.CLOCK:
            skew_ms = dice.choice(SKEWS_MS)
            return FaultSpec(kind=kind, nodes=(victim,), skew_ms=skew_ms, seconds=seconds)
        case _:
            return FaultSpec(kind=kind, nodes=(victim,), seconds=seconds)
