"""Keys of a home: made once, private, and what others may know of them."""

from pathlib import Path

import pytest

from prsm.node.home import Home
from prsm.node.keys import (
    OPERATOR,
    WALLET,
    BadNetworkKey,
    load_network_key,
    make_keys,
    make_network_key,
    network_key_text,
    parse_network_key,
    read_public_keys,
)
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.identity import peer_id_of
from prsm.storage.errors import Conflict, ExposedKey, NotFound, WrongPassword
from prsm.storage.keystore import load_key, load_seed

PASSWORD = "correct horse"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    return made


def test_keys_are_what_their_files_hold(home: Home) -> None:
    """Public sides match the seeds behind them; both people's keys open with the password."""
    public = make_keys(home, password=PASSWORD, development=True)
    assert public == read_public_keys(home)
    assert public.peer_id == peer_id_of(Ed25519Signer(load_seed(home.node_key)).public_key)
    assert public.consensus == Ed25519Signer(load_seed(home.consensus_key)).public_key
    for path, purpose, expected in (
        (home.operator_key, OPERATOR, public.operator),
        (home.wallet_key("default"), WALLET, public.wallet),
    ):
        seed = load_key(path, password=PASSWORD, purpose=purpose, development=True)
        assert Ed25519Signer(seed).public_key == expected
    assert public.validator(5).stake == 5
    assert len({public.consensus, public.operator, public.wallet}) == 3


def test_files_are_private(home: Home) -> None:
    """0600 each, whatever the umask."""
    make_keys(home, password=PASSWORD, development=True)
    paths = (home.node_key, home.consensus_key, home.operator_key, home.wallet_key("default"))
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_keys_are_never_overwritten(home: Home) -> None:
    """A second try is refused and changes nothing."""
    first = make_keys(home, password=PASSWORD, development=True)
    with pytest.raises(Conflict):
        make_keys(home, password="other", development=True)
    assert read_public_keys(home) == first


def test_wrong_password_opens_nothing(home: Home) -> None:
    """Typed, and it names the file."""
    make_keys(home, password=PASSWORD, development=True)
    with pytest.raises(WrongPassword, match=r"operator\.key"):
        load_key(home.operator_key, password="x", purpose=OPERATOR, development=True)


def test_reading_names_what_is_missing_or_open_to_others(home: Home) -> None:
    """No key at all, and a key that the group may read."""
    with pytest.raises(NotFound):
        read_public_keys(home)
    make_keys(home, password=PASSWORD, development=True)
    home.consensus_key.chmod(0o640)
    with pytest.raises(ExposedKey, match="0640"):
        read_public_keys(home)


KEY = bytes(range(32))


def test_network_key_is_made_once_private_and_read_again(tmp_path: Path) -> None:
    path, other = tmp_path / "one", tmp_path / "two"
    make_network_key(path)
    make_network_key(other)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_network_key(path) != load_network_key(other)
    with pytest.raises(Conflict, match="never overwritten"):
        make_network_key(path)
    path.chmod(0o640)
    with pytest.raises(ExposedKey, match="0640") as exposed:
        load_network_key(path)
    assert exposed.value.hint == f"chmod 600 {path}"


def test_network_key_has_the_text_of_other_implementations() -> None:
    assert parse_network_key(network_key_text(KEY)) == KEY
    assert network_key_text(KEY).splitlines()[:2] == ["/key/swarm/psk/1.0.0/", "/base16/"]


@pytest.mark.parametrize(
    "text",
    ["", KEY.hex(), network_key_text(KEY)[:-3], network_key_text(KEY) + "x"],
)
def test_text_that_is_no_network_key_is_refused_with_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "swarm.key"
    with pytest.raises(BadNetworkKey, match="cannot be read"):
        load_network_key(path)
    path.write_text(text, encoding="ascii")
    path.chmod(0o600)
    with pytest.raises(BadNetworkKey, match=r"swarm\.key holds no key") as refused:
        load_network_key(path)
    assert "prsm net new-key" in refused.value.hint
