"""The store of tokens: what counts, what ends, what a disk keeps."""

import base64
import json
import os
import stat
from pathlib import Path

import jwt
import msgspec
import pytest
import trio
import trio.testing

from prsm.node.callers.tokenkeys import KEYS_MAX, TokensDamaged
from prsm.node.callers.tokens import (
    KEPT_MS,
    TOKEN_CHARS_MAX,
    TOKENS_MAX,
    BadToken,
    Limits,
    Token,
    Tokens,
    TokenUnknown,
    TooManyTokens,
)
from prsm.node.clock import Clock
from prsm.node.rpc.errors import BadParams
from tests.tools.announced import SetClock

PLAIN = Token(id="", name="ci", scopes=("read",), created_ms=0)
KEY = "0x" + "ab" * 32


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def reopen(folder: Path, clock: Clock) -> Tokens:
    return Tokens.open(folder / "rpc.jwt", folder / "tokens.json", clock)


def with_end(ends_ms: int) -> Token:
    return msgspec.structs.replace(PLAIN, expires_ms=ends_ms)


async def test_a_token_names_its_record_also_after_a_restart(
    tmp_path: Path, clock: SetClock
) -> None:
    tokens = reopen(tmp_path, clock)
    limited = msgspec.structs.replace(
        PLAIN, tenant="lab", methods=("job_*",), spend_limit=5, daily_cap=2
    )
    made, text = await tokens.add(limited)
    for store in (tokens, tokens, reopen(tmp_path, clock)):
        assert store.verify(text) == made
        assert store.limits(made.id) == Limits(5, 2)
        assert store.is_live(made.id)
    assert tokens.limits("") == Limits()
    for name in ("rpc.jwt", "tokens.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert text not in (tmp_path / "tokens.json").read_text()


async def test_ended_and_revoked_tokens_are_refused_at_once(
    tmp_path: Path, clock: SetClock
) -> None:
    tokens = reopen(tmp_path, clock)
    _short, text = await tokens.add(with_end(clock.now_ms + 10))
    assert tokens.verify(text).name == "ci"
    clock.now_ms += 10
    with pytest.raises(BadToken, match="expired"):
        tokens.verify(text)
    made, other = await tokens.add(PLAIN)
    tokens.verify(other)
    told: list[str] = []
    tokens.on_revoked.append(told.append)
    assert await tokens.revoke(made.id) == (made.id,)
    assert told == [made.id]
    for store in (tokens, reopen(tmp_path, clock)):
        with pytest.raises(BadToken, match="revoked"):
            store.verify(other)


async def test_a_token_takes_its_children_along(tmp_path: Path, clock: SetClock) -> None:
    tokens = reopen(tmp_path, clock)
    parent, _ = await tokens.add(PLAIN)
    child, _ = await tokens.add(msgspec.structs.replace(PLAIN, made_by=parent.id))
    grandchild, text = await tokens.add(msgspec.structs.replace(PLAIN, made_by=child.id))
    stranger, _ = await tokens.add(PLAIN)
    assert await tokens.revoke(parent.id) == (parent.id, child.id, grandchild.id)
    with pytest.raises(BadToken, match="revoked"):
        tokens.verify(text)
    assert tokens.is_live(stranger.id)


def is_taken(tokens: Tokens, text: str) -> bool:
    try:
        tokens.verify(text)
    except BadToken:
        return False
    return True


def forged(text: str, folder: Path) -> dict[str, str]:
    """What an attacker makes of a token: by name."""
    head, body, mark = text.split(".")
    claims = jwt.decode(text, options={"verify_signature": False})
    kid = jwt.get_unverified_header(text)["kid"]
    other = jwt.encode(claims, b"\1" * 32, algorithm="HS256", headers={"kid": kid})
    plain = jwt.encode(claims, "", algorithm="none", headers={"kid": kid})
    secret = bytes.fromhex((folder / "rpc.jwt").read_text().split()[1])
    long = base64.urlsafe_b64encode(b"x" * TOKEN_CHARS_MAX).decode()
    return {
        "another key": other,
        "no algorithm": plain,
        "another algorithm": jwt.encode(
            claims, secret * 2, algorithm="HS512", headers={"kid": kid}
        ),
        "no key named": jwt.encode(claims, secret, algorithm="HS256"),
        "another issuer": jwt.encode(
            {**claims, "iss": "x"}, secret, algorithm="HS256", headers={"kid": kid}
        ),
        "no id": jwt.encode({"iss": "prsm"}, secret, algorithm="HS256", headers={"kid": kid}),
        "an unknown id": jwt.encode(
            {**claims, "jti": "tk-0"}, secret, algorithm="HS256", headers={"kid": kid}
        ),
        "a turned bit": f"{head}.{body}.{'A' if mark[0] != 'A' else 'B'}{mark[1:]}",
        "cut": text[:-5],
        "two parts": f"{head}.{body}",
        "empty": "",
        "dots": "..",
        "too long": f"{head}.{long}.{mark}",
        "no text": "\udcff.\udcff.\udcff",
        "no JSON": f"{base64.urlsafe_b64encode(b'[1]').decode().rstrip('=')}.{body}.{mark}",
        "deep": ".".join([base64.urlsafe_b64encode(b"[" * 2_000).decode(), body, mark]),
    }


async def test_forged_tokens_are_refused(tmp_path: Path, clock: SetClock) -> None:
    tokens = reopen(tmp_path, clock)
    _, text = await tokens.add(PLAIN)
    for how, bad in forged(text, tmp_path).items():
        for _ in range(2):  # the second time from what is known
            assert not is_taken(tokens, bad), how
    assert tokens.verify(text).name == "ci"


async def test_rotation_ends_old_tokens_after_their_grace(tmp_path: Path, clock: SetClock) -> None:
    tokens = reopen(tmp_path, clock)
    old, text = await tokens.add(PLAIN)
    keyed, _ = await tokens.add(msgspec.structs.replace(PLAIN, public_key=KEY))
    await tokens.rotate_key(1_000)
    _, fresh = await tokens.add(PLAIN)
    for store in (tokens, reopen(tmp_path, clock)):
        assert store.verify(text).name == "ci"
        assert store.verify(fresh).name == "ci"
    clock.now_ms += 1_000
    for store in (tokens, reopen(tmp_path, clock)):
        with pytest.raises(BadToken):
            store.verify(text)
        assert store.why_dead(old) == "rotated"
        assert store.verify(fresh).name == "ci"
        assert store.of_key(KEY) == keyed  # it never had a secret of ours
    await tokens.rotate_key(0)
    with pytest.raises(BadToken):
        tokens.verify(fresh)
    for _ in range(KEYS_MAX + 2):
        await tokens.rotate_key(60_000)
    assert len((tmp_path / "rpc.jwt").read_text().splitlines()) == KEYS_MAX


async def test_of_two_at_once_for_a_public_key_one_is_made(tmp_path: Path, clock: SetClock) -> None:
    """The place is taken where the record is kept: what was seen before may be over."""
    tokens = reopen(tmp_path, clock)
    ended: list[str] = []

    async def add(name: str) -> None:
        try:
            await tokens.add(msgspec.structs.replace(PLAIN, name=name, public_key=KEY))
            ended.append("made")
        except BadParams as error:
            ended.append(error.field)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(add, "a")
        nursery.start_soon(add, "b")
    assert sorted(ended) == ["made", "public_key"]
    await tokens.revoke(tokens.of_key(KEY).id)
    with pytest.raises(BadToken):
        tokens.of_key(KEY)


async def test_a_token_whose_maker_was_taken_back_meanwhile_is_not_made(
    tmp_path: Path, clock: SetClock
) -> None:
    """A call may be on its way when its token ends: what it makes would outlive the family."""
    tokens = reopen(tmp_path, clock)
    maker, _ = await tokens.add(PLAIN)
    child = msgspec.structs.replace(PLAIN, name="child", made_by=maker.id)
    ended: list[str] = []

    async def add() -> None:
        try:
            await tokens.add(child)
        except BadToken as error:
            ended.append(error.what)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tokens.revoke, maker.id)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(add)
    with pytest.raises(BadToken):
        await tokens.add(child)
    assert ended == ["the token is revoked"]
    assert [one.id for one in tokens.listed() if not tokens.why_dead(one)] == []


