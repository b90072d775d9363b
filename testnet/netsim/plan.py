"""What a simulated network is: how many nodes, who misbehaves, what is lost, what is switched off.

Knows figures and their bounds. Must not know how a run goes. All shares are in per mille, all
times in milliseconds of virtual time.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from prsm.protocol.errors import LocalError

NODES_MAX: Final = 20_000
SYBILS_MAX: Final = 200_000
SECOND_MS: Final = 1000


class Role(Enum):
    """How a simulated node behaves."""

    HONEST = "honest"
    SILENT = "silent"  # connects, joins meshes, answers dials; forwards and answers nothing
    SYBIL = "sybil"  # dials honest nodes, takes their slots, tells of other sybils only


class Scheme(Enum):
    """What the sybils do."""

    MUTE = "mute"  # forward nothing from the start
    FORGE = "forge"  # send records that honest nodes refuse
    FLASH = "flash"  # behave, until all stop at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One simulated network.

    Attributes:
        seed: of all dice.
        nodes: honest and silent ones.
        silent: share of them that forwards nothing.
        loss: share of messages that never arrive.
        churn: share of the nodes that vanish without a word while records are published, and
            come back 5 to 10 s later.
        sybils: nodes of the attacker.
        sybil_groups: /16 groups the attacker has addresses in.
        scheme: what the sybils do.
        known: addresses of others a node knows at its start; 0 is the bootstrap list alone.
        cold: everybody starts at the same moment; else over `settle_ms / 2`.
        settle_ms: before the first record.
        records: published, one every `every_ms`, by honest nodes.
        every_ms: between two records.
        drain_ms: after the last record.
        sybils_ms: when the sybils come.
        flash_ms: when sybils of `FLASH` stop; 0 is never.
        delay_ms: one way and its jitter, for every link; None is by region.
        wired: who has dialled whom; if given these are all links, and nobody looks for others.
        handling_ms: what a node needs for one message before it passes it on.
        repair: whether nodes pull what they miss.
        scoring: whether faults of peers are counted and bans kept.
        seeds: nodes of the bootstrap list.
        guard: whether outbound peers are chosen by diversity, anchors and trial.
    """

    seed: int = 0
    nodes: int = 1000
    silent: int = 0
    loss: int = 0
    churn: int = 0
    sybils: int = 0
    sybil_groups: int = 32
    scheme: Scheme = Scheme.MUTE
    known: int = 64
    cold: bool = False
    settle_ms: int = 10 * SECOND_MS
    records: int = 20
    every_ms: int = 250
    drain_ms: int = 20 * SECOND_MS
    sybils_ms: int = 0
    flash_ms: int = 0
    delay_ms: tuple[int, int] | None = None
    wired: tuple[tuple[int, int], ...] = ()
    handling_ms: int = 2
    repair: bool = True
    scoring: bool = True
    guard: bool = True
    seeds: int = 8

    @property
    def first_record_ms(self) -> int:
        """When the first record is published."""
        return self.settle_ms

    @property
    def last_record_ms(self) -> int:
        """When the last record is published."""
        return self.settle_ms + self.every_ms * max(0, self.records - 1)

    @property
    def end_ms(self) -> int:
        """When the run ends."""
        return self.last_record_ms + self.drain_ms

    def validate(self) -> None:
        """Refuse figures that mean nothing.

        Raises:
            LocalError: a figure is out of its bounds.
        """
        bounds = (
            ("nodes", self.nodes, 2, NODES_MAX),
            ("sybils", self.sybils, 0, SYBILS_MAX),
            ("silent", self.silent, 0, 900),
            ("loss", self.loss, 0, 900),
            ("churn", self.churn, 0, 900),
            ("records", self.records, 0, 100_000),
            ("every_ms", self.every_ms, 1, 3600_000),
            ("sybil_groups", self.sybil_groups, 1, 40_000),
        )
        for name, value, low, high in bounds:
            if not low <= value <= high:
                raise LocalError(f"{name} is {value}, {low} to {high} are possible")
