"""Peer ids and addresses as text, against libp2p's own."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from prsm.protocol.errors import LocalError
from prsm.protocol.identity import (
    CircuitAddress,
    circuit_address,
    is_circuit,
    is_named,
    parse_address,
    parse_circuit,
    parse_listen,
    parse_name,
    peer_id_of,
    peer_in,
    public_key_of,
)
from prsm.protocol.ids import PeerId

VECTOR = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"  # of the seed 00 01 … 1f


@given(st.binary(min_size=32, max_size=32))
def test_peer_id_is_libp2ps(seed: bytes) -> None:
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert peer_id_of(public) == ID.from_pubkey(create_new_key_pair(seed).public_key).to_base58()
    assert public_key_of(peer_id_of(public)) == public


def test_peer_id_vector() -> None:
    seed = bytes(range(32))
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert peer_id_of(public) == VECTOR


@pytest.mark.parametrize(
    "text", ["", "Qm", VECTOR[:-1], VECTOR + "1", "1" + VECTOR, VECTOR.replace("K", "0"), "1" * 52]
)
def test_text_that_is_no_peer_id_is_refused(text: str) -> None:
    with pytest.raises(LocalError, match="no peer id") as caught:
        public_key_of(text)
    assert "12D3Koo" in caught.value.hint


def test_address_is_taken_apart() -> None:
    address = parse_address(f"/ip4/127.0.0.1/tcp/4001/p2p/{VECTOR}")
    assert (address.ip, address.port, address.peer) == ("127.0.0.1", 4001, VECTOR)
    assert address.transport == "/ip4/127.0.0.1/tcp/4001"
    assert parse_address(f"/ip6/::1/tcp/1/p2p/{VECTOR}").ip == "::1"


@pytest.mark.parametrize(
    "text",
    [
        f"/ip4/127.0.0.1/udp/1/p2p/{VECTOR}",
        f"/ip4/::1/tcp/1/p2p/{VECTOR}",
        f"/ip6/127.0.0.1/tcp/1/p2p/{VECTOR}",
        f"/ip4/127.0.0.1/tcp/65536/p2p/{VECTOR}",
        f"/ip4/127.0.0.1/tcp/-1/p2p/{VECTOR}",
        f"/ip4/127.0.0.1/tcp/1/p2p/{VECTOR}/",
        f"/dns4/example.org/tcp/1/p2p/{VECTOR}",
        f"x/ip4/127.0.0.1/tcp/1/p2p/{VECTOR}",
        "/ip4/127.0.0.1/tcp/1/p2p/nobody",
    ],
)
def test_address_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(LocalError):
        parse_address(text)


@pytest.mark.parametrize("text", ["", "127.0.0.1:1", "/ip4/127.0.0.1", "/ip4/localhost/tcp/1"])
def test_listen_address_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(LocalError, match="listen on") as caught:
        parse_listen(text)
    assert "/ip4/127.0.0.1/tcp/PORT" in caught.value.hint


def test_circuit_address_is_taken_apart_and_written() -> None:
    relay = f"/ip4/127.0.0.1/tcp/4001/p2p/{VECTOR}"
    text = circuit_address(relay, VECTOR)
    assert text == f"{relay}/p2p-circuit/p2p/{VECTOR}"
    assert parse_circuit(text) == CircuitAddress(PeerId(VECTOR), relay, PeerId(VECTOR))
    short = f"/p2p/{VECTOR}/p2p-circuit/p2p/{VECTOR}"
    assert parse_circuit(short) == CircuitAddress(PeerId(VECTOR), "", PeerId(VECTOR))
    assert peer_in(text) == peer_in(relay) == VECTOR
    assert is_circuit(short)
    assert not is_circuit(relay)


@pytest.mark.parametrize(
    "text",
    [
        f"/ip4/127.0.0.1/tcp/1/p2p/{VECTOR}",
        f"/ip4/127.0.0.1/tcp/1/p2p/{VECTOR}/p2p-circuit",
        f"/ip4/127.0.0.1/tcp/1/p2p-circuit/p2p/{VECTOR}",
        f"/p2p-circuit/p2p/{VECTOR}",
        f"/p2p/nobody/p2p-circuit/p2p/{VECTOR}",
        f"/p2p/{VECTOR}/p2p-circuit/p2p/nobody",
        f"/p2p/{VECTOR}/p2p-circuit/p2p/{VECTOR}/p2p-circuit/p2p/{VECTOR}",
    ],
)
def test_circuit_address_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(LocalError):
        parse_circuit(text)


def test_named_address_is_taken_apart_and_resolved() -> None:
    named = parse_name(f"/dns4/lab-1.example.org/tcp/4410/p2p/{VECTOR}")
    assert (named.name, named.port, named.peer) == ("lab-1.example.org", 4410, VECTOR)
    assert named.at("9.9.9.9") == f"/ip4/9.9.9.9/tcp/4410/p2p/{VECTOR}"
    assert parse_name(f"/dns6/a/tcp/1/p2p/{VECTOR}").at("::1") == f"/ip6/::1/tcp/1/p2p/{VECTOR}"
    assert peer_in(f"/dns4/a/tcp/1/p2p/{VECTOR}") == VECTOR
    assert is_named("/dns6/a")
    assert not is_named(f"/ip4/1.2.3.4/tcp/1/p2p/{VECTOR}")


@pytest.mark.parametrize(
    "text",
    [
        f"/dns4//tcp/1/p2p/{VECTOR}",
        f"/dns4/a b/tcp/1/p2p/{VECTOR}",
        f"/dns4/a/tcp/0/p2p/{VECTOR}",
        f"/dns4/a/tcp/65536/p2p/{VECTOR}",
        f"/dns4/{'a' * 64}/tcp/1/p2p/{VECTOR}",
        f"/dns4/{'a.' * 127}aa/tcp/1/p2p/{VECTOR}",
        "/dns4/a/tcp/1/p2p/nobody",
        "/dns4/a/tcp/1",
        f"/dnsaddr/a/p2p/{VECTOR}",
    ],
)
def test_named_address_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(LocalError):
        parse_name(text)
