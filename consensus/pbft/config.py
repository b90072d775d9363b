"""What a replica is told once, and the bounds that it holds itself to.

Times are milliseconds. Knows: names, bounds. Must not know: files, keys at rest, the chain.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Self

from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import Genesis, Parameters
from prsm.protocol.validators import ValidatorSet

# Below the smallest timeout worth having, above the round trip of a slow link. Without sending
# again 2 of 5,000 simulated clusters never healed; with it none.
RESEND_MS: Final = 250
# The first time sooner, then doubled up to the above: with f dead every message must arrive, and
# one round of sending again in a timeout of 400 ms made a loss of 10 % cost eleven timeouts (p99).
RESEND_FIRST_MS: Final = 50
RESEND_SOON_BYTES_MAX: Final = 16_384  # a larger proposal is the load that keeps others busy
assert RESEND_FIRST_MS < RESEND_MS
# A peer one block ahead is ordinary; only one that stays ahead this long means a missed block.
BEHIND_GRACE_MS: Final = 300
FETCH_RETRY_MS: Final = 1_000  # one range in flight, never a fetch per vote
FETCH_BLOCKS_MAX: Final = 64

HEIGHTS_AHEAD_MAX: Final = 4  # beyond it a replica fetches blocks instead of votes
VIEWS_AHEAD_MAX: Final = 4  # of votes and proposals; VIEW_CHANGEs are bounded by signer instead
VIEWS_BEHIND_MAX: Final = 4  # votes of older views of a height are dropped
HEIGHTS_PAST_MAX: Final = 2  # decided heights whose votes are kept: those that come late tell
BODIES_AHEAD_MAX: Final = 2  # proposals kept before their time
BODIES_MAX: Final = 8  # blocks held by hash at one height
CERTIFICATES_CHECKED_MAX: Final = 256  # memory of certificates already checked


class BadConfig(LocalError):
    """A combination of values no replica can run with."""

    reason = "bad_config"


@dataclass(frozen=True, slots=True)
class Config:
    """Which network, which key, which times."""

    chain_id: bytes  # 8 bytes
    genesis_time_ms: int
    parameters: Parameters
    verifier: Verifier
    # One for each key of this node: a rotated key signs until its epoch ends, the new one after
    # it. None at all: follows, executes and serves, never votes.
    signers: tuple[Signer, ...]
    keys: frozenset[bytes] = field(init=False)  # theirs; looked up, never iterated

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", frozenset(each.public_key for each in self.signers))

    @classmethod
    def of(cls, genesis: Genesis, *, signers: Iterable[Signer], verifier: Verifier) -> Self:
        """The configuration of a replica of this network."""
        config = cls(
            chain_id=genesis.chain_id,
            genesis_time_ms=genesis.time_ms,
            parameters=genesis.parameters,
            verifier=verifier,
            signers=tuple(signers),
        )
        config.validate()
        return config

    def signer_in(self, validators: ValidatorSet) -> tuple[int | None, Signer | None]:
        """Which member of a set this node is, and the key it signs with as such."""
        for signer in self.signers:
            index = validators.index_of(signer.public_key)
            if index is not None:
                return index, signer
        return None, None

    def with_signer(self, signer: Signer) -> Self:
        """The same with another key; it signs in epochs whose set names it."""
        if any(signer.public_key == held.public_key for held in self.signers):
            return self
        return replace(self, signers=(*self.signers, signer))

    def validate(self) -> None:
        """Refuse bad combinations.

        Raises:
            BadConfig: a chain id of another size, or timeouts that contradict each other.
        """
        if len(self.chain_id) != 8:
            raise BadConfig(f"chain id of {len(self.chain_id)} bytes, it has 8")
        if self.parameters.timeout_cap_ms < self.parameters.timeout_base_ms:
            raise BadConfig(
                f"timeout_cap_ms {self.parameters.timeout_cap_ms} is below "
                f"timeout_base_ms {self.parameters.timeout_base_ms}"
            )
