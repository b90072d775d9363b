"""Content identifiers: text and bytes, version 0 and 1, sha2-256 only, parsed strictly.

Knows: multibase, varints, multihash as far as this network accepts them. Must not know: files.
A `Cid` is (codec, digest); version 0 text is read as dag-pb of version 1 and printed in base32,
since both name the same bytes. Source: docs/spec/storage.md, multiformats CID specification.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from typing_extensions import override

from prsm.protocol.errors import WireError
from prsm.storage.errors import BadCid

_SHA2_256: Final = b"\x12\x20"  # multihash: function 0x12, 32 bytes
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_TEXT_MAX: Final = 64  # base32 of 36 bytes is 59 letters


class Codec(IntEnum):
    """How the bytes behind a CID are to be read."""

    RAW = 0x55
    DAG_PB = 0x70


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """A content identifier: codec and sha2-256 digest."""

    codec: Codec
    digest: bytes

    @property
    def raw(self) -> bytes:
        """The 36 bytes of the wire: version 1, codec, multihash."""
        return bytes((1, self.codec)) + _SHA2_256 + self.digest

    @override
    def __str__(self) -> str:
        return "b" + base64.b32encode(self.raw).decode().rstrip("=").lower()

    def text_v0(self) -> str:
        """Version 0 text (`Qm…`), as old daemons print it.

        Raises:
            BadCid: a raw leaf has no version 0.
        """
        if self.codec is not Codec.DAG_PB:
            raise BadCid(f"{self} is raw: version 0 names dag-pb only")
        return _base58_encode(_SHA2_256 + self.digest)


def hash_block(data: bytes | memoryview, codec: Codec = Codec.RAW) -> Cid:
    """Name a block."""
    return Cid(codec, hashlib.sha256(data).digest())


def parse_cid(text: str) -> Cid:
    """Read the text of a person or a daemon: base32 (`b…`), base58 (`z…`) or version 0 (`Qm…`).

    Raises:
        BadCid: another base, codec or hash, or bytes left over.
    """
    shown = text[:_TEXT_MAX]
    if len(text) > _TEXT_MAX:
        raise BadCid(f"CID text has {len(text)} letters, at most {_TEXT_MAX}")
    try:
        if len(text) == 46 and text.startswith("Qm"):
            cid = decode_cid(_base58_decode(text))
            canonical = cid.text_v0()
        elif text.startswith("z"):
            cid = decode_cid(_base58_decode(text[1:]))
            canonical = "z" + _base58_encode(cid.raw)
        else:
            cid = decode_cid(_base32_decode(text))
            canonical = str(cid)
    except (ValueError, WireError) as error:
        raise BadCid(
            f"{shown!r} is no CID of this network: {error}",
            hint="a CID looks like bafy… or bafk…; list models with: prsm model ls",
        ) from error
    if canonical != text:
        raise BadCid(f"{shown!r} is not the canonical spelling {canonical}")
    return cid


def decode_cid(raw: bytes) -> Cid:
    """Read the bytes of a CID, version 1 (36 bytes) or version 0 (34 bytes).

    Raises:
        WireError: another version, codec or hash (identity included), or bytes left over.
    """
    if len(raw) == 34 and raw.startswith(_SHA2_256):
        return Cid(Codec.DAG_PB, raw[2:])
    if len(raw) != 36 or raw[0] != 1 or raw[2:4] != _SHA2_256:
        raise WireError(f"no sha2-256 CID: {raw[:40].hex()}")
    if raw[1] not in (Codec.RAW, Codec.DAG_PB):
        raise WireError(f"codec {raw[1]:#x}, known are raw 0x55 and dag-pb 0x70")
    return Cid(Codec(raw[1]), raw[4:])


def _base32_decode(text: str) -> bytes:
    if not text.startswith("b"):
        raise ValueError("not base32 (b…), base58 (z…) or version 0 (Qm…)")
    body = text[1:]
    if body != body.lower():
        raise ValueError("base32 is written in lower case")
    try:
        return base64.b32decode(body.upper() + "=" * (-len(body) % 8))
    except binascii.Error as error:
        raise ValueError("not base32") from error


def _base58_decode(text: str) -> bytes:
    number = 0
    for letter in text:
        if letter not in _DIGITS:
            raise ValueError(f"{letter!r} is no base58")
        number = number * 58 + _DIGITS[letter]
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base58_encode(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    letters = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_ALPHABET[digit])
    return "".join(reversed(letters))
