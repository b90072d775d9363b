"""Places: groups by /16 outside, by port inside; what is told to whom."""

import pytest

from prsm.node.net.places import Scope, may_tell, place_of, scope_of
from prsm.protocol.errors import LocalError
from prsm.protocol.identity import peer_id_of

PEER = peer_id_of(b"p" * 32)


def address(ip: str, port: int = 4410, family: str = "ip4") -> str:
    return f"/{family}/{ip}/tcp/{port}/p2p/{PEER}"


@pytest.mark.parametrize(
    ("ip", "scope", "group"),
    [
        ("8.9.10.11", Scope.PUBLIC, "8.9"),
        ("127.0.0.1", Scope.LOOPBACK, "127.0.0.1:4410"),
        ("127.3.0.9", Scope.LOOPBACK, "127.3.0.9:4410"),
        ("10.1.2.3", Scope.PRIVATE, "10.1.2.3:4410"),
        ("192.168.1.1", Scope.PRIVATE, "192.168.1.1:4410"),
        ("100.64.0.1", Scope.PRIVATE, "100.64.0.1:4410"),
        ("169.254.1.1", Scope.PRIVATE, "169.254.1.1:4410"),
    ],
)
def test_place_knows_scope_and_group(ip: str, scope: Scope, group: str) -> None:
    place = place_of(address(ip))
    assert (place.scope, place.group, place.peer) == (scope, group, PEER)
    assert scope_of(place.text) is scope


@pytest.mark.parametrize(
    ("ip", "scope", "group"),
    [
        ("2a00:1450:4001::1", Scope.PUBLIC, "2a001450::"),
        ("::1", Scope.LOOPBACK, "::1:4410"),
        ("fd00::7", Scope.PRIVATE, "fd00::7:4410"),
        ("fe80::7", Scope.PRIVATE, "fe80::7:4410"),
    ],
)
def test_place_of_ip6_is_grouped_by_provider(ip: str, scope: Scope, group: str) -> None:
    place = place_of(address(ip, family="ip6"))
    assert (place.scope, place.group) == (scope, group)


def test_two_spellings_are_one_place() -> None:
    assert place_of(address("0:0::1", family="ip6")) == place_of(address("::1", family="ip6"))


@pytest.mark.parametrize("ip", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1"])
def test_place_nobody_can_be_at_is_refused(ip: str) -> None:
    with pytest.raises(LocalError, match="nobody can be dialled"):
        place_of(address(ip))


@pytest.mark.parametrize("ip", ["::", "ff02::fb", "::ffff:8.8.8.8"])
def test_place_nobody_can_be_at_is_refused_in_ip6(ip: str) -> None:
    with pytest.raises(LocalError, match="nobody can be dialled"):
        place_of(address(ip, family="ip6"))


def test_port_zero_is_refused() -> None:
    with pytest.raises(LocalError, match="nobody can be dialled"):
        place_of(address("8.8.8.8", port=0))


def test_only_wider_addresses_are_told() -> None:
    told = {listener: [scope for scope in Scope if may_tell(scope, listener)] for listener in Scope}
    assert told == {
        Scope.LOOPBACK: [Scope.LOOPBACK, Scope.PRIVATE, Scope.PUBLIC],
        Scope.PRIVATE: [Scope.PRIVATE, Scope.PUBLIC],
        Scope.PUBLIC: [Scope.PUBLIC],
    }


def test_scope_of_what_cannot_be_read_is_public() -> None:
    assert scope_of("nonsense") is Scope.PUBLIC


def test_place_behind_a_relay_counts_as_the_relays_group() -> None:
    relay = peer_id_of(b"r" * 32)
    text = f"/ip4/8.9.10.11/tcp/1/p2p/{relay}/p2p-circuit/p2p/{PEER}"
    place = place_of(text)
    assert (place.text, place.peer, place.group) == (text, PEER, "8.9")
    assert place.scope is Scope.PUBLIC


@pytest.mark.parametrize("relay", ["", "/p2p/R", "/ip4/0.0.0.0/tcp/1/p2p/R"])
def test_place_behind_a_relay_nobody_can_dial_is_refused(relay: str) -> None:
    relay = relay.replace("R", peer_id_of(b"r" * 32))
    with pytest.raises(LocalError):
        place_of(f"{relay}/p2p-circuit/p2p/{PEER}")
