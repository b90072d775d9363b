"""A chain of short epochs, and the orders of operators on it."""

from typing import Final

import msgspec

from prsm.protocol.genesis import Parameters
from prsm.protocol.transactions.membership import Join, Rotate, prove_possession
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import FTNS, Chain, signer_of, small_genesis

EPOCH_MS: Final = 1_000
UNBONDING_MS: Final = 60_000
SHORT: Final = Parameters(
    epoch_ms=EPOCH_MS, unbonding_ms=UNBONDING_MS, stake_min=10 * FTNS, tree_bits=8
)
HEIGHTS: Final = 11  # blocks of an epoch when each is a tenth of it or more


def short_chain(
    *, stakes: tuple[int, ...] = (100 * FTNS,) * 4, unbonding_ms: int = UNBONDING_MS
) -> Chain:
    """A chain whose epochs end with every eleventh block."""
    parameters = msgspec.structs.replace(SHORT, unbonding_ms=unbonding_ms)
    return Chain(small_genesis(stakes=stakes, parameters=parameters))


def key(number: int) -> bytes:
    """The public key of a number."""
    return signer_of(number).public_key


def join_of(chain: Chain, operator: int, consensus: int, stake: int) -> Join:
    """Join with a good proof."""
    proof = prove_possession(signer_of(consensus), chain.genesis.chain_id, key(operator))
    return Join(key(consensus), f"peer{consensus}", stake, proof)


def rotate_of(chain: Chain, operator: int, consensus: int) -> Rotate:
    """Rotate with a good proof."""
    proof = prove_possession(signer_of(consensus), chain.genesis.chain_id, key(operator))
    return Rotate(key(consensus), f"peer{consensus}", proof)


def roll(chain: Chain, epochs: int = 1) -> None:
    """Commit empty blocks until so many more epochs have ended."""
    target = chain.ledger.epoch.number + epochs
    while chain.ledger.epoch.number < target:
        chain.add(step_ms=EPOCH_MS // 10)


def weights(chain: Chain, *, following: bool = False) -> dict[int, int]:
    """Key number of each member's operator -> weight in FTNS."""
    epoch = chain.ledger.epoch
    chosen = epoch.following if following else epoch.validators
    numbers = {key(number): number for number in range(32, 100)}
    return {numbers[each.operator]: each.stake // FTNS for each in chosen.validators}


def done(code: Code) -> None:
    """Assert that a transaction had its effect."""
    assert code is Code.DONE, code.name
