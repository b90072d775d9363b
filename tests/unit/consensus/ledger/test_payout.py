"""Who gets what of a paid amount: the parts add up, whoever the shares name."""

from prsm.consensus.ledger.invariants import assert_sound
from prsm.protocol.genesis import TREASURY
from prsm.protocol.transactions.payloads import Share
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import Work, lock_of, open_job, settle_by, unit_of


def test_share_of_the_treasury_comes_on_top_of_its_part() -> None:
    """5 % are the treasury's in any case; a requester may give it more, not less."""
    shares = (Share(account=TREASURY, bps=1_000),)
    lock = lock_of("generous", unit_of(price=100), rows=(10, 10, 10), shares=shares)
    chain = Chain(small_genesis())
    open_job(chain, lock)
    result = settle_by(chain, lock, Work(65), Work(66))
    assert result.code is Code.DONE
    paid = {entry.account: entry.amount for entry in result.paid}
    workers = {signer_of(number).public_key: 2_550 for number in (65, 66)}
    assert paid == {TREASURY: 2 * 450} | workers
    assert_sound(chain.ledger._state)
