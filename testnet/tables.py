"""The tables of a manifest: nodes with roles and regions, links, load, faults, bounds.

Knows: keys, their types and bounds. Must not know: TOML, how a network is made or broken.
Model: CometBFT test/e2e/pkg/manifest.go.
"""

from itertools import permutations
from typing import Annotated, Final, Literal

import msgspec

from prsm.testnet.faults import OF_LINKS, PERIOD_SECONDS, Fault, Kind, Lie
from prsm.testnet.proxy import CLEAR, Conditions, Pair

NODES_MAX: Final = 32
FAULTS_MAX: Final = 1_000
ANY: Final = "*"
NAME: Final = r"^[a-z][a-z0-9-]{0,31}$"

Role = Literal["validator", "full", "light", "worker", "liar"]
Name = Annotated[str, msgspec.Meta(pattern=NAME)]
_Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=NODES_MAX)]
_Ms = Annotated[int, msgspec.Meta(ge=0, le=60_000)]
_Loss = Annotated[float, msgspec.Meta(ge=0, lt=1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
_Period = Annotated[float, msgspec.Meta(ge=0.1, le=3_600)]
_KBytes = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class NodeSpec(Table, frozen=True, kw_only=True):
    """[nodes.NAME]: what a node is.

    A validator votes; full and light nodes follow; a worker runs models for pay, a liar does so
    wrongly. `votes` and `models` make one more or less than its role.
    """

    role: Role = "validator"
    region: Name = "here"
    votes: bool | None = None
    models: bool | None = None
    lies: Lie | None = None  # in agreement, from its start on
    version: Literal["this", "previous"] = "this"  # of its program, until it is upgraded

    @property
    def is_validator(self) -> bool:
        """Does it vote?"""
        return self.role == "validator" if self.votes is None else self.votes

    @property
    def runs_models(self) -> bool:
        """Does it work for others?"""
        return self.role in {"worker", "liar"} if self.models is None else self.models


class LinkSpec(Table, frozen=True, kw_only=True):
    """[[links]]: what lies between nodes or regions, both ways; of two that fit, the later one."""

    between: Annotated[tuple[str, ...], msgspec.Meta(min_length=2, max_length=2)]
    delay_ms: _Ms = 0
    jitter_ms: _Ms = 0
    loss: _Loss = 0.0
    kbytes_per_s: _KBytes = 0

    @property
    def conditions(self) -> Conditions:
        """The same for one direction."""
        return Conditions(
            delay_ms=self.delay_ms,
            jitter_ms=self.jitter_ms,
            loss=self.loss,
            bytes_per_s=1_000 * self.kbytes_per_s,
        )


class LoadSpec(Table, frozen=True, kw_only=True):
    """[load]: what clients ask while faults happen."""

    transfers_per_s: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    accounts: Annotated[int, msgspec.Meta(ge=1, le=512)] = 32  # one open transfer each
    jobs: Annotated[int, msgspec.Meta(ge=0, le=8)] = 0  # at a time
    rows: Annotated[int, msgspec.Meta(ge=1, le=256)] = 6  # of a job
    seconds: _Seconds = 20.0  # of the stage `load` alone; beside faults it lasts as long as they


class FaultSpec(Table, frozen=True, kw_only=True):
    """[[faults]]: what happens; at a time of its own, or after the one before it in the file."""

    kind: Kind
    nodes: _Names = ()
    groups: Annotated[tuple[_Names, ...], msgspec.Meta(max_length=NODES_MAX)] = ()
    at_s: _Seconds | None = None
    seconds: _Seconds = 2.0
    rest_s: _Seconds = 1.0
    delay_ms: _Ms = 0
    jitter_ms: _Ms = 0
    loss: _Loss = 0.0
    kbytes_per_s: _KBytes = 0
    period_s: _Period = PERIOD_SECONDS
    skew_ms: Annotated[int, msgspec.Meta(ge=-86_400_000, le=86_400_000)] = 3_600_000
    lie: Lie = Lie.EQUIVOCATE


class BoundSpec(Table, frozen=True, kw_only=True):
    """[bounds]: what no node may pass while it is watched."""

    rss_mib: Annotated[int, msgspec.Meta(ge=64, le=65_536)] = 320
    fds: Annotated[int, msgspec.Meta(ge=32, le=65_536)] = 256
    heal_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 5.0


class Manifest(Table, frozen=True, kw_only=True):
    """The whole file."""

    name: Name
    nodes: Annotated[dict[Name, NodeSpec], msgspec.Meta(min_length=1, max_length=NODES_MAX)]
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    load: LoadSpec = LoadSpec()
    links: Annotated[tuple[LinkSpec, ...], msgspec.Meta(max_length=FAULTS_MAX)] = ()
    faults: Annotated[tuple[FaultSpec, ...], msgspec.Meta(max_length=FAULTS_MAX)] = ()
    bounds: BoundSpec = BoundSpec()

    @property
    def names(self) -> tuple[str, ...]:
        """Nodes in the order of the file; a place is an index into it."""
        return tuple(self.nodes)

    @property
    def voters(self) -> tuple[int, ...]:
        """Places of the validators."""
        return tuple(i for i, spec in enumerate(self.nodes.values()) if spec.is_validator)

    @property
    def needs_proxy(self) -> bool:
        """Is there anything between its nodes that a plain loopback has not?"""
        return bool(self.links) or any(fault.kind in OF_LINKS for fault in self.faults)

    @property
    def is_honest(self) -> bool:
        """Does nobody lie in agreement?"""
        return not any(spec.lies for spec in self.nodes.values()) and not any(
            fault.kind is Kind.BYZANTINE for fault in self.faults
        )

    def base(self) -> dict[Pair, Conditions]:
        """What every way between two nodes has without faults."""
        found: dict[Pair, Conditions] = {}
        labels = [{name, spec.region, ANY} for name, spec in self.nodes.items()]
        for pair in permutations(range(len(labels)), 2):
            conditions = CLEAR
            for link in self.links:
                one, other = link.between
                here, there = labels[pair[0]], labels[pair[1]]
                if (one in here and other in there) or (one in there and other in here):
                    conditions = link.conditions
            found[pair] = conditions
        return found

    def fault(self, spec: FaultSpec) -> Fault:
        """A fault with places in the stead of names."""
        place = {name: number for number, name in enumerate(self.names)}
        conditions = LinkSpec(
            between=(ANY, ANY),
            delay_ms=spec.delay_ms,
            jitter_ms=spec.jitter_ms,
            loss=spec.loss,
            kbytes_per_s=spec.kbytes_per_s,
        ).conditions
        return Fault(
            kind=spec.kind,
            places=tuple(place[name] for name in spec.nodes),
            seconds=spec.seconds,
            groups=tuple(tuple(place[name] for name in group) for group in spec.groups),
            conditions=conditions,
            period_s=spec.period_s,
            skew_ms=spec.skew_ms,
            lie=spec.lie,
        )
