"""Host x Origin x verb x type x token x page: nothing changes but for the one right request.

Each request asks for what administers the node. RELIABILITY: a page of another site, a program of
this machine without a token, and a holder of a lesser token are the three who must not.
"""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import pytest
import trio.testing

from tests.tools.asgi_door import COOKIE, HOST, AsgiDoor, Header, call_of, open_asgi, token_of

STOP: Final = call_of("node_stop")
HOSTS: Final = (HOST, "localhost:8480", "evil.test:8480", "127.0.0.1", None)
ORIGINS: Final = (None, f"http://{HOST}", "http://evil.test", "null", f"https://{HOST}")
VERBS: Final = ("POST", "GET", "PUT", "OPTIONS", "DELETE", "HEAD")
KINDS: Final = ("application/json", "text/plain", "application/x-www-form-urlencoded", None)
SITES: Final = (None, "cross-site")
# page -> what would change something there
PAGES: Final = {
    "/rpc": STOP,
    "/": STOP,
    "/rpc?x=1": STOP,
    "/login": json.dumps({"code": "0" * 32}).encode(),
    "/v1/completions": json.dumps({"model": "m", "prompt": "p", "max_tokens": 1}).encode(),
    "/v1/embeddings": json.dumps({"model": "m", "input": "p"}).encode(),
}


@dataclass(frozen=True)
class Shown:
    """A way to say who asks, and whether it has the rights."""

    name: str
    headers: tuple[Header, ...]
    may: bool


async def shown_of(door: AsgiDoor) -> list[Shown]:
    """Every way a request may say who it is."""
    gone = await token_of(door, "read", "write", "sign", "admin")
    await door.tokens.revoke(door.tokens.verify(gone).id)
    texts = {
        "admin token": (await token_of(door, "read", "write", "sign", "admin"), True),
        "cookie": (COOKIE, True),
        "reader": (await token_of(door, "read"), False),
        "revoked": (gone, False),
        "expired": (
            await token_of(door, "read", "write", "admin", expires_ms=door.clock.now_ms),
            False,
        ),
        "wrong": ("0" * 64, False),
    }
    found = [
        Shown(name, (("Authorization", f"Bearer {text}"),), may)
        for name, (text, may) in texts.items()
    ]
    return [
        *found,
        Shown("none", (), False),
        Shown("basic", (("Authorization", f"Basic {COOKIE}"),), False),
        Shown("http cookie", (("Cookie", f"token={COOKIE}"),), False),
        Shown("twice", (("Authorization", f"Bearer {COOKIE}"),) * 2, False),
        Shown("signature", (("Signature", "prsm=:x:"), ("Signature-Input", "prsm=()")), False),
    ]


def fields(
    host: str | None, origin: str | None, kind: str | None, site: str | None, shown: Shown
) -> list[Header]:
    given = (("Host", host), ("Origin", origin), ("Content-Type", kind), ("Sec-Fetch-Site", site))
    return [*((name, value) for name, value in given if value is not None), *shown.headers]


def is_right(
    host: str | None, origin: str | None, verb: str, kind: str | None, site: str | None
) -> bool:
    own = host in HOSTS[:2] and origin in ORIGINS[:2] and site is None
    return own and verb == "POST" and kind == "application/json"


async def walk(door: AsgiDoor, step: int) -> Counter[str]:
    """Every `step`-th combination; what was seen, by name."""
    seen: Counter[str] = Counter()
    ways = await shown_of(door)
    every = product(PAGES, HOSTS, ORIGINS, VERBS, KINDS, SITES, ways)
    for number, (page, host, origin, verb, kind, site, shown) in enumerate(every):
        if number % step:
            continue
        place = (page, host, origin, verb, kind, site, shown.name)
        status, headers = await door.http(
            verb, page, fields(host, origin, kind, site, shown), PAGES[page]
        )
        changed = bool(door.changes())
        right = is_right(host, origin, verb, kind, site) and shown.may
        assert changed <= right, place
        assert status < 500, (place, status)
        assert not any(name.startswith("access-control-") for name in headers), place
        assert "set-cookie" not in headers, place
        assert not (verb == "OPTIONS" and status < 300), place
        if right and page in {"/rpc", "/", "/rpc?x=1"}:
            assert changed, place
        seen["asked"] += 1
        seen["changed"] += changed
    return seen


async def test_some_of_all_requests_change_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Each 37th of 79,200; bad tokens cost a second each, of a clock that jumps."""
    del autojump_clock
    async with open_asgi(tmp_path) as door:
        seen = await walk(door, 37)
        assert seen["asked"] >= 2_000
        assert seen["changed"] > 0


@pytest.mark.long
async def test_all_requests_change_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    async with open_asgi(tmp_path) as door:
        seen = await walk(door, 1)
        assert (seen["asked"], seen["changed"]) == (79_200, 40)  # 5 pages, 8 right ways


@pytest.mark.parametrize("first", ["header", "rpc_login", "nothing"])
async def test_websockets_change_nothing_without_the_token(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, first: str
) -> None:
    """Host x Origin x site x token, by the handshake's header or the first frame."""
    del autojump_clock
    asked = 0
    async with open_asgi(tmp_path) as door:
        for host, origin, site, shown in product(
            HOSTS, ORIGINS, SITES, [one for one in await shown_of(door) if one.name != "signature"]
        ):
            bearer = dict(shown.headers).get("Authorization", "")
            frames = [STOP.decode()]
            if first == "rpc_login":
                login = call_of("rpc_login", token=bearer.removeprefix("Bearer "))
                frames = [login.decode(), *frames]
            way = shown if first == "header" else Shown("none", (), False)
            sent = await door.websocket(fields(host, origin, None, site, way), frames)
            own = host in HOSTS[:2] and origin in ORIGINS[:2] and site is None
            may = shown.may and first != "nothing"
            if first == "rpc_login" and shown.name == "twice":
                may = True  # a frame carries one token
            place = (host, origin, site, shown.name)
            assert bool(door.changes()) == (own and may), place
            assert any(one["type"] == "websocket.accept" for one in sent) <= own, place
            asked += 1
    assert asked == 500
