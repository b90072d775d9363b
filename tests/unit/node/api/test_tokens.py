"""token_: nobody hands out more than they have."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from prsm.node.api.logins import CODE_MS, LOGIN_MS, Logins
from prsm.node.api.tokens import TokensApi
from prsm.node.callers.tokens import Tokens
from prsm.node.rpc.dispatch import Dispatcher, bind
from prsm.node.rpc.methods.tokens import METHODS
from prsm.node.rpc.spec import ALL_SCOPES, Caller, Scope, table
from tests.tools.announced import SetClock

OWNER = Caller("cookie", ALL_SCOPES, "t")


@dataclass
class Shop:
    """The handlers alone."""

    tokens: Tokens
    logins: Logins
    clock: SetClock
    dispatcher: Dispatcher

    async def say(self, caller: Caller, method: str, **params: object) -> Any:  # noqa: ANN401 - any JSON
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = await self.dispatcher.answer(json.dumps(call).encode(), caller)
        assert reply is not None
        return json.loads(reply)

    async def ask(self, method: str, caller: Caller = OWNER, **params: object) -> Any:  # noqa: ANN401 - any JSON
        answer = await self.say(caller, method, **params)
        assert "result" in answer, answer
        return answer["result"]

    async def refused(self, method: str, caller: Caller = OWNER, **params: object) -> str:
        return str((await self.say(caller, method, **params))["error"]["data"]["reason"])

    def holder(self, made: Mapping[str, str]) -> Caller:
        """Who comes with a token that was made."""
        token = self.tokens.verify(made["token"])
        return Caller(
            f"token {token.name}",
            frozenset(map(Scope, token.scopes)),
            tenant=token.tenant,
            methods=token.methods,
            token_id=token.id,
        )


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    clock = SetClock()
    tokens = Tokens.open(tmp_path / "rpc.jwt", tmp_path / "tokens.json", clock)
    logins = Logins(tokens, clock)
    handlers = TokensApi(tokens, logins, clock, lambda: "http://127.0.0.1:1").handlers()
    return Shop(tokens, logins, clock, bind(handlers, methods=table(METHODS)))


async def test_roles_are_sets_of_scopes(shop: Shop) -> None:
    wanted = {
        "admin": ["read", "write", "sign", "admin"],
        "operator": ["read", "write", "admin"],
        "user": ["read", "write", "sign"],
        "observer": ["read"],
    }
    for role, scopes in wanted.items():
        made = await shop.ask("token_create", name="n", role=role)
        assert made["scopes"] == scopes
    made = await shop.ask("token_create", name="n", scopes=["sign"])
    assert made["scopes"] == ["read", "sign"]
    for bad in ({}, {"role": "user", "scopes": ["read"]}, {"role": "king"}, {"scopes": ["all"]}):
        assert await shop.refused("token_create", name="n", **bad) == "invalid_params"


async def test_a_token_is_listed_without_its_secret_and_taken_back(shop: Shop) -> None:
    made = await shop.ask(
        *("token_create",), name="ci", role="user", tenant="lab", methods=["job_*"], spend_limit="7"
    )
    (row,) = (await shop.ask("token_list"))["items"]
    assert (row["id"], row["state"], row["tenant"], row["methods"], row["spend_limit"]) == (
        *(made["id"], "live", "lab", ["job_*"], "7"),
    )
    assert made["token"] not in json.dumps(row)
    assert await shop.refused("token_whoami", shop.holder(made)) == "forbidden"  # job_* only
    assert (await shop.ask("token_revoke", id=row["id"]))["ids"] == [row["id"]]
    assert (await shop.ask("token_list"))["items"][0]["state"] == "revoked"
    assert await shop.refused("token_revoke", id="tk-none") == "token_not_found"


async def test_who_am_i(shop: Shop) -> None:
    me = await shop.ask("token_whoami")
    assert (me["name"], me["scopes"], me["token_id"], me["expires"]) == (
        *("cookie", ["read", "write", "sign", "admin"], "", None),
    )
    made = await shop.ask("token_create", name="ci", role="user", daily_cap="9", ttl_s=60)
    me = await shop.ask("token_whoami", shop.holder(made))
    assert (me["name"], me["token_id"], me["daily_cap"]) == ("token ci", made["id"], "9")
    assert me["expires"] == made["expires"]
    made = await shop.ask("token_create", name="ci", role="user", ttl_s=None)
    assert (await shop.ask("token_whoami", shop.holder(made)))["expires"] is None


async def test_pages_of_tokens(shop: Shop) -> None:
    for name in "abc":
        await shop.ask("token_create", name=name, role="observer")
        shop.clock.now_ms += 1
    first = await shop.ask("token_list", limit=2)
    rest = await shop.ask("token_list", limit=2, cursor=first["next_cursor"])
    assert [row["name"] for row in (*first["items"], *rest["items"])] == ["a", "b", "c"]
    assert rest["next_cursor"] is None


async def test_nobody_hands_out_more_than_they_have(shop: Shop) -> None:
    """Scopes, time, tenant; and one that is bound to methods or a budget hands out nothing."""
    unix = replace(OWNER, scopes=ALL_SCOPES - {Scope.SIGN})
    assert await shop.refused("token_create", unix, name="n", role="user") == "forbidden"
    made = await shop.ask("token_create", unix, name="boss", role="operator", ttl_s=100)
    boss = shop.holder(made)
    assert await shop.refused("token_create", boss, name="n", role="admin") == "forbidden"
    child = await shop.ask("token_create", boss, name="n", role="observer", ttl_s=None)
    assert child["expires"] == made["expires"]  # never after its maker
    await shop.ask("token_revoke", id=made["id"])
    assert not shop.tokens.is_live(child["id"])
    lab = shop.holder(await shop.ask("token_create", name="lab", role="admin", tenant="lab"))
    assert await shop.refused("token_create", lab, name="n", role="user", tenant="x") == "forbidden"
    assert (await shop.ask("token_create", lab, name="n", role="user"))["tenant"] == "lab"
    assert {row["tenant"] for row in (await shop.ask("token_list", lab))["items"]} == {"lab"}
    assert await shop.refused("token_rotateKey", lab) == "forbidden"
    assert await shop.refused("token_revoke", lab, id=child["id"]) == "token_not_found"
    for bound in ({"methods": ["token_*"]}, {"spend_limit": "5"}, {"daily_cap": "5"}):
        limited = shop.holder(await shop.ask("token_create", name="n", role="admin", **bound))
        assert await shop.refused("token_create", limited, name="n", role="user") == "forbidden"
    reader = shop.holder(await shop.ask("token_create", name="n", role="observer"))
    for method in ("token_list", "token_rotateKey"):
        assert await shop.refused(method, reader) == "forbidden"


async def test_one_live_token_for_a_public_key(shop: Shop) -> None:
    key = "0x" + "cd" * 32
    made = await shop.ask("token_create", name="node", role="observer", public_key=key)
    assert made["token"] == ""
    again: dict[str, Any] = {"name": "node", "role": "observer", "public_key": key}
    assert await shop.refused("token_create", **again) == "invalid_params"
    await shop.ask("token_revoke", id=made["id"])
    await shop.ask("token_create", **again)


async def test_rotation_says_how_many_end(shop: Shop) -> None:
    made = await shop.ask("token_create", name="ci", role="user")
    done = await shop.ask("token_rotateKey", grace_s=60)
    assert done["ending"] == 1
    assert shop.tokens.is_live(made["id"])
    shop.clock.now_ms += 60_000
    assert (await shop.ask("token_list"))["items"][0]["state"] == "rotated"


async def test_a_code_buys_one_reading_token_within_a_minute(shop: Shop) -> None:
    login = await shop.ask("token_createLogin")
    assert login["url"] == f"http://127.0.0.1:1/#login={login['code']}"
    found = await shop.logins.redeem(login["code"])
    assert found is not None
    token, text = found
    assert (token.scopes, token.expires_ms) == (("read",), shop.clock.now_ms + LOGIN_MS)
    assert shop.tokens.verify(text) == token
    assert await shop.logins.redeem(login["code"]) is None
    late = await shop.ask("token_createLogin")
    shop.clock.now_ms += CODE_MS
    assert await shop.logins.redeem(late["code"]) is None
    assert await shop.logins.redeem("") is None
    codes = [(await shop.ask("token_createLogin"))["code"] for _ in range(65)]
    assert await shop.logins.redeem(codes[0]) is None
    assert await shop.logins.redeem(codes[-1]) is not None


async def test_a_code_of_a_token_gives_its_rights_and_ends_with_it(shop: Shop) -> None:
    made = await shop.ask(
        *("token_create",), name="n", role="user", tenant="lab", ttl_s=9, methods=["token_*"]
    )
    holder = shop.holder(made)
    first = await shop.ask("token_createLogin", holder)
    found = await shop.logins.redeem(first["code"])
    assert found is not None
    token, _ = found
    assert (token.tenant, token.methods, token.made_by) == ("lab", ("token_*",), made["id"])
    assert token.expires_ms == shop.clock.now_ms + 9_000
    second = await shop.ask("token_createLogin", holder)
    await shop.ask("token_revoke", id=made["id"])
    assert await shop.logins.redeem(second["code"]) is None
    assert not shop.tokens.is_live(token.id)


async def test_a_token_of_a_login_opens_no_other_dashboard(shop: Shop) -> None:
    """It may be put out for newer ones: what it made would be nobody's, and in no bound."""
    made = await shop.ask("token_create", name="n", role="observer")
    login = await shop.ask("token_createLogin", shop.holder(made))
    found = await shop.logins.redeem(login["code"])
    assert found is not None
    token, text = found
    page = shop.holder({"token": text})
    assert await shop.refused("token_createLogin", page) == "forbidden"
    assert {one.id for one in shop.tokens.listed()} == {made["id"], token.id}
