"""The named networks of the simulator, and what each has to show.

Knows plans and bars. Must not know how a run goes. A scenario with a part of the defence switched
off has to miss its bar: a simulator that cannot fail shows nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from prsm.protocol.errors import LocalError
from prsm.testnet.netsim.measure import Figures
from prsm.testnet.netsim.plan import SECOND_MS, Plan, Scheme
from prsm.testnet.netsim.world import Outcome

DELIVERED: Final = 0.999
SOON_MS: Final = 1_000
ATTACKED: Final = 0.99
MESH_BACK_MS: Final = 60 * SECOND_MS
MESH_BACK: Final = 990  # per mille of the honest nodes
COLD_MS: Final = 60 * SECOND_MS
SWITCHES: Final = ("repair", "scoring", "guard")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A network with a name.

    Attributes:
        about: one line.
        plan: of 1,000 nodes, or what it says.
        broken: what an outcome misses, in words.
    """

    about: str
    plan: Plan
    broken: Callable[[Outcome], list[str]]


def scaled(plan: Plan, *, nodes: int, seed: int) -> Plan:
    """The same network with other numbers of nodes; sybils keep their ratio."""
    sybils = plan.sybils * nodes // plan.nodes
    return replace(plan, nodes=nodes, sybils=sybils, seed=seed)


def without(plan: Plan, switches: tuple[str, ...]) -> Plan:
    """The same network with parts of the defence switched off.

    Raises:
        LocalError: there is no such part.
    """
    for switch in switches:
        if switch not in SWITCHES:
            raise LocalError(f"no switch {switch!r}", hint=f"one of {', '.join(SWITCHES)}")
    return replace(
        plan,
        repair=plan.repair and "repair" not in switches,
        scoring=plan.scoring and "scoring" not in switches,
        guard=plan.guard and "guard" not in switches,
    )


def mesh_back_ms(outcome: Outcome, flash_ms: int) -> int | None:
    """How long after the flash the mesh brings records to 99 in 100 nodes within a second again.

    Returns:
        0 if it never stopped doing so, None if the last record still did not arrive so.
    """
    late = [at_ms for at_ms, share in outcome.soon if at_ms >= flash_ms and share < MESH_BACK]
    if not late:
        return 0
    good = [at_ms for at_ms, _ in outcome.soon if at_ms > late[-1]]
    return good[0] - flash_ms if good else None


def mesh_ready_ms(outcome: Outcome) -> int | None:
    """How long after the start 99 in 100 honest nodes have a mesh; None: never."""
    return next((at_ms for at_ms, share in outcome.mesh if share >= MESH_BACK), None)


def _delivers(figures: Figures) -> list[str]:
    broken = []
    if figures.delivered < DELIVERED:
        broken.append(f"{figures.delivered:.4%} delivered, {DELIVERED:.1%} wanted")
    if figures.p99_ms is None or figures.p99_ms > SOON_MS:
        broken.append(f"p99 of {figures.p99_ms} ms, {SOON_MS} ms wanted")
    if figures.away_delivered < DELIVERED:
        broken.append(f"{figures.away_delivered:.4%} delivered to nodes that came back")
    return broken


def _lossy(outcome: Outcome) -> list[str]:
    return _delivers(outcome.figures)


def _sybils(outcome: Outcome) -> list[str]:
    share = outcome.figures.within_6s
    return [f"{share:.4%} within 6 s, {ATTACKED:.0%} wanted"] if share < ATTACKED else []


def _flash(outcome: Outcome) -> list[str]:
    broken = _sybils(outcome)
    back_ms = mesh_back_ms(outcome, _FLASH.flash_ms)
    if back_ms is None or back_ms > MESH_BACK_MS:
        broken.append(f"mesh back after {back_ms} ms, {MESH_BACK_MS} ms wanted")
    return broken


def _cold(outcome: Outcome) -> list[str]:
    ready_ms = mesh_ready_ms(outcome)
    if ready_ms is None or ready_ms > COLD_MS:
        return [f"mesh ready after {ready_ms} ms, {COLD_MS} ms wanted"]
    return []


_LOSSY: Final = Plan(silent=300, loss=200, churn=100, records=60)
_SIZE: Final = Plan(
    nodes=10_000,
    known=12,
    seeds=1,
    settle_ms=3 * SECOND_MS,
    records=5,
    drain_ms=2 * SECOND_MS,
)
_SYBILS: Final = Plan(sybils=20_000, sybils_ms=6 * SECOND_MS, drain_ms=8 * SECOND_MS)
_FLASH: Final = Plan(
    nodes=200,
    sybils=800,
    scheme=Scheme.FLASH,
    flash_ms=20 * SECOND_MS,
    records=140,
    every_ms=500,
    drain_ms=8 * SECOND_MS,
)
_COLD: Final = Plan(cold=True, settle_ms=10 * SECOND_MS, every_ms=500)
_FIRST: Final = Plan(
    cold=True, known=0, seeds=32, settle_ms=60 * SECOND_MS, every_ms=500, drain_ms=10 * SECOND_MS
)

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "lossy": Scenario("20 % loss, 30 % silent, 10 % churn", _LOSSY, _lossy),
    "size": Scenario("10,000 nodes", _SIZE, _lossy),
    "sybils": Scenario("20 silent sybils for each node, in 32 groups", _SYBILS, _sybils),
    "flash": Scenario("4 sybils for each node stop all at once", _FLASH, _flash),
    "cold": Scenario("all nodes start at once, with their address books", _COLD, _cold),
    "first": Scenario("all nodes start at once, knowing 32 bootstrap nodes", _FIRST, _cold),
}
