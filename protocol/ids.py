"""The nouns of the wire: identifiers, amounts, heights and times, with their bounds.

Each is a `NewType` (never mixed up by a caller) or an `Annotated` (checked when bytes arrive).
Amounts are integers of micro-FTNS; times are integers of milliseconds.
"""

from typing import Annotated, Final, NewType

import msgspec

from prsm.protocol.errors import LocalError
from prsm.protocol.limits import INT_MAX

MICRO_PER_FTNS: Final = 1_000_000
FTNS: Final = 0  # asset number of the network's own token

_UINT = msgspec.Meta(ge=0, le=INT_MAX)
_B32 = msgspec.Meta(min_length=32, max_length=32)

UInt = Annotated[int, _UINT]
U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Bytes32 = Annotated[bytes, _B32]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
ChainId = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]

Height = NewType("Height", int)
View = NewType("View", int)
Epoch = NewType("Epoch", int)
Millis = NewType("Millis", int)
Stake = NewType("Stake", int)
Amount = NewType("Amount", int)  # micro-FTNS
SignerIndex = NewType("SignerIndex", int)
PeerId = NewType("PeerId", str)  # base58 text of the libp2p identity
Digest = NewType("Digest", bytes)  # sha256
PublicKey = NewType("PublicKey", bytes)  # Ed25519, 32 bytes; also an account's address
TxId = NewType("TxId", bytes)


def address_text(key: bytes) -> str:
    """Write an account's address the way people and JSON-RPC see it: `0x` and 64 hex digits."""
    return "0x" + key.hex()


def parse_hex(text: str, *, size: int, what: str) -> bytes:
    """Read `0x…` text of exactly `size` bytes.

    Raises:
        LocalError: the text is no hex of that size; `what` names it.
    """
    body = text.removeprefix("0x")
    try:
        raw = bytes.fromhex(body)
    except ValueError:
        raw = b""
    if len(raw) != size or len(body) != 2 * size:
        raise LocalError(
            f"{what} is {text[:80]!r}, not {size} bytes of hex",
            hint=f"write it as 0x and {2 * size} hex digits",
        )
    return raw


def format_ftns(amount: int) -> str:
    """Write micro-FTNS for people: `3.20`, never through a float."""
    sign, amount = ("-", -amount) if amount < 0 else ("", amount)
    whole, micro = divmod(amount, MICRO_PER_FTNS)
    fraction = f"{micro:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{fraction}"


def parse_ftns(text: str) -> Amount:
    """Read a person's `3.2` as 3,200,000 micro-FTNS.

    Raises:
        LocalError: no decimal number, more than six decimals, or out of range.
    """
    whole, _, fraction = text.strip().partition(".")
    ok = whole.isdecimal() and whole.isascii() and (fraction.isdecimal() or not fraction)
    if not ok or len(fraction) > 6 or not fraction.isascii() or len(whole) > 13:
        raise LocalError(
            f"{text[:40]!r} is no amount of FTNS",
            hint="write a decimal number with at most six decimals, such as 3.25",
        )
    return Amount(int(whole) * MICRO_PER_FTNS + int(fraction.ljust(6, "0")))
