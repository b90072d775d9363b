"""Lists of the view are in an order that everybody gets, whatever the order of the state."""

from prsm.protocol.transactions.custody import deal_id
from prsm.testnet.chain import Chain, small_genesis
from tests.tools.keepers import CLIENT, File, key, terms_of


def test_deals_are_listed_by_height_then_by_name() -> None:
    """Two in each of three blocks, whose hashes are in another order."""
    chain = Chain(small_genesis())
    terms = [terms_of(File(), salt=bytes([number]) * 32) for number in range(6)]
    names = [deal_id(chain.genesis.chain_id, key(CLIENT), each) for each in terms]
    for first in (0, 2, 4):
        chain.add(*(chain.order(CLIENT, terms[first + n], nonce=first + n) for n in range(2)))
    expected = [name for at in (0, 2, 4) for name in sorted(names[at : at + 2])]
    assert expected != sorted(names)
    assert [deal.deal for deal in chain.ledger.view.deals()] == expected
