"""Requests signed with an Ed25519 key: what is signed, and the three headers that carry it.

A profile of RFC 9421 (HTTP Message Signatures) with nothing to choose: always the same parts of a
request, in one order, with the digest of the body (RFC 9530), a time and a nonce. What a node
checks is spelled anew from what it received, so a header written in another way is no signature.

Knows: bytes and text. Must not know: keys on disk, clocks, dice, sockets, who may do what.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prsm.protocol.ed25519 import Signer, Verifier

WINDOW_S: Final = 60  # a request may be this much older or newer than the node's clock
NONCE_BYTES: Final = 16
_LABEL: Final = "prsm"
_TAG: Final = "prsm-rpc"  # the domain: no other statement of a node begins so
_PARTS: Final = ("@method", "@authority", "@path", "@query", "content-digest")
_INPUT: Final = re.compile(
    r'created=([0-9]{1,12});nonce="([A-Za-z0-9+/]{22}==)";keyid="(0x[0-9a-f]{64})"'
)
_SIGNATURE: Final = re.compile(rf"{_LABEL}=:([A-Za-z0-9+/]{{86}}==):")


@dataclass(frozen=True, slots=True)
class Request:
    """What is signed of a request.

    Attributes:
        verb: `POST`.
        authority: the Host header, in lower case: another node cannot use the request again.
        path: without the query.
        query: without its question mark; empty for none.
        digest: the Content-Digest header.
    """

    verb: str
    authority: str
    path: str
    query: str
    digest: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What the headers say: who signed when, and under which nonce; not checked yet."""

    public_key: bytes
    created_s: int
    nonce: str
    signature: bytes

    @property
    def key_text(self) -> str:
        """The key as `0x…`."""
        return "0x" + self.public_key.hex()


def digest_of(body: bytes) -> str:
    """The Content-Digest header of a body."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def sign(request: Request, signer: Signer, *, created_s: int, nonce: bytes) -> dict[str, str]:
    """The headers a request is sent with.

    Args:
        request: all of it.
        signer: whose rights it shall have.
        created_s: seconds since 1970.
        nonce: 16 bytes that were never used with this key.
    """
    assert len(nonce) == NONCE_BYTES
    params = _params(created_s, base64.b64encode(nonce).decode(), signer.public_key)
    signature = base64.b64encode(signer.sign(_base(request, params))).decode()
    return {
        "Content-Digest": request.digest,
        "Signature-Input": f"{_LABEL}={params}",
        "Signature": f"{_LABEL}=:{signature}:",
    }


def read_claim(inputs: Sequence[str], signatures: Sequence[str]) -> Claim | None:
    """What the headers `Signature-Input` and `Signature` say; None if they are not of this form."""
    if len(inputs) != 1 or len(signatures) != 1:
        return None
    found = _INPUT.search(inputs[0])
    mark = _SIGNATURE.fullmatch(signatures[0])
    if found is None or mark is None:
        return None
    created_s, nonce, key = int(found[1]), found[2], bytes.fromhex(found[3][2:])
    if inputs[0] != f"{_LABEL}={_params(created_s, nonce, key)}":
        return None
    try:
        signature = base64.b64decode(mark[1], validate=True)
    except binascii.Error:
        return None
    return Claim(key, created_s, nonce, signature)


def is_signed(request: Request, claim: Claim, verifier: Verifier) -> bool:
    """Whether the key signed this request."""
    params = _params(claim.created_s, claim.nonce, claim.public_key)
    return verifier.verify(claim.public_key, _base(request, params), claim.signature)


class Nonces:
    """Which signed requests were seen, while their time lasts.

    Args:
        began_s: what was signed before is refused: nobody remembers its nonce.
        places: how many are remembered; more within their time are refused.
    """

    def __init__(self, began_s: int, *, places: int = 65_536) -> None:
        self._began_s = began_s
        self._places = places
        self._seen: dict[tuple[bytes, str], int] = {}

    def take(self, claim: Claim, now_s: int) -> str:
        """Remember a checked request; empty if it is new and of this minute, else why not."""
        if abs(claim.created_s - now_s) > WINDOW_S:
            return f"signed {abs(claim.created_s - now_s)} s away from this node's clock"
        if claim.created_s < self._began_s:
            return "signed before this node started; sign it again"
        key = (claim.public_key, claim.nonce)
        if key in self._seen:
            return "sent before: a nonce counts once"
        if len(self._seen) >= self._places:
            self._forget(now_s)
        if len(self._seen) >= self._places:
            return f"one of more than {self._places} signed requests within {2 * WINDOW_S} s"
        self._seen[key] = claim.created_s
        return ""

    def _forget(self, now_s: int) -> None:
        """Drop those that would be refused for their time."""
        self._seen = {key: at for key, at in self._seen.items() if at >= now_s - WINDOW_S}


def _params(created_s: int, nonce: str, public_key: bytes) -> str:
    parts = " ".join(f'"{part}"' for part in _PARTS)
    return (
        f'({parts});created={created_s};nonce="{nonce}";keyid="0x{public_key.hex()}"'
        f';alg="ed25519";tag="{_TAG}"'
    )


def _base(request: Request, params: str) -> bytes:
    values = (
        request.verb,
        request.authority.lower(),
        request.path,
        f"?{request.query}",
        request.digest,
    )
    lines = [f'"{part}": {value}' for part, value in zip(_PARTS, values, strict=True)]
    return "\n".join([*lines, f'"@signature-params": {params}']).encode("utf-8", "replace")
