"""Quotes: kept until they expire, honoured by who signed them, for what they are."""

import msgspec
import pytest

from prsm.node.inference.quotes import Asked, QuoteBook, QuoteExpired, honoured_price
from prsm.protocol.codec import encode
from prsm.protocol.errors import WireError
from prsm.protocol.messages.quotes import Quote, quote_statement
from tests.tools.work import MODEL
from tests.tools.work_chain import MemoryChain, World

ASKED = Asked(MODEL, 2, 100)
REQUESTER = b"r" * 32


def chain() -> MemoryChain:
    return MemoryChain(World(), 1)


def quote(own: MemoryChain, **changes: object) -> Quote:
    fields: dict[str, object] = {
        "worker": own.address,
        "requester": REQUESTER,
        "model": MODEL,
        "stages": 2,
        "rows": 100,
        "price_per_row": 7,
        "valid_until_ms": own.block_time_ms() + 1000,
        "nonce": bytes(16),
        "signature": bytes(64),
        **changes,
    }
    unsigned = Quote(**fields)  # type: ignore[arg-type]  # field by field above
    signature = own.signer.sign(quote_statement(unsigned, chain_id=own.chain_id))
    return msgspec.structs.replace(unsigned, signature=signature)


def honoured(own: MemoryChain, given: Quote, asked: Asked = ASKED) -> int | None:
    return honoured_price(encode(given), chain=own, requester=REQUESTER, asked=asked)


def test_worker_honours_its_quote_until_the_moment_it_named() -> None:
    own = chain()
    given = quote(own)
    assert honoured(own, given) == 7
    own.world.time_ms += 1000
    assert honoured(own, given) == 7
    own.world.time_ms += 1
    with pytest.raises(QuoteExpired) as refused:
        honoured(own, given)
    assert str(given.valid_until_ms) in refused.value.what
    assert refused.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"requester": b"x" * 32},
        {"stages": 3},
        {"model": b"\x01\x55\x12\x20" + b"n" * 32},
        {"worker": b"w" * 32},
        {"rows": 99},
    ],
)
def test_quote_for_something_else_binds_nobody(changes: dict[str, object]) -> None:
    own = chain()
    assert honoured(own, quote(own, **changes)) is None


def test_changed_or_damaged_quote_binds_nobody() -> None:
    own = chain()
    cheaper = msgspec.structs.replace(quote(own), price_per_row=1)
    assert honoured(own, cheaper) is None
    assert honoured_price(b"", chain=own, requester=REQUESTER, asked=ASKED) is None
    with pytest.raises(WireError):
        honoured_price(b"\xff", chain=own, requester=REQUESTER, asked=ASKED)


def test_book_finds_what_still_holds() -> None:
    own, book = chain(), QuoteBook()
    given = quote(own)
    book.keep(given)
    now = own.block_time_ms()
    assert book.find(own.address, ASKED, time_ms=now) == given
    assert book.find(own.address, Asked(MODEL, 2, 101), time_ms=now) is None
    assert book.find(own.address, Asked(MODEL, 1, 100), time_ms=now) is None
    assert book.find(own.address, ASKED, time_ms=now + 1001) is None
    newer = quote(own, price_per_row=9)
    book.keep(newer)
    assert book.find(own.address, ASKED, time_ms=now) == newer
