"""A validator that lies in agreement: between its honest core and the network, by order of a file.

Knows: the messages of agreement, the node's own consensus key, how to lie (`faults.Lie`). Must not
know: what the core thinks. The core stays honest and keeps its log; something else leaves it. The
file `lie` in the home says how, is looked at before each message, and may come and go.
"""

from pathlib import Path
from typing import cast

import msgspec

from prsm.node.home import Home, write_private
from prsm.node.net.interface import Channel, Network
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.genesis import from_json
from prsm.protocol.headers import Block
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import CTL_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import Proposal, SignedMessage, Status, sign_message
from prsm.protocol.signing import Kind, sha256
from prsm.storage.keystore import load_seed
from prsm.testnet.faults import Lie


def lie_file(home: Home) -> Path:
    """Where it stands how a home's node lies."""
    return home.root / "lie"


def set_lie(home: Home, lie: Lie | None) -> None:
    """Let a rigged node lie from now on, or be honest again."""
    if lie is None:
        lie_file(home).unlink(missing_ok=True)
    else:
        write_private(lie_file(home), lie.value.encode())


def lie_of(home: Home) -> Lie | None:
    """How a home's node is to lie; a word that is none is nothing."""
    try:
        return Lie(lie_file(home).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def deceive(home: Home, network: Network) -> Network:
    """Put the liar of a home between its agreement and its network."""
    return cast("Network", Deceit(home, network))  # every other method is the network's own


class Deceit:
    """A network that says something else than it was told."""

    def __init__(self, home: Home, network: Network) -> None:
        self._network = network
        self._home = home
        self._chain_id = from_json(home.genesis.read_bytes()).chain_id
        self._signer = Ed25519Signer(load_seed(home.consensus_key))
        self._second: dict[tuple[Kind, int, int], SignedMessage] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)

    def send_nowait(
        self,
        peer: PeerId,
        message: Record,
        *,
        channel: Channel,
        tail: bytes = b"",
        trace: bytes = b"",
    ) -> bool:
        """Queue what the lie makes of a message; an honest node's goes as it is."""
        said: tuple[Record, ...] = (message,)
        if isinstance(message, (SignedMessage, Status)) and (lie := lie_of(self._home)):
            said = self._told(message, lie, peer)
        results = [
            self._network.send_nowait(peer, each, channel=channel, tail=tail, trace=trace)
            for each in said
        ]
        return all(results)

    def _told(self, message: SignedMessage | Status, lie: Lie, peer: PeerId) -> tuple[Record, ...]:
        match lie:
            case Lie.SILENT:
                return ()
            case Lie.EQUIVOCATE if isinstance(message, SignedMessage):
                second = self._other(message)
                if second is None:
                    return (message,)
                # Each half of the peers hears another story first, and so counts another one.
                is_odd = sha256(peer.encode())[0] & 1
                return (second, message) if is_odd else (message, second)
            case Lie.BAD_BLOCKS if isinstance(message, SignedMessage):
                return (self._spoilt(message),)
            case _:
                return (message,)

    def _other(self, message: SignedMessage) -> SignedMessage | None:
        """A second statement for the same place, which no honest validator signs."""
        place = (message.kind, message.height, message.view)
        if place not in self._second:
            body: bytes
            match message.kind:
                case Kind.PREPARE | Kind.COMMIT:
                    body = sha256(b"another block", message.body)
                case Kind.PROPOSE:
                    body = _changed(message.body, later_ms=1)
                case _:
                    return None
            self._second = {place: self._sign(message, body)}  # the latest place is enough
        return self._second[place]

    def _spoilt(self, message: SignedMessage) -> SignedMessage:
        """A proposal with a state root that is wrong; votes stay as they are."""
        if message.kind is not Kind.PROPOSE:
            return message
        return self._sign(message, _changed(message.body, state_root=sha256(b"no such state")))

    def _sign(self, message: SignedMessage, body: bytes) -> SignedMessage:
        changed = msgspec.structs.replace(message, body=body)
        return sign_message(changed, self._signer, self._chain_id)


def _changed(body: bytes, *, later_ms: int = 0, state_root: bytes | None = None) -> bytes:
    """The body of a proposal whose block has another time or another root."""
    proposal = decode(body, Proposal, size_max=CTL_FRAME_BYTES_MAX)
    header = proposal.block.header
    header = msgspec.structs.replace(
        header, time_ms=header.time_ms + later_ms, state_root=state_root or header.state_root
    )
    return encode(Proposal(Block(header, proposal.block.body), proposal.new_view))
