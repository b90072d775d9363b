"""Who is who in each epoch of a run: sets as ledgers announce them, and the nodes behind places.

A place in a set ends with its epoch; a node stays. Knows: sets, names of peers, keys of nodes.
Must not know: messages, why a set is as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from prsm.consensus.pbft.tip import Tip
from prsm.protocol.ed25519 import Signer
from prsm.protocol.genesis import Allocation, Genesis
from prsm.protocol.validators import Validator, ValidatorSet
from prsm.testnet.sim.plan import STAKE_UNIT, Plan, Seat, index_of, peer_of


@dataclass(slots=True)
class Roster:
    """All sets there were and the next one."""

    genesis: Genesis
    keys: Sequence[Sequence[Signer]]  # of each node: the first one, then those it rotates to
    sets: dict[int, ValidatorSet] = field(default_factory=dict)  # by epoch
    epochs: dict[int, int] = field(default_factory=dict)  # height -> epoch
    _signers: dict[bytes, Signer] = field(default_factory=dict)
    # A set never changes, and places are asked for with each message.
    _nodes: dict[int, tuple[int, ...]] = field(default_factory=dict)  # by epoch, then place
    _places: dict[int, dict[int, tuple[int, Signer]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for epoch in (0, 1):
            self.sets[epoch] = self.genesis.validators_of(epoch)
        self.epochs[1] = 0
        self._signers = {key.public_key: key for keys in self.keys for key in keys}

    def note(self, tip: Tip) -> str:
        """Take what a ledger says of the next height; say what contradicts earlier ones."""
        height, epoch = tip.height + 1, tip.epoch
        if self.epochs.setdefault(height, epoch.number) != epoch.number:
            return f"height {height} is of epoch {epoch.number}, and of {self.epochs[height]}"
        for known in (epoch.validators, epoch.following):
            if self.sets.setdefault(known.epoch, known).digest != known.digest:
                return f"epoch {known.epoch} has two sets after height {tip.height}"
        return ""

    def node_of(self, epoch: int, signer: int) -> int | None:
        """The node at a place of a set."""
        nodes = self._nodes.get(epoch)
        if nodes is None:
            known = self.sets.get(epoch)
            if known is None:
                return None
            nodes = tuple(index_of(member.peer_id) for member in known.validators)
            self._nodes[epoch] = nodes
        return nodes[signer] if signer < len(nodes) else None

    def place_of(self, epoch: int, node: int) -> tuple[int, Signer] | None:
        """A node's place in a set and the key that signs there."""
        places = self._places.get(epoch)
        if places is None:
            known = self.sets.get(epoch)
            if known is None:
                return None
            places = self._places[epoch] = {
                index_of(member.peer_id): (signer, self._signers[member.consensus])
                for signer, member in enumerate(known.validators)
            }
        return places.get(node)


def genesis_of(
    plan: Plan,
    keys: Sequence[Sequence[Signer]],
    allocations: tuple[Allocation, ...] = (),
    operators: Sequence[Signer] = (),
) -> Genesis:
    """The first document of the run's network."""
    seats = [Seat(node, stake, 0) for node, stake in enumerate(plan.stakes)]
    members, name = members_of(seats, keys, operators), f"sim {plan.seed}"
    return Genesis(1, name, True, 0, members, allocations, plan.parameters)  # noqa: FBT003 - field `development`


def members_of(
    seats: Sequence[Seat], keys: Sequence[Sequence[Signer]], operators: Sequence[Signer] = ()
) -> tuple[Validator, ...]:
    """The members of a set; without operators their stake belongs to nobody who could move it."""
    return tuple(
        Validator(
            operator=operators[seat.node].public_key if operators else bytes([seat.node + 1]) * 32,
            consensus=keys[seat.node][seat.key].public_key,
            peer_id=peer_of(seat.node),
            stake=seat.stake * STAKE_UNIT,
        )
        for seat in seats
    )
