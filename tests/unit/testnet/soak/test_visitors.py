"""Readers of every node: who answers, who is late, and of whom nothing is expected."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from prsm.node.home import Home
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.testnet.asking import Asker, Door
from prsm.testnet.soak import visitors
from prsm.testnet.soak.visitors import ANSWERED, AWAY, BACK_SECONDS, LATE, Visitors


async def outcomes(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[float], float | Exception],
    *,
    down: tuple[float, float] = (0.0, -1.0),
    seconds: float,
) -> list[str]:
    """Ask one node for a while: seconds until it answers, or what it refuses with, by the time."""
    began = trio.current_time()

    async def call(_asker: Asker, _method: str, _params: object = None, *, result: object) -> None:
        found = answer(trio.current_time() - began)
        if isinstance(found, Exception):
            raise found
        await trio.sleep(found)

    def was_down(_place: int, since: float) -> bool:
        first, last = (began + moment for moment in down)
        return first <= trio.current_time() and since <= last

    monkeypatch.setattr(Asker, "call", call)
    one = Visitors(folder, [Door(Home(folder))], ["0x" + "00" * 32], random.Random(1), was_down)
    with trio.move_on_after(seconds):
        await one.run()
    rows = visitors.read(folder)
    assert one.asked == sum(row.outcome != AWAY for row in rows)
    assert one.answered == sum(row.outcome == ANSWERED for row in rows)
    return [row.outcome for row in rows]


async def test_answers_late_ones_and_refusals_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """In this order: an answer, one after a second and a half, a refusal, nobody there."""
    plan: dict[int, float | Exception] = {
        1: 0.1,
        2: 1.5,
        3: RpcError(-32000, "full", {"reason": "busy"}),
        4: NodeUnreachable("x"),
    }
    found = await outcomes(tmp_path, monkeypatch, lambda at: plan[int(at + 0.01)], seconds=4.9)
    assert found == [ANSWERED, LATE, "busy", "unreachable"]


async def test_node_held_down_is_away_until_it_answers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Down from 2 s to 4 s, back at 6 s, and silent again at 8 s: that one counts."""

    def answer(at: float) -> float | Exception:
        return NodeUnreachable("x") if 2 <= at < 6 or at >= 8 else 0.0

    found = await outcomes(tmp_path, monkeypatch, answer, down=(1.99, 4.01), seconds=8.5)
    assert found == [ANSWERED, AWAY, AWAY, AWAY, AWAY, ANSWERED, ANSWERED, "unreachable"]


async def test_node_that_does_not_come_back_is_missed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Held down once; half a minute later its silence is its own."""
    found = await outcomes(
        tmp_path, monkeypatch, lambda _at: NodeUnreachable("x"), down=(0.0, 1.5), seconds=40
    )
    assert found.count(AWAY) == pytest.approx(BACK_SECONDS + 1, abs=1)
    assert found[-1] == "unreachable"
