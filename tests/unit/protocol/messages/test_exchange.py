"""Records of finding peers: bounds, and the same value back."""

import pytest

from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.limits import ADDRESSES_TOLD_MAX, HELLO_ADDRESSES_MAX, HOLDERS_TOLD_MAX
from prsm.protocol.messages.exchange import GetAddresses, GetHolders, GotAddresses, GotHolders

GOT = GotAddresses(region="eu", own=("/a",), others=("/b", "/c"))


def test_answer_survives_the_wire() -> None:
    assert decode(encode(GOT), GotAddresses, size_max=100) == GOT
    ask = GetHolders(root=b"r" * 36)
    assert decode(encode(ask), GetHolders, size_max=100) == ask


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (GetAddresses, (-1,)),
        (GetAddresses, (ADDRESSES_TOLD_MAX + 1,)),
        (GotAddresses, ("eu", ("/a",) * (HELLO_ADDRESSES_MAX + 1), ())),
        (GotAddresses, ("eu", (), ("/a",) * (ADDRESSES_TOLD_MAX + 1))),
        (GotAddresses, ("eu", (), ("",))),
        (GotAddresses, ("eu", (), ("x" * 257,))),
        (GotAddresses, ("r" * 65, (), ())),
        (GetHolders, (b"short",)),
        (GotHolders, (("/a",) * (HOLDERS_TOLD_MAX + 1),)),
    ],
)
def test_beyond_the_bounds_is_refused(cls: type, value: tuple[object, ...]) -> None:
    with pytest.raises(WireError):
        decode(encode(value), cls, size_max=100_000)
