"""An epoch as a height sees it: who signs, who signs next, whose turn it is.

The set of epoch e + 1 is fixed when e begins, and every header of e announces it. Knows: sets
and turns. Must not know: how the ledger chooses a set. Source: docs/spec/pbft.md, "Epochs".
"""

from dataclasses import dataclass
from typing import Self

from prsm.protocol.certificates import Certificate
from prsm.protocol.genesis import Genesis
from prsm.protocol.ids import Digest
from prsm.protocol.schedule import (
    Schedule,
    Turns,
    first_turns,
    schedule_of,
    turns_after,
    turns_of_next,
)
from prsm.protocol.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class EpochState:
    """The epoch of height h + 1, after block h."""

    first: int  # h0, its first height
    validators: ValidatorSet
    following: ValidatorSet  # of the epoch after
    turns: Turns

    @classmethod
    def genesis(cls, genesis: Genesis) -> Self:
        """Epoch 0 before its first block; epoch 1 has the same members."""
        validators = genesis.validators_of(0)
        return cls(1, validators, genesis.validators_of(1), first_turns(validators))

    @property
    def number(self) -> int:
        """Which epoch it is."""
        return self.validators.epoch

    @property
    def following_hash(self) -> Digest:
        """`next_validators_hash` of its headers."""
        return self.following.digest

    def schedule(self, height: int) -> Schedule:
        """The proposers of `height`, which is the next one."""
        return schedule_of(self.validators, self.turns, height=height, first=self.first)

    def after(self, height: int, prev_cert: Certificate | None) -> Self:
        """The same epoch once the block of `height` is executed."""
        turns = turns_after(
            self.turns,
            self.validators,
            height=height,
            first=self.first,
            prev_view=0 if prev_cert is None else prev_cert.view,
        )
        return type(self)(self.first, self.validators, self.following, turns)

    def next(self, first: int, following: ValidatorSet) -> Self:
        """The epoch that begins at height `first`; `following` is the set after it.

        `following` carries the number after this epoch's `following`.
        """
        assert following.epoch == self.following.epoch + 1 == self.number + 2
        turns = turns_of_next(self.turns, self.validators, self.following)
        return type(self)(first, self.following, following, turns)
