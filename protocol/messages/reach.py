"""Reach on the wire: seen addresses, dialling back, circuits through a relay, and views of links.

Source: docs/spec/wire.md, "Reach". Knows the shapes; must not know who relays for whom.
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import U32, UInt
from prsm.protocol.limits import (
    ADDRESS_TEXT_MAX,
    CIRCUIT_WINDOW_BYTES,
    LINKS_TOLD_MAX,
    NAME_BYTES_MAX,
    PEER_TEXT_MAX,
    TEXT_BYTES_MAX,
)

Address = Annotated[str, msgspec.Meta(min_length=1, max_length=ADDRESS_TEXT_MAX)]
Peer = Annotated[str, msgspec.Meta(min_length=1, max_length=PEER_TEXT_MAX)]
Text = Annotated[str, msgspec.Meta(max_length=TEXT_BYTES_MAX)]


class Seen(Record, frozen=True):
    """To a peer that dialled: the address its connection comes from, as the other side sees it."""

    address: Address  # /ip4/…/tcp/…


class DialBack(Record, frozen=True):
    """Call: dial us at this address, whose ip must be the one this connection comes from."""

    address: Address


class DialledBack(Record, frozen=True):
    """Reply to `DialBack`: whether somebody who proved to be the caller answered there."""

    reached: bool
    why: Text


class Reserve(Record, frozen=True):
    """Call to a relay: keep a place for us, or keep it longer; others may then ask for circuits."""


class OpenCircuit(Record, frozen=True):
    """Call to a relay: join us with a peer that has a place there.

    Who asks chooses the number, for this and for `TakeCircuit`: even if its PeerId is the lower
    one of the two, else odd, and never the same again on one connection.
    """

    circuit: UInt
    peer: Peer


class TakeCircuit(Record, frozen=True):
    """Call by a relay to who has a place: somebody, who says to be `peer`, wants a circuit."""

    circuit: UInt
    peer: Peer
    lifetime_ms: UInt
    bytes_per_s: UInt


class Granted(Record, frozen=True):
    """Reply to `Reserve`, `OpenCircuit` and `TakeCircuit`."""

    lifetime_ms: UInt  # of the place
    bytes_per_s: UInt  # of all circuits of the place together


class CircuitData(Record, frozen=True):
    """One-way on bulk: the tail is the next bytes of a circuit, cipher text to the relay."""

    circuit: UInt


class CircuitCredit(Record, frozen=True):
    """One-way on bulk: so many more bytes may be sent on a circuit."""

    circuit: UInt
    count: Annotated[int, msgspec.Meta(ge=1, le=CIRCUIT_WINDOW_BYTES)]


class CircuitEnd(Record, frozen=True):
    """One-way on bulk: nothing follows on a circuit, in either direction."""

    circuit: UInt
    why: Text


class GetView(Record, frozen=True):
    """Call: which links do you have? With a peer: what do you know of the links of that one?"""

    of: Annotated[str, msgspec.Meta(max_length=PEER_TEXT_MAX)]  # empty: of you


class LinkSeen(Record, frozen=True):
    """A link as one end sees it."""

    peer: Peer
    outbound: bool  # who tells it dialled
    relayed: bool
    rtt_ms: U32  # median of `samples`
    samples: U32  # 0: not measured yet


class ViewTold(Record, frozen=True):
    """Reply to `GetView`: a node's own links, or those of another as it last told them."""

    region: Annotated[str, msgspec.Meta(max_length=NAME_BYTES_MAX)]  # label its owner gave it
    age_ms: UInt
    links: Annotated[tuple[LinkSeen, ...], msgspec.Meta(max_length=LINKS_TOLD_MAX)]


KINDS: Final[dict[int, type[Record]]] = {
    98: Seen,
    99: DialBack,
    140: DialledBack,
    141: Reserve,
    142: Granted,
    143: OpenCircuit,
    144: TakeCircuit,
    145: CircuitData,
    146: CircuitCredit,
    147: CircuitEnd,
    148: GetView,
    149: ViewTold,
}
