"""The layers of a node's own door, as `open_entrance` joins them; rooms and sockets are none."""

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from prsm.node import entrance
from prsm.node.callers.tokens import Token, Tokens
from prsm.node.certificate import read_end_s
from prsm.node.config.load import load
from prsm.node.home import Home
from prsm.node.net.interface import Busy
from prsm.node.rpc.dispatch import Dispatcher
from prsm.node.rpc.methods.subscriptions import TOPICS
from prsm.node.rpc.spec import ALL_SCOPES, Caller
from prsm.node.telemetry.events import Events
from prsm.node.telemetry.metrics import Metrics
from prsm.node.web.serve import Bound, Door
from prsm.node.work.workshop import Opened, Workshop
from tests.tools.certificates import write_certificate
from tests.tools.clocks import SetClock
from tests.tools.rpc_node import FakeNode


@dataclass
class _Entrance:
    """What `open_entrance` gave its door, and the node behind it."""

    dispatcher: Dispatcher
    tokens: Tokens
    node: FakeNode

    async def told(self, caller: Caller, key: str) -> str:
        """Why a transfer with that key is refused; empty for one that is not."""
        params = {"to": "0x" + "00" * 32, "amount": "5", "idempotency_key": key}
        call = {"jsonrpc": "2.0", "id": 1, "method": "wallet_transfer", "params": params}
        answer = json.loads(await self.dispatcher.answer(json.dumps(call).encode(), caller) or b"")
        return str(answer["error"]["data"]["reason"]) if "error" in answer else ""


@asynccontextmanager
async def _open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[_Entrance]:
    node, made = FakeNode(), list[tuple[Dispatcher, Door]]()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.lowlevel.checkpoint()
        task_status.started()

    async def serve(
        dispatcher: Dispatcher, *, door: Door, task_status: trio.TaskStatus[Bound], **_more: object
    ) -> None:
        await trio.lowlevel.checkpoint()
        made.append((dispatcher, door))
        task_status.started(Bound(door.host, 1, None))

    async def open_books(*_rooms: object) -> object:
        await trio.lowlevel.checkpoint()
        refusals = SimpleNamespace(note=lambda _method, _caller: None)
        return SimpleNamespace(run=run, handlers=dict, layers=(), refusals=refusals)

    firing = SimpleNamespace(firing={})
    measures = SimpleNamespace(run=run, metrics=Metrics(), alerts=firing)
    for name, stand_in in (
        ("NodeApi", lambda _parts: SimpleNamespace(firing=None, why_not_ready=str)),
        ("Measures", lambda *_rooms: measures),
        ("_handlers", lambda *_rooms: node.handlers()),
        ("load_seed", lambda _path: bytes(32)),
        ("open_books", open_books),
        ("serve", serve),
    ):
        monkeypatch.setattr(entrance, name, stand_in)
    home = Home(folder / "home")
    home.create()
    opened = SimpleNamespace(
        start=SimpleNamespace(home=home, config=load(None).config),
        chain=SimpleNamespace(driver=SimpleNamespace(clock=SetClock())),
        genesis=None,
        network=None,
    )
    work = SimpleNamespace(
        **dict.fromkeys(("models", "jobs", "hands")),
        wallets=SimpleNamespace(run=run),
        feed=SimpleNamespace(events=Events(TOPICS)),
    )
    async with trio.open_nursery() as nursery:
        rooms = cast("Opened", opened), cast("Workshop", work)  # of both the door needs little
        await entrance.open_entrance(*rooms, nursery, nursery.cancel_scope.cancel)
        ((dispatcher, door),) = made
        assert door.tokens is not None
        yield _Entrance(dispatcher, door.tokens, node)
        nursery.cancel_scope.cancel()


async def test_a_token_is_looked_at_before_a_wait_for_its_key_and_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken back while a call waits for the one before: neither that one counts, nor an old key."""
    came, go, told = trio.Event(), trio.Event(), list[str]()

    async def wait() -> None:
        came.set()
        await go.wait()
        raise Busy("try again", retry_after_ms=1)

    async with _open(tmp_path, monkeypatch) as door:
        plain = Token(id="", name="t", scopes=("sign",), created_ms=0)
        made, _ = await door.tokens.add(plain)
        ask: Any = functools.partial(door.told, Caller("token t", ALL_SCOPES, token_id=made.id))

        async def hear() -> None:
            told.append(await ask("second"))

        assert await ask("first") == ""
        door.node.before["wallet_transfer"] = wait
        async with trio.open_nursery() as both:
            both.start_soon(hear)
            both.start_soon(hear)
            await came.wait()
            await trio.testing.wait_all_tasks_blocked()
            await door.tokens.revoke(made.id)
            go.set()
        assert told == ["busy", "unauthorised"]
        assert await ask("first") == "unauthorised"  # not told what it was told before
        assert len(door.node.calls) == 2


def test_a_door_with_tls_tells_how_long_its_certificate_is_good(tmp_path: Path) -> None:
    def begin(cert: str) -> Metrics:
        home = Home(tmp_path)
        environ = {"PRSM_RPC__TLS_CERT": cert, "PRSM_RPC__TLS_KEY": cert and "node.key"}
        config = load(None, environ=environ).config
        opened = SimpleNamespace(
            start=SimpleNamespace(home=home, config=config),
            chain=SimpleNamespace(driver=SimpleNamespace(clock=clock)),
        )
        numbers = Metrics()
        assert (entrance._tls(cast("Opened", opened), numbers) is None) == (not cert)
        return numbers

    clock = SetClock()
    write_certificate(tmp_path)
    end_s = read_end_s(tmp_path / "node.pem")
    numbers = begin("node.pem")
    for left_s in (600, -5):
        clock.now_ms = round((end_s - left_s) * 1000)
        numbers.refresh()
        assert numbers.value("prsm_rpc_certificate_left_seconds") == pytest.approx(left_s)
    assert b"prsm_rpc_certificate_left_seconds -5.0" in numbers.render()
    assert b"\nprsm_rpc_certificate" not in begin("").render()