async def test_what_a_pruned_token_made_ends_with_its_makers_maker(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two between them ended with their key, and gave their places up: the family holds."""
    tokens = reopen(tmp_path, clock)
    eldest, _ = await tokens.add(msgspec.structs.replace(PLAIN, public_key="0x01"))
    maker = eldest.id
    for _ in range(2):
        maker = (await tokens.add(msgspec.structs.replace(PLAIN, made_by=maker)))[0].id
    child, _ = await tokens.add(msgspec.structs.replace(PLAIN, public_key=KEY, made_by=maker))
    await tokens.rotate_key(0)
    monkeypatch.setattr("prsm.node.callers.tokens.TOKENS_MAX", 4)
    await tokens.add(PLAIN)
    assert tokens.find(maker) is None
    again = reopen(tmp_path, clock)
    assert again.is_live(child.id)
    assert set(await again.revoke(eldest.id)) == {eldest.id, child.id}


async def test_a_public_key_has_the_rights_of_its_live_record(
    tmp_path: Path, clock: SetClock
) -> None:
    tokens = reopen(tmp_path, clock)
    with pytest.raises(BadToken, match="unknown"):
        tokens.of_key(KEY)
    first, text = await tokens.add(msgspec.structs.replace(PLAIN, public_key=KEY))
    assert text == ""
    await tokens.revoke(first.id)
    with pytest.raises(BadToken, match="revoked"):
        tokens.of_key(KEY)
    second, _ = await tokens.add(msgspec.structs.replace(PLAIN, public_key=KEY))
    assert tokens.of_key(KEY) == second


async def test_passing_tokens_stay_few_and_off_the_disk(tmp_path: Path, clock: SetClock) -> None:
    tokens = reopen(tmp_path, clock)
    passing = msgspec.structs.replace(PLAIN, is_kept=False)
    made = [(await tokens.add(passing))[0] for _ in range(40)]
    assert sum(tokens.is_live(one.id) for one in made) == 16
    assert tokens.is_live(made[-1].id)
    assert not (tmp_path / "tokens.json").exists()
    await tokens.add(PLAIN)
    assert [one.name for one in reopen(tmp_path, clock).listed()] == ["ci"]


async def test_places_are_bounded_and_ended_records_make_room(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prsm.node.callers.tokens.TOKENS_MAX", 3)
    tokens = reopen(tmp_path, clock)
    _, ending = (await tokens.add(PLAIN), await tokens.add(with_end(clock.now_ms + 5)))
    await tokens.add(PLAIN)
    with pytest.raises(TooManyTokens):
        await tokens.add(PLAIN)
    clock.now_ms += 5
    await tokens.add(PLAIN)
    assert tokens.find(ending[0].id) is None
    assert TOKENS_MAX == 1_000
    clock.now_ms += KEPT_MS + 5


async def test_what_the_disk_refused_did_not_happen(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = reopen(tmp_path, clock)
    made, text = await tokens.add(PLAIN)

    def full(_path: Path, _raw: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prsm.node.callers.tokens.write_private", full)
    monkeypatch.setattr("prsm.node.callers.tokenkeys.write_private", full)
    with pytest.raises(OSError, match="No space"):
        await tokens.add(PLAIN)
    with pytest.raises(OSError, match="No space"):
        await tokens.revoke(made.id)
    with pytest.raises(OSError, match="No space"):
        await tokens.rotate_key(0)
    assert [one.id for one in tokens.listed()] == [made.id]
    assert tokens.verify(text) == made


async def test_ids_are_found_by_their_beginning_and_tenants_see_their_own(
    tmp_path: Path, clock: SetClock
) -> None:
    tokens = reopen(tmp_path, clock)
    ours, _ = await tokens.add(msgspec.structs.replace(PLAIN, tenant="a"))
    theirs, _ = await tokens.add(msgspec.structs.replace(PLAIN, tenant="b"))
    assert tokens.resolve(ours.id[:-1]) == ours
    assert tokens.listed("b") == [theirs]
    for prefix, tenant in (("tk-", ""), (ours.id, "b"), ("tk-zz", "")):
        with pytest.raises(TokenUnknown):
            tokens.resolve(prefix, tenant)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b"[]", b'{"tokens":[],"version":2}', b'{"tokens":[{"id":1}]}'],
)
def test_a_damaged_file_stops_the_start(tmp_path: Path, clock: SetClock, raw: bytes) -> None:
    (tmp_path / "tokens.json").write_bytes(raw)
    with pytest.raises(TokensDamaged):
        reopen(tmp_path, clock)


@pytest.mark.parametrize(
    "text",
    ["", "x", "a zz 0\n", f"a {'00' * 16} 0\n", f"a {'00' * 32} 5\n", f"a {'00' * 32} 0\n" * 2],
)
def test_a_damaged_key_file_stops_the_start(tmp_path: Path, clock: SetClock, text: str) -> None:
    path = tmp_path / "rpc.jwt"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(TokensDamaged):
        reopen(tmp_path, clock)
    path.write_text(f"a {'00' * 32} 0\n")
    os.chmod(path, 0o644)  # noqa: PTH101 - as an operator does
    with pytest.raises(TokensDamaged, match="0644"):
        reopen(tmp_path, clock)


async def test_the_file_is_plain_json_of_records(tmp_path: Path, clock: SetClock) -> None:
    tokens = reopen(tmp_path, clock)
    made, _ = await tokens.add(PLAIN)
    document = json.loads((tmp_path / "tokens.json").read_bytes())
    assert document["version"] == 1
    assert document["tokens"][0]["id"] == made.id
