"""Logging in at a provider of identities: a real HTTP one on loopback, a node's real door."""

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from prsm.node.clock import utc_text
from prsm.node.config.login import LoginConfig
from prsm.node.rpc.dispatch import Dispatcher
from prsm.node.rpc.errors import CallError
from prsm.node.web import device_provider
from prsm.node.web.app import Pages
from prsm.node.web.device import (
    LOGINS_MAX,
    Begun,
    DeviceLogins,
    Poll,
    ProviderDown,
    Waiting,
    device_routes,
)
from prsm.node.web.device_provider import HttpProvider
from prsm.node.web.serve import Door
from tests.tools.announced import SetClock
from tests.tools.identity import Identity, serve_identity
from tests.tools.rpc_door import Answer, OpenDoor, exchange, open_door, request

USERS = ("ada=user@lab", "bob@lab.example=observer")


@dataclass
class World:
    """A node and the provider it trusts."""

    door: OpenDoor
    identity: Identity
    clock: SetClock

    async def post(self, path: str, **fields: object) -> Answer:
        body = json.dumps(fields).encode()
        headers: dict[str, str | None] = {"Host": self.door.bound.http}
        return await exchange(await self.door.tcp(), request(path=path, body=body, headers=headers))

    async def begin(self) -> Any:  # noqa: ANN401 - any JSON
        answer = await self.post("/login/device")
        assert answer.status == 200, answer
        return answer.json

    async def poll(self, begun: Any, *, after_s: int = 5) -> Answer:  # noqa: ANN401 - any JSON
        self.clock.now_ms += after_s * 1000
        return await self.post("/login/device/poll", id=begun["id"])


@dataclass
class SlowProvider:
    """A fake that answers once it may, or is down by then."""

    asked: int = 0
    polls: int = 0
    is_down: bool = False
    go: trio.Event = field(default_factory=trio.Event)

    async def begin(self) -> Begun:
        self.asked += 1
        await self.go.wait()
        if self.is_down:
            raise ProviderDown("down")
        return Begun("code", "WDJB-MJHT", "https://login.lab.example", "", 900, 5)

    async def poll(self, _device_code: str) -> Poll:
        self.polls += 1
        return Poll(Waiting.PENDING)


@asynccontextmanager
async def open_world(folder: Path, claim: str = "sub", secret: str = "") -> AsyncIterator[World]:
    """The tokens of a door exist once it is open, so its logins are made with the first request."""
    with serve_identity() as identity:
        login = LoginConfig(
            issuer=identity.url, client_id="node-1", users=USERS, claim=claim, ttl_s=600
        )
        tokens: list[DeviceLogins] = []

        def take(door: Door) -> Door:
            assert door.tokens is not None
            provider = HttpProvider(login, secret)
            tokens.append(DeviceLogins(provider, door.tokens, clock, login))
            return door

        clock = SetClock()

        def pages(_dispatcher: Dispatcher) -> Pages:
            return lambda gate: device_routes(gate, tokens[0])

        async with open_door(folder, pages=pages, change=take) as door:
            clock.now_ms = door.clock.now_ms
            yield World(door, identity, clock)


async def test_a_person_the_list_knows_gets_a_token_once(tmp_path: Path) -> None:
    async with open_world(tmp_path, secret="s3cret-of-the-client") as world:
        begun = await world.begin()
        assert begun["user_code"] == "WDJB-MJHT"
        assert "device_code" not in begun
        assert (await world.poll(begun)).json["state"] == "pending"
        world.identity.claims = {"sub": "ada"}
        done = (await world.poll(begun)).json
        assert (done["state"], done["name"]) == ("done", "login ada")
        assert done["scopes"] == ["read", "write", "sign"]
        token = world.door.tokens.verify(done["token"])
        assert (token.role, token.tenant) == ("user", "lab")
        assert token.expires_ms is not None
        assert (await world.poll(begun)).status == 401  # an id counts once
        forms = [form for path, form in world.identity.asked if path in {"/device", "/token"}]
        assert {form["client_secret"] for form in forms} == {"s3cret-of-the-client"}
        assert {form["client_id"] for form in forms} == {"node-1"}


async def test_whom_the_list_does_not_know_gets_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        for claims in ({"sub": "eve"}, {}, {"sub": None}, {"email": "ada"}, {"sub": "ada=user"}):
            begun = await world.begin()
            world.identity.claims = claims
            answer = await world.poll(begun)
            assert (answer.status, answer.json["error"]["code"]) == (401, -32001), claims
            world.identity.claims = None
        assert world.door.tokens.listed() == []


async def test_an_address_counts_only_if_the_provider_checked_it(tmp_path: Path) -> None:
    async with open_world(tmp_path, claim="email") as world:
        for checked, status in ((None, 401), (False, 401), ("true", 401), (True, 200)):
            begun = await world.begin()
            world.identity.claims = {"email": "bob@lab.example", "email_verified": checked}
            assert (await world.poll(begun)).status == status, checked
            world.identity.claims = None


