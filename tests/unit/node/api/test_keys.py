"""wallet_ of keys: in, out, locked, another password; messages that are nothing else."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.ids import address_text
from prsm.protocol.signing import Kind, message_statement, statement
from tests.tools.labs import PASSWORD
from tests.tools.site import Site, open_site

SEED = bytes(range(32))
ADDRESS = address_text(Ed25519Signer(SEED).public_key)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def taken(site: Site, name: str = "old", password: str = "first") -> dict[str, object]:
    found: dict[str, object] = await site.ask(
        "wallet_importKey", name=name, password=password, seed="0x" + SEED.hex()
    )
    return found


@pytest.mark.slow
async def test_key_comes_in_and_goes_to_another_home(site: Site, tmp_path: Path) -> None:
    """Taken as bytes, handed out as a file of full cost, taken there under another name."""
    made = await taken(site)
    assert (made["name"], made["address"], made["unlocked"]) == ("old", ADDRESS, False)
    sent = await site.ask(
        "wallet_exportKey", name="old", password="first", file_password="of the file"
    )
    document = json.loads(sent["key_file"])
    assert (sent["address"], document["cost"]) == (ADDRESS, "normal")
    assert SEED.hex() not in sent["key_file"]
    other = tmp_path / "other"
    other.mkdir()
    async with open_site(other) as there:
        got = await there.ask(
            "wallet_importKey",
            name="moved",
            password="second",
            key_file=sent["key_file"],
            file_password="of the file",
        )
        assert got["address"] == ADDRESS
        opened = await there.ask("wallet_unlock", name="moved", password="second")
        assert opened["address"] == ADDRESS


@pytest.mark.slow
async def test_keys_that_are_none_are_refused(site: Site) -> None:
    """Both forms or neither, no key file, a wrong password of it, the same key twice."""
    await taken(site)
    own = (await site.ask("wallet_exportKey", name="old", password="first"))["key_file"]
    swapped = json.dumps({**json.loads(own), "public": "07" * 32})
    for params, reason in (
        ({}, "invalid_params"),
        ({"seed": "0x" + SEED.hex(), "key_file": own}, "invalid_params"),
        ({"key_file": "{}"}, "integrity_failed"),
        ({"key_file": own, "file_password": "guess"}, "wrong_password"),
        ({"key_file": swapped, "file_password": "first"}, "wrong_password"),
        ({"seed": "0x" + SEED.hex()}, "conflict"),
    ):
        given = {"name": "again", "password": "first"} | params
        assert (await site.refused("wallet_importKey", **given))[1] == reason
    assert (await site.refused("wallet_exportKey", name="old", password="no"))[1] == (
        "wrong_password"
    )
    refused = await site.refused(
        "wallet_importKey", name="old", password="x", seed="0x" + "09" * 32
    )
    assert refused[1] == "conflict"
    assert site.faults == []


async def test_password_changes_and_the_old_one_opens_no_more(site: Site) -> None:
    """Also of a key that is open: it stays open, the file has the new password."""
    await taken(site)
    params = {"name": "old", "password": "first", "new_password": "second"}
    await site.ask("wallet_changePassword", **params)
    assert (await site.refused("wallet_changePassword", **params))[1] == "wrong_password"
    assert (await site.refused("wallet_unlock", name="old", password="first"))[1] == (
        "wrong_password"
    )
    await site.ask("wallet_unlock", name="old", password="second")
    # The node's own key, whose password came at its start.
    changed = await site.ask(
        "wallet_changePassword", name="default", password=PASSWORD, new_password="third"
    )
    assert changed["unlocked"]


async def test_locked_key_signs_nothing(site: Site) -> None:
    """Open, signs; locked by hand before its time, refuses; opened again, signs."""
    await taken(site)
    for _ in range(2):
        await site.ask("wallet_unlock", name="old", password="first", ttl_s=3600)
        await site.ask("wallet_sign", message="x", name="old")
        locked = await site.ask("wallet_lock", name="old")
        assert not locked["unlocked"]
        assert (await site.refused("wallet_sign", message="x", name="old"))[1] == "wallet_locked"


async def test_message_is_signed_by_its_address_alone(site: Site) -> None:
    """Text and hex; another message, address or a cut signature do not hold."""
    made = await site.ask("wallet_sign", message="0x6869", hex=True)
    same = {"address": made["address"], "signature": made["signature"]}
    assert (await site.ask("wallet_verify", message="hi", **same))["valid"]
    for changed in (
        {"message": "hi\n"},
        {"address": ADDRESS},
        {"signature": made["signature"][:-2]},
        {"signature": "0x"},
    ):
        params = {"message": "hi", **same, **changed}
        assert not (await site.ask("wallet_verify", **params))["valid"]
    assert (await site.refused("wallet_sign", message="0xzz", hex=True))[1] == "invalid_params"


def test_message_is_no_vote_and_no_transaction() -> None:
    """What is signed has a length and a beginning of its own."""
    vote = statement(b"c" * 8, Kind.COMMIT, epoch=0, height=1, view=0, digest=bytes(32))
    said = message_statement(b"a" * 32, vote)
    assert len(said) == 71
    assert len(vote) == 62
    assert said.startswith(b"prsm1ms")
