"""Where the chain stands: the last executed block, and who may sign what comes after it.

Knows: one block, its certificate, the sets of three heights. Must not know: votes, the ledger.
Source: docs/spec/pbft.md, "Epochs".
"""

from dataclasses import dataclass
from typing import Self

from prsm.protocol.certificates import Certificate
from prsm.protocol.epochs import EpochState
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Block
from prsm.protocol.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class Tip:
    """The last executed block and the state after it, all durable; height 0 is the genesis."""

    height: int
    block_hash: bytes  # genesis digest at height 0
    block: Block | None
    certificate: Certificate | None
    state_root: bytes  # after `height`
    receipts_root: bytes  # of `height`
    epoch: EpochState  # of height + 1
    certifiers: ValidatorSet  # of `height`: who signed `certificate`

    @property
    def validators(self) -> ValidatorSet:
        """The set of height + 1."""
        return self.epoch.validators

    @property
    def sets(self) -> tuple[ValidatorSet, ...]:
        """Every set that is known here: of `height`, of height + 1, of the epoch after that."""
        following = self.epoch.following
        if self.certifiers.epoch == self.validators.epoch:
            return self.validators, following
        return self.certifiers, self.validators, following

    def set_of(self, height: int, epoch: int) -> ValidatorSet | None:
        """The set that signs a height in an epoch, None if no height like that is known.

        A height above the next one may lie in its epoch or in the one after: what was signed
        there says which. Nothing above is ever checked with today's set for want of another.
        """
        if height <= self.height:
            found = self.certifiers
        else:
            found = self.epoch.validators
            if height > self.height + 1 and found.epoch != epoch:
                found = self.epoch.following
        return found if found.epoch == epoch else None

    @classmethod
    def genesis(cls, genesis: Genesis, *, state_root: bytes, receipts_root: bytes) -> Self:
        """The tip before the first block."""
        epoch = EpochState.genesis(genesis)
        return cls(
            height=0,
            block_hash=genesis.digest,
            block=None,
            certificate=None,
            state_root=state_root,
            receipts_root=receipts_root,
            epoch=epoch,
            certifiers=epoch.validators,
        )

    def after(
        self,
        block: Block,
        certificate: Certificate,
        *,
        state_root: bytes,
        receipts_root: bytes,
        epoch: EpochState,
    ) -> Self:
        """The tip once `block`, which `certificate` names, is executed; `epoch` is then."""
        return type(self)(
            height=block.header.height,
            block_hash=certificate.block_hash,
            block=block,
            certificate=certificate,
            state_root=state_root,
            receipts_root=receipts_root,
            epoch=epoch,
            certifiers=self.validators,
        )
