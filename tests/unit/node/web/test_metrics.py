"""Who may read /metrics, and how often it is written."""

from typing import Any

import pytest
import trio
import trio.testing
from starlette.routing import Route
from starlette.types import Message, Scope
from typing_extensions import override

from prsm.node.telemetry.metrics import Metrics
from prsm.node.web.auth import Gate
from prsm.node.web.metrics import metrics_pages

COOKIE = "ab" * 32


async def ask(
    route: Route, *, client: str = "127.0.0.1", verb: str = "GET", **headers: str
) -> tuple[int, bytes]:
    sent: list[Message] = []

    async def receive() -> Message:
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": verb,
        "path": "/metrics",
        "client": (client, 1),
        "headers": [
            (name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()
        ],
        "state": {"trace_id": "t"},
    }
    endpoint: Any = route.endpoint
    await endpoint(scope, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])


@pytest.fixture
def route() -> Route:
    written = iter(range(1, 100))

    class Counting(Metrics):
        @override
        def render(self) -> bytes:
            return f"prsm_x {next(written)}\n".encode()

    (found,) = metrics_pages(Counting(), Gate(COOKIE))
    assert isinstance(found, Route)
    return found


async def test_programs_of_this_machine_read_without_a_token(route: Route) -> None:
    assert await ask(route) == (200, b"prsm_x 1\n")
    assert await ask(route, client="::1") == (200, b"prsm_x 1\n")
    mapped = "::ffff:127.0.0.1"  # as it comes to a socket of both families
    assert await ask(route, client=mapped) == (200, b"prsm_x 1\n")


async def test_others_show_a_token(route: Route) -> None:
    for client in ("192.0.2.7", "::ffff:192.0.2.7", "fe80::1%eth0"):
        assert (await ask(route, client=client))[0] == 401
    assert (await ask(route, client="192.0.2.7", authorization=f"Bearer {COOKIE}"))[0] == 200
    assert (await ask(route, x_forwarded_for="192.0.2.7"))[0] == 401, "a proxy of this machine"
    assert (await ask(route, authorization="Bearer wrong"))[0] == 401, "a bad one counts as bad"


async def test_only_get_is_taken(route: Route) -> None:
    assert (await ask(route, verb="POST"))[0] == 405


async def test_it_is_written_once_a_second_at_most(
    route: Route,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 - it moves the time
) -> None:
    first = await ask(route)
    assert await ask(route) == first
    await trio.sleep(1.1)
    assert (await ask(route))[1] == b"prsm_x 2\n"
