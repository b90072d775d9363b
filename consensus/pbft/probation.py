"""How an observer's state ends by itself: where no vote of its keys can be that it forgot.

It forgot votes of heights up to two above what its peers had executed when it came back: whoever
committed a block was in a quorum, any two quorums share an honest member, and that one was at most
a height behind. An epoch's first height is a new place for votes in any case. So it signs from the
first height of an epoch on that lies three above the first STATUS of peers which weigh a quorum
without it, and two above every height that its own files and shown votes speak of. A liar's
height is just not among that quorum. Knows: heights, claims, sets. Must not know: files, votes.
Source: docs/spec/pbft.md, "Observer".
"""

from dataclasses import dataclass, field
from typing import Final

from prsm.protocol.validators import ValidatorSet

ABOVE_VOTES: Final = 2  # heights between what was seen of its own votes and the first new one
ABOVE_CLAIMS: Final = 3  # a peer at height c: a quorum may be at c + 1, this node's vote at c + 2


@dataclass(slots=True)
class Probation:
    """What an observer has learnt since it came back."""

    voted: int  # the highest height that its ledger, log or guard speaks of, or a shown vote
    claims: dict[str, int] = field(default_factory=dict)  # by peer: height of its first STATUS
    is_ending: bool = False  # a fresh log was ordered

    def first_height(self, validators: ValidatorSet, own: int | None) -> int | None:
        """The lowest height at which an epoch may begin that it signs in, None if unknown yet.

        Args:
            validators: of the current height.
            own: this node's index in it; its own word does not count.
        """
        members = validators.validators
        claimed = sorted(
            (self.claims[member.peer_id], index)
            for index, member in enumerate(members)
            if member.peer_id in self.claims and index != own
        )
        weight = 0
        for height, index in claimed:
            weight += members[index].stake
            if weight >= validators.quorum:
                return max(self.voted + ABOVE_VOTES, height + ABOVE_CLAIMS)
        return None
