"""Before work is locked: a binding price, and how quick the way to a peer is.

`AskQuote` is a call on ctl, `Probe` one on bulk, where tensors travel. A quote comes back to the
worker that signed it as the raw tail of `Open`. Source: docs/spec/work.md, "Quotes".
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import U32, Bytes32, Signature, UInt
from prsm.protocol.limits import KIB, TENSOR_CHUNK_BYTES_MAX, WORK_STAGES_MAX
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.signing import RECORD_TAG

QUOTE_BYTES_MAX: Final = 1 * KIB
PROBE_BYTES_MAX: Final = TENSOR_CHUNK_BYTES_MAX  # each way; as large as one chunk of a tensor

_Nonce = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Stages = Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)]


class AskQuote(Record, frozen=True):
    """Call: for how much would you do that, bound for a while?"""

    requester: Bytes32  # account that would lock the job
    model: CidBytes
    stages: _Stages
    rows: U32  # of one unit at most
    nonce: _Nonce


class Quote(Record, frozen=True):
    """Answer to `AskQuote`: a price the worker keeps to until that block time."""

    worker: Bytes32  # payment key
    requester: Bytes32
    model: CidBytes
    stages: _Stages
    rows: U32
    price_per_row: UInt  # micro-FTNS for a row of one stage
    valid_until_ms: UInt  # block time
    nonce: _Nonce
    signature: Signature


class Probe(Record, frozen=True):
    """Call with a raw tail: send as many bytes back."""

    count: Annotated[int, msgspec.Meta(ge=0, le=PROBE_BYTES_MAX)]


class Probed(Record, frozen=True):
    """Answer to `Probe`; its tail is as long as that of the call."""

    count: Annotated[int, msgspec.Meta(ge=0, le=PROBE_BYTES_MAX)]


def quote_statement(quote: Quote, *, chain_id: bytes) -> bytes:
    """Bytes the worker signs."""
    return RECORD_TAG + encode(("work.quote", chain_id, *msgspec.structs.astuple(quote)[:-1]))


KINDS: Final[dict[int, type[Record]]] = {
    85: AskQuote,
    86: Quote,
    87: Probe,
    88: Probed,
}
