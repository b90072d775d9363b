"""A chain whose votes last ten seconds, and the steps of a decision on it."""

from typing import Final

import msgspec

from prsm.consensus.ledger.proposals import Proposal
from prsm.protocol.genesis import Parameters
from prsm.protocol.governance import Category, Rules
from prsm.protocol.transactions.governance import (
    Ballot,
    Choice,
    ParameterChange,
    Propose,
    proposal_id,
)
from prsm.testnet.chain import FTNS, Chain, small_genesis
from tests.tools.members import done, key

VOTING: Final = 10_000
LOCK: Final = 5_000
QUICK: Final = Rules(4_000, 6_000, VOTING, LOCK)
CID: Final = bytes.fromhex("01551220") + bytes(32)
SMALL: Final = Parameters(
    tree_bits=8,
    epoch_ms=1_000,
    unbonding_ms=60_000,
    proposal_deposit=20 * FTNS,
    vote_min=50 * FTNS,
    constitutional=msgspec.structs.replace(QUICK, threshold_bps=7_500),
    economic=QUICK,
    safety=QUICK,
    community=msgspec.structs.replace(QUICK, timelock_ms=0),
)
YES, NO, ABSTAIN = Choice.YES, Choice.NO, Choice.ABSTAIN


def voting_chain() -> Chain:
    """Operators 32 to 35 weigh 400, 300, 200 and 100."""
    stakes = tuple(n * 100 * FTNS for n in (4, 3, 2, 1))
    return Chain(small_genesis(stakes=stakes, parameters=SMALL))


def proposal_of(
    *changes: tuple[str, int], category: Category = Category.ECONOMIC, **more: object
) -> Propose:
    """A text, or changes, of account 64 unless said otherwise."""
    listed = tuple(ParameterChange(name, value) for name, value in changes)
    plain = Propose(bytes(32), category, "because", listed, None)
    return msgspec.structs.replace(plain, **more)


def opened(chain: Chain, payload: Propose, *, sender: int = 64) -> bytes:
    """Propose, and return the id."""
    done(chain.send(sender, payload, step_ms=1).code)
    return proposal_id(chain.genesis.chain_id, key(sender), payload)


def vote(chain: Chain, proposal: bytes, **choices: Choice) -> None:
    """Vote, `k32` being the operator of number 32."""
    for name, choice in choices.items():
        done(chain.send(int(name[1:]), Ballot(proposal, choice), step_ms=1).code)


def found(chain: Chain, proposal: bytes) -> Proposal:
    """The record of a proposal."""
    record = chain.ledger.view.proposal(proposal)
    assert record is not None
    return record


def wait_until(chain: Chain, time_ms: int) -> None:
    """Let the next block have this time."""
    chain.add(step_ms=time_ms - 1 - chain.ledger.tip.time_ms)
