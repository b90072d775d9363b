"""Finding peers on the wire: addresses one asks another for, and who may hold a model.

Source: docs/spec/wire.md, "Finding peers". Knows the shapes; must not know who is asked, or what
is believed of an answer.
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.limits import (
    ADDRESS_TEXT_MAX,
    ADDRESSES_TOLD_MAX,
    HELLO_ADDRESSES_MAX,
    HOLDERS_TOLD_MAX,
    NAME_BYTES_MAX,
)
from prsm.protocol.messages.models import CidBytes

Address = Annotated[str, msgspec.Meta(min_length=1, max_length=ADDRESS_TEXT_MAX)]


class GetAddresses(Record, frozen=True):
    """Call: where can you be dialled, and whom else have you reached lately?"""

    count: Annotated[int, msgspec.Meta(ge=0, le=ADDRESSES_TOLD_MAX)]  # of others, at most


class GotAddresses(Record, frozen=True):
    """Reply: addresses of the peer itself, and others it has dialled with success."""

    region: Annotated[str, msgspec.Meta(max_length=NAME_BYTES_MAX)]  # label its owner gave it
    own: Annotated[tuple[Address, ...], msgspec.Meta(max_length=HELLO_ADDRESSES_MAX)]
    others: Annotated[tuple[Address, ...], msgspec.Meta(max_length=ADDRESSES_TOLD_MAX)]


class GetHolders(Record, frozen=True):
    """Call: where can somebody be dialled who holds blocks of this root?"""

    root: CidBytes


class GotHolders(Record, frozen=True):
    """Reply: hints, the peer's own addresses first if it holds some itself."""

    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=HOLDERS_TOLD_MAX)]


KINDS: Final[dict[int, type[Record]]] = {
    55: GetHolders,
    56: GotHolders,
    93: GetAddresses,
    94: GotAddresses,
}
