"""The error classes every room raises, and the one place that says what they carry.

Knows: who broke a contract, a caller of ours (`LocalError`) or a peer (`RemoteError`).
Must not know: RPC codes, exit codes (node/rpc/errors maps `reason` to both).
"""

from typing import ClassVar


class PrsmError(Exception):
    """Root of all typed errors; never raised itself.

    Args:
        what: one sentence: what is wrong, with the value and the limit.
        hint: what to type or do next; empty when nothing helps.

    Attributes:
        spent: micro-FTNS that may be gone by now, without fees; None: its reason alone says.
    """

    reason: ClassVar[str] = "internal"
    spent: int | None = None

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class LocalError(PrsmError):
    """Our own caller, a person or another room, broke the contract."""

    reason = "invalid_params"


class RemoteError(PrsmError):
    """A peer sent what no honest peer sends.

    Args:
        what: one sentence, with the value and the limit.
        hint: what to do next.
        peer: the peer id in text, empty until the connection's owner fills it in.
        penalty: points for node/net/scores; 100 bans at once.
    """

    reason = "protocol_violation"

    def __init__(self, what: str, *, hint: str = "", peer: str = "", penalty: int = 20) -> None:
        super().__init__(what, hint=hint)
        self.peer = peer
        self.penalty = penalty


class WireError(RemoteError):
    """Bytes that are no canonical encoding of what they claim to be."""

    reason = "bad_encoding"


class BadSignature(RemoteError):
    """A signature that libsodium's rule refuses, or one by a key that may not sign this."""

    reason = "bad_signature"


class WrongChain(RemoteError):
    """A message, transaction or handshake of another network."""

    reason = "wrong_chain"


class Unsupported(LocalError):
    """A capability that is not installed or not built; the hint names what to do."""

    reason = "unsupported"
