"""What can go wrong with bytes at rest or on their way here, as typed errors with stable reasons.

Knows: reasons. Must not know: who maps them to RPC codes, or which library raised them first.
"""

from prsm.protocol.errors import LocalError, RemoteError


class NotFound(LocalError):
    """The store, or every source that was asked, says it does not hold that."""

    reason = "not_found"


class Corrupt(LocalError):
    """Bytes on our own disk are not what was written there."""

    reason = "integrity_failed"


class WrongHash(LocalError):
    """Somebody put bytes under a digest they do not have; nothing was stored."""

    reason = "integrity_failed"


class Full(LocalError):
    """The disk or the storage quota has no room; nothing was lost, what is partial can go on."""

    reason = "disk_full"


class Conflict(LocalError):
    """It exists already, is locked by somebody else, or would go backwards."""

    reason = "conflict"


class StoreUnavailable(LocalError):
    """The disk refused (I/O error, read-only), or the file is of a newer version."""

    reason = "store_unavailable"


class BadCid(LocalError):
    """A text that is no CID this node accepts."""

    reason = "invalid_params"


class WrongPassword(LocalError):
    """A key file that does not open: wrong password and tampering look the same."""

    reason = "wrong_password"


class ExposedKey(LocalError):
    """A key file that others may read."""

    reason = "exposed_key"


class NotRecipient(LocalError):
    """Bytes sealed for others: no key of ours opens them."""

    reason = "not_recipient"


class BadEnvelope(LocalError):
    """A sealed file or its ring of keys that was changed, cut off, or is none."""

    reason = "bad_envelope"


class SourceFailed(LocalError):
    """A source of blocks did not do what it was asked; another one may."""

    reason = "source_failed"


class SourceDown(SourceFailed):
    """Nobody answers there."""

    reason = "source_down"


class SourceSlow(SourceFailed):
    """No answer before the deadline; never the same as `NotFound`.

    Args:
        what: one sentence.
        hint: what to do next.
        retry_after_ms: a busy source says when to come back; it is not dropped then. 0: unsaid.
    """

    reason = "timeout"

    def __init__(self, what: str, *, hint: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(what, hint=hint)
        self.retry_after_ms = retry_after_ms


class SourceBroken(SourceFailed):
    """The answer broke off or was no answer of that protocol."""

    reason = "source_broken"


class SourceUnfit(SourceFailed):
    """A source that answers, and not in the form that was asked for: of no use for an hour."""

    reason = "source_unfit"


class Offline(LocalError):
    """It is not here whole, and the node is told to ask nobody."""

    reason = "offline"


class FetchCancelled(LocalError):
    """Somebody ended this fetch for all who waited; what was verified stays."""

    reason = "fetch_cancelled"


class SourceCorrupt(RemoteError):
    """A source sent bytes of another hash: provable, so the source is dropped and reported."""

    reason = "integrity_failed"


class BadDag(RemoteError):
    """A block of the right hash that is no node of the stated profile: the publisher's fault."""

    reason = "bad_encoding"
