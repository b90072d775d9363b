"""The seeker of secrets finds what it should, and nothing where there is nothing."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.leaks import hits, homes_in, secrets_of

SEED = bytes(range(40, 72))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "run-1" / "lab"
    for part in ("keys", "run", "data"):
        (home / part).mkdir(parents=True)
    (home / "keys" / "node.key").write_bytes(SEED)
    (home / "keys" / "consensus.key").write_bytes(b"\0" * 32)  # a test's own: no secret
    (home / "keys" / "rpc.jwt").write_text(f"ab {SEED[::-1].hex()} 0\n")
    (home / "run" / ".cookie").write_text(bytes(range(100, 132)).hex() + "\n")
    (home / "data" / "ledger.db").write_bytes(b"\0" * 4096)
    return home


def test_keys_token_keys_and_the_cookie_are_secrets(home: Path, tmp_path: Path) -> None:
    assert homes_in(tmp_path) == [home]
    assert set(secrets_of(home)) == {"lab: node.key", "lab: token key ab", "lab: cookie"}
    assert list(hits(tmp_path, secrets_of(home))) == []


@pytest.mark.parametrize(
    "form",
    [
        bytes,
        lambda secret: secret.hex().encode(),
        lambda secret: secret.hex().upper().encode(),
        base64.b64encode,
        base64.urlsafe_b64encode,
    ],
)
def test_every_form_of_a_secret_is_found(
    home: Path, tmp_path: Path, form: Callable[[bytes], bytes]
) -> None:
    log = tmp_path / "answers" / "node.log"
    log.parent.mkdir()
    log.write_bytes(b"a line\n" + form(SEED) + b"\nanother\n")
    assert list(hits(tmp_path, secrets_of(home))) == [f"{log}: lab: node.key"]