async def test_the_provider_is_asked_no_oftener_than_it_allows(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        begun = await world.begin()
        before = len(world.identity.asked)
        for _ in range(5):
            assert (await world.poll(begun, after_s=0)).json["state"] == "pending"
        assert len(world.identity.asked) == before
        world.identity.error = "slow_down"
        assert (await world.poll(begun)).json["interval_s"] == 10
        assert len(world.identity.asked) == before + 1
        await world.poll(begun, after_s=9)
        assert len(world.identity.asked) == before + 1


@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_client", "server"])
async def test_a_refused_login_is_over(tmp_path: Path, error: str) -> None:
    async with open_world(tmp_path) as world:
        begun = await world.begin()
        world.identity.error = error
        assert (await world.poll(begun)).status == 401
        world.identity.claims = {"sub": "ada"}
        assert (await world.poll(begun)).status == 401


async def test_a_login_ends_and_places_are_bounded(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        begun = [await world.begin() for _ in range(LOGINS_MAX)]
        full = await world.post("/login/device")
        assert (full.status, full.json["error"]["code"]) == (429, -32005)
        assert full.headers["retry-after"] == "60"
        world.identity.claims = {"sub": "ada"}
        assert (await world.poll(begun[0], after_s=900)).status == 401
        await world.begin()


async def test_places_are_bounded_for_logins_that_begin_at_once(tmp_path: Path) -> None:
    """While the provider is asked others ask us: each takes its place before."""
    provider, told = SlowProvider(), list[str]()

    async with open_door(tmp_path) as door:
        logins = DeviceLogins(provider, door.tokens, door.clock, LoginConfig(users=USERS))

        async def begin() -> None:
            try:
                told.append((await logins.begin()).user_code)
            except CallError as error:
                told.append(error.reason)

        async with trio.open_nursery() as nursery:
            for _ in range(LOGINS_MAX + 5):
                nursery.start_soon(begin)
            await trio.testing.wait_all_tasks_blocked()
            assert (provider.asked, told) == (LOGINS_MAX, ["rate_limited"] * 5)
            provider.is_down = True
            provider.go.set()
        provider.is_down = False
        assert (await logins.begin()).user_code == "WDJB-MJHT"  # what failed has no place


async def test_a_login_counts_from_the_providers_answer(tmp_path: Path) -> None:
    """Logins wait for one another; its interval and end count from there."""
    provider, told = SlowProvider(), list[str]()

    async with open_door(tmp_path) as door:
        logins = DeviceLogins(provider, door.tokens, door.clock, LoginConfig(users=USERS))

        async def begin() -> None:
            begun = await logins.begin()
            told.append(begun.expires)
            await logins.poll(begun.id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            await trio.testing.wait_all_tasks_blocked()
            door.clock.now_ms += 60_000
            provider.go.set()
        assert told == [utc_text(door.clock.now_ms + 900_000)]
        assert provider.polls == 0


async def test_a_provider_that_hangs_takes_no_thread_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Strangers begin logins; in the threads of others the node writes its files."""
    go = threading.Event()

    def hang(*_asked: object) -> bytes:
        go.wait(10)
        return b"{}"

    monkeypatch.setattr(device_provider, "_ask", hang)
    provider = HttpProvider(LoginConfig(issuer="https://login.lab.example"), "")

    async def begin() -> None:
        with pytest.raises(ProviderDown):
            await provider.begin()

    async with trio.open_nursery() as nursery:
        for _ in range(LOGINS_MAX):
            nursery.start_soon(begin)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        go.set()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/.well-known/openid-configuration", (500, b"{}", {})),
        ("/.well-known/openid-configuration", (200, b"[]", {})),
        ("/.well-known/openid-configuration", (302, b"", {"Location": "http://127.0.0.1:1/"})),
        ("/.well-known/openid-configuration", (200, b'{"issuer": "https://evil.test"}', {})),
        (
            "/.well-known/openid-configuration",
            (
                200,
                json.dumps(
                    {
                        "issuer": "ISSUER",
                        "device_authorization_endpoint": "http://evil.test/device",
                        "token_endpoint": "ISSUER/token",
                        "userinfo_endpoint": "ISSUER/me",
                    }
                ).encode(),
                {},
            ),
        ),
        ("/device", (200, b"x" * 300_000, {})),
        ("/device", (200, b'{"user_code": 1}', {})),
        ("/device", (200, b"[" * 100_000, {})),
    ],
)
async def test_a_provider_out_of_its_role_is_named(
    tmp_path: Path, path: str, answer: tuple[int, bytes, dict[str, str]]
) -> None:
    async with open_world(tmp_path) as world:
        status, body, headers = answer
        url = world.identity.url.encode()
        world.identity.odd[path] = (status, body.replace(b"ISSUER", url), headers)
        found = await world.post("/login/device")
        assert (found.status, found.json["error"]["data"]["reason"]) == (
            *(503, "provider_unreachable"),
        )
        world.identity.odd.clear()
        await world.begin()


async def test_a_provider_that_is_away_costs_the_login_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        begun = await world.begin()
        world.identity.odd["/token"] = (502, b"", {})
        assert (await world.poll(begun)).status == 503
        world.identity.odd.clear()
        world.identity.claims = {"sub": "ada"}
        assert (await world.poll(begun)).json["state"] == "done"


async def test_other_requests_are_refused(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        for fields in ({}, {"id": 1}, {"id": "x", "more": 1}):
            assert (await world.post("/login/device/poll", **fields)).status == 400
        assert (await world.post("/login/device/poll", id="unknown")).status == 401
    async with open_door(
        tmp_path / "none", pages=lambda _: lambda gate: device_routes(gate, None)
    ) as door:
        raw = request(path="/login/device", body=b"{}", headers={"Host": door.bound.http})
        found = await exchange(await door.tcp(), raw)
        assert (found.status, found.json["error"]["code"]) == (503, -32007)
