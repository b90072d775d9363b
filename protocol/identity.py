"""Peer ids and addresses as text: pure, so that genesis tools need no libp2p.

A PeerId is the identity multihash of the protobuf of an Ed25519 public key, in base58btc.
Source: libp2p specs, peer-ids, "Keys" and "Peer Ids"; multiaddr's text form.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from prsm.protocol.errors import LocalError
from prsm.protocol.ids import PeerId

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# Multihash: identity (0x00), 36 bytes; protobuf: field 1 = Ed25519 (1), field 2 = 32 bytes.
_PREFIX: Final = bytes.fromhex("002408011220")
_FORM: Final = "/ip4/ADDRESS/tcp/PORT/p2p/PEER_ID"
_CIRCUIT: Final = "/p2p-circuit/p2p/"  # between the relay's own address and the peer behind it


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A dialable address, taken apart."""

    family: str  # "ip4" or "ip6"
    ip: str
    port: int
    peer: PeerId

    @property
    def transport(self) -> str:
        """The multiaddress without /p2p/."""
        return f"/{self.family}/{self.ip}/tcp/{self.port}"


@dataclass(frozen=True, slots=True)
class CircuitAddress:
    """An address behind a relay, taken apart."""

    relay: PeerId
    relay_address: str  # where the relay is dialled, with /p2p/; empty: only where it is linked
    peer: PeerId


def peer_id_of(public_key: bytes) -> PeerId:
    """Return the PeerId of a raw Ed25519 public key of 32 bytes."""
    assert len(public_key) == 32
    return PeerId(_base58(_PREFIX + public_key))


def public_key_of(peer: str) -> bytes:
    """Return the raw Ed25519 public key inside a PeerId.

    Raises:
        LocalError: no PeerId of an Ed25519 key.
    """
    number = 0
    for letter in peer[:64]:
        digit = _ALPHABET.find(letter)
        if digit < 0:
            break
        number = number * 58 + digit
    else:
        raw = number.to_bytes(64, "big").lstrip(b"\0")
        # The multihash begins with a zero byte, written as one leading "1".
        if b"\0" + raw[:5] == _PREFIX and len(raw) == 37 and peer_id_of(raw[5:]) == peer:
            return raw[5:]
    raise LocalError(
        f"{peer[:80]!r} is no peer id of an Ed25519 key",
        hint="it looks like 12D3Koo… and is printed by prsm status",
    )


def parse_address(text: str) -> PeerAddress:
    """Read `/ip4/…/tcp/…/p2p/…` or its ip6 form.

    Raises:
        LocalError: not of that form.
    """
    parts = text.split("/")
    if len(parts) != 7 or parts[0] or parts[3] != "tcp" or parts[5] != "p2p":
        raise LocalError(f"{text[:120]!r} is no address of a peer", hint=f"write it as {_FORM}")
    public_key_of(parts[6])
    ip, port = parse_listen("/".join(parts[:5]))
    return PeerAddress(family=parts[1], ip=ip, port=port, peer=PeerId(parts[6]))


def is_circuit(text: str) -> bool:
    """Whether an address leads through a relay."""
    return "/p2p-circuit" in text


def circuit_address(relay: str, peer: str) -> str:
    """Write the address of a peer behind a relay, the relay being an address with /p2p/."""
    return f"{relay}{_CIRCUIT}{peer}"


def parse_circuit(text: str) -> CircuitAddress:
    """Read `RELAY/p2p-circuit/p2p/…`, where RELAY is a whole address or only `/p2p/…`.

    Raises:
        LocalError: not of that form; a relay behind a relay is none.
    """
    relay, _, peer = text.partition(_CIRCUIT)
    if not peer or is_circuit(peer):
        raise LocalError(
            f"{text[:120]!r} is no address behind a relay",
            hint=f"write it as {_FORM}{_CIRCUIT}PEER_ID",
        )
    public_key_of(peer)
    if relay.startswith("/p2p/"):
        public_key_of(relay.removeprefix("/p2p/"))
        return CircuitAddress(PeerId(relay.removeprefix("/p2p/")), "", PeerId(peer))
    return CircuitAddress(parse_address(relay).peer, relay, PeerId(peer))


@dataclass(frozen=True, slots=True)
class NamedAddress:
    """An address by a DNS name, taken apart; whoever answers there must prove to be the peer."""

    family: str  # "dns4" or "dns6"
    name: str
    port: int
    peer: PeerId

    def at(self, ip: str) -> str:
        """The address once the name is resolved."""
        return f"/ip{self.family[-1]}/{ip}/tcp/{self.port}/p2p/{self.peer}"


def is_named(text: str) -> bool:
    """Whether an address holds a DNS name in the place of an ip."""
    return text.startswith(("/dns4/", "/dns6/"))


def parse_name(text: str) -> NamedAddress:
    """Read `/dns4/…/tcp/…/p2p/…` or its dns6 form.

    Raises:
        LocalError: not of that form.
    """
    match = re.fullmatch(
        r"/(dns4|dns6)/((?=.{1,253}/tcp/)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.?)"
        r"/tcp/([1-9][0-9]{0,4})/p2p/([^/]{1,64})",
        text,
    )
    if match is None or int(match[3]) > 65535:
        raise LocalError(
            f"{text[:120]!r} is no address by a name",
            hint="write it as /dns4/NAME/tcp/PORT/p2p/PEER_ID",
        )
    public_key_of(match[4])
    return NamedAddress(match[1], match[2], int(match[3]), PeerId(match[4]))


def peer_in(text: str) -> PeerId:
    """Whom an address leads to: directly, by a name, or through a relay.

    Raises:
        LocalError: no address of a peer.
    """
    if is_named(text):
        return parse_name(text).peer
    return parse_circuit(text).peer if is_circuit(text) else parse_address(text).peer


def parse_listen(text: str) -> tuple[str, int]:
    """Read `/ip4/…/tcp/…` as ip and port; port 0 lets the system choose.

    Raises:
        LocalError: not of that form.
    """
    parts = text.split("/")
    try:
        empty, family, ip, tcp, port = parts
        good = not empty and tcp == "tcp" and port.isdecimal() and port.isascii()
        version = ipaddress.ip_address(ip).version
        if good and f"ip{version}" == family and int(port) < 65536:
            return ip, int(port)
    except ValueError:
        pass
    raise LocalError(
        f"{text[:120]!r} is no address to listen on or dial",
        hint="write it as /ip4/127.0.0.1/tcp/PORT",
    )


def _base58(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text
