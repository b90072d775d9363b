"""Votes of one kind in one view: one a signer, weighed by stake, for one hash each.

Knows: indexes, stakes, hashes. Must not know: what a quorum of them allows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from prsm.consensus.pbft.opened import Opened


@dataclass(slots=True)
class Tally:
    """The first vote of each signer; `weights` is the stake behind each hash."""

    votes: dict[int, Opened] = field(default_factory=dict)
    weights: dict[bytes, int] = field(default_factory=dict)

    def add(self, vote: Opened, stake: int) -> None:
        """Count a signer's first vote; a later one changes nothing."""
        signer = vote.message.signer
        if signer not in self.votes:
            self.votes[signer] = vote
            self.weights[vote.digest] = self.weights.get(vote.digest, 0) + stake

    def weight(self, block_hash: bytes) -> int:
        """Stake that voted for this hash."""
        return self.weights.get(block_hash, 0)

    def signatures(self, block_hash: bytes) -> Mapping[int, bytes]:
        """Signer index -> signature, of the votes for this hash."""
        return {
            signer: vote.message.signature
            for signer, vote in self.votes.items()
            if vote.digest == block_hash
        }
