"""One-time codes of the dashboard: a code in a URL's fragment buys a read token, once.

A code is worth less than a token wherever it might be seen (a browser's history, a screen): it
ends after a minute and with its first use. Source: docs/spec/rpc.md, "Tokens".

Knows: codes, what each buys. Must not know: HTTP, tokens' files.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from prsm.node.callers.tokens import BadToken, Token, Tokens
from prsm.node.clock import Clock

CODE_MS: Final = 60_000
LOGIN_MS: Final = 12 * 3_600_000
_CODES_MAX: Final = 64
_CODE_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a code buys, and until when it can."""

    token: Token
    ends_ms: int


class Logins:
    """Codes that were made and not used yet.

    Args:
        tokens: where the bought tokens live, in memory alone.
        clock: tells when a code ends.
    """

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._offers: dict[bytes, _Offer] = {}

    def offer(self, token: Token) -> tuple[str, int]:
        """Make a code for such a token; above 64 codes the oldest is worth nothing.

        Returns:
            The code, and when it ends (ms since 1970).
        """
        code = secrets.token_urlsafe(_CODE_BYTES)
        ends = self._clock.wall_ms() + CODE_MS
        while len(self._offers) >= _CODES_MAX:
            del self._offers[next(iter(self._offers))]
        self._offers[_digest(code)] = _Offer(token, ends)
        return code, ends

    async def redeem(self, code: str) -> tuple[Token, str] | None:
        """The token a code buys; None if the code is unknown, used or too old.

        Raises:
            TooManyTokens: no place is left.
        """
        offer = self._offers.pop(_digest(code), None)
        if offer is None or offer.ends_ms <= self._clock.wall_ms():
            return None
        try:
            return await self._tokens.add(offer.token)
        except BadToken:
            return None  # its maker's was taken back meanwhile


def _digest(code: str) -> bytes:
    """Found by its hash: comparing takes no longer where more of it is right."""
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()
