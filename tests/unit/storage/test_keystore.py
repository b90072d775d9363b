"""Key files: what opens, what says nothing about why it does not, and who may read them."""

import json
from pathlib import Path

import pytest

from prsm.protocol.errors import LocalError
from prsm.storage.errors import Conflict, Corrupt, ExposedKey, NotFound, WrongPassword
from prsm.storage.keystore import (
    Cost,
    KeyFile,
    load_key,
    load_seed,
    read_key_file,
    save_key,
    save_seed,
)

SEED = bytes(range(32))
PUBLIC = b"p" * 32
CHEAP = KeyFile("wallet", PUBLIC, Cost.DEVELOPMENT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "keys" / "default.key"
    save_key(made, SEED, password="secret", key_file=CHEAP)
    return made


def opened(path: Path, password: str = "secret") -> bytes:
    return load_key(path, password=password, purpose="wallet", development=True)


@pytest.mark.slow
@pytest.mark.parametrize("cost", [Cost.NORMAL, Cost.HIGH])
def test_key_opens_with_its_password(tmp_path: Path, cost: Cost) -> None:
    path = tmp_path / "k"
    save_key(path, SEED, password="pässword", key_file=KeyFile("operator", PUBLIC, cost))
    assert load_key(path, password="pässword", purpose="operator") == SEED


def test_key_file_is_private_and_says_whose_it_is(path: Path) -> None:
    assert opened(path) == SEED
    assert read_key_file(path) == CHEAP
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert SEED.hex() not in path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["default.key"]


def test_wrong_password_and_tampering_say_the_same(path: Path) -> None:
    with pytest.raises(WrongPassword) as wrong:
        opened(path, "Secret")
    good = json.loads(path.read_text())
    for field in ("purpose", "public", "cost", "salt", "nonce", "sealed"):
        document = dict(good)
        if field == "purpose":
            document[field] = "other"
        elif field == "cost":
            document[field] = "normal"
        else:
            document[field] = f"{int(good[field][:2], 16) ^ 1:02x}" + good[field][2:]
        path.write_text(json.dumps(document))
        with pytest.raises(WrongPassword) as tampered:
            load_key(path, password="secret", purpose=document["purpose"], development=True)
        assert (tampered.value.what, tampered.value.hint) == (wrong.value.what, wrong.value.hint)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "prsm-key-2"},
        {"cost": "free"},
        {"salt": "00"},
        {"sealed": "zz"},
        {"public": 7},
        {"memory": 2**60},
    ],
)
def test_what_is_no_key_file_is_refused(path: Path, change: dict[str, object]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Corrupt):
        opened(path)


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b"{}", b"\xff", b"[" * 4000, b" " * 5000])
def test_bytes_that_are_no_key_file_are_refused(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    with pytest.raises(Corrupt):
        opened(path)


def test_key_others_may_read_is_refused(path: Path) -> None:
    path.chmod(0o640)
    with pytest.raises(ExposedKey, match="0640"):
        opened(path)


def test_cheap_key_is_refused_outside_development(path: Path) -> None:
    with pytest.raises(LocalError, match="development"):
        load_key(path, password="secret", purpose="wallet")


def test_key_of_another_purpose_is_refused(path: Path) -> None:
    with pytest.raises(LocalError, match="'wallet', not for 'operator'"):
        load_key(path, password="secret", purpose="operator", development=True)


def test_key_is_never_overwritten_by_accident(path: Path) -> None:
    with pytest.raises(Conflict, match="exists"):
        save_key(path, bytes(32), password="x", key_file=CHEAP)
    before = path.read_text()
    save_key(path, SEED, password="other", key_file=CHEAP, replace=True)
    assert opened(path, "other") == SEED
    after = json.loads(path.read_text())
    assert all(after[field] != json.loads(before)[field] for field in ("salt", "nonce", "sealed"))


def test_save_key_refuses_what_protects_nothing(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="empty password"):
        save_key(tmp_path / "k", SEED, password="", key_file=KeyFile("wallet", PUBLIC, Cost.NORMAL))
    with pytest.raises(LocalError, match="32 bytes, not 31"):
        save_key(tmp_path / "k", SEED[1:], password="x", key_file=CHEAP)
    assert not (tmp_path / "k").exists()


def test_seed_files(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "node.key"
    with pytest.raises(NotFound):
        load_seed(path)
    save_seed(path, SEED)
    assert load_seed(path) == SEED
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict):
        save_seed(path, bytes(32))
    with pytest.raises(LocalError):
        save_seed(tmp_path / "other", b"short")
    path.chmod(0o604)
    with pytest.raises(ExposedKey, match="0604"):
        load_seed(path)
    path.chmod(0o600)
    path.write_bytes(SEED[:5])
    with pytest.raises(Corrupt, match="5 bytes"):
        load_seed(path)


def test_seed_behind_a_link_is_refused(tmp_path: Path) -> None:
    save_seed(tmp_path / "real", SEED)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(LocalError):
        load_seed(tmp_path / "link")
