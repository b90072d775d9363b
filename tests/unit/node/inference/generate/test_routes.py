"""Who does a stage after it was lost, and whom that is held against: by the cause, not by words."""

from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from prsm.node.inference.generate import moving
from prsm.node.inference.generate.routes import Routes
from prsm.node.inference.generate.stage import RemoteStage
from prsm.node.inference.links import Links, WorkerLost
from prsm.protocol.ids import PeerId

ONE, TWO = PeerId("one"), PeerId("two")


def route(peer: PeerId) -> Any:  # noqa: ANN401 - stands for a route of one stage
    worker = peer.encode()
    unit = SimpleNamespace(stage=0, workers=(worker,), first=0, count=1)
    return SimpleNamespace(units=(unit,), peers={worker: peer}, job=worker, rows=(1,))


class Scene:
    """A main route at one worker and a spare at another."""

    def __init__(self, *live: PeerId) -> None:
        self.struck: list[PeerId] = []
        peers = [SimpleNamespace(peer=peer) for peer in live]
        links = SimpleNamespace(
            network=SimpleNamespace(peers=lambda: peers),
            departures=SimpleNamespace(left_s=lambda _peer: None),
            chain=SimpleNamespace(job=lambda _job: None),  # nothing of it is on the ledger
        )
        links.is_closed = partial(Links.is_closed, cast("Any", links))
        bans = SimpleNamespace(strike=lambda peer, _now_ms: self.struck.append(peer))
        market = SimpleNamespace(bans=bans, now_ms=lambda: 0)
        shape = SimpleNamespace(is_last=False)
        wanted = SimpleNamespace(shapes=[shape], positions=1, sampling=None)
        parts = (cast("Any", each) for each in (links, wanted, None, market))
        self.routes = Routes(*parts)
        self.routes.locked = [route(ONE), route(TWO)]

    async def after(self, cause: str, what: str = "it went wrong") -> str:
        stage = await self.routes.next(0, self.routes.stage(0), WorkerLost(what, cause=cause))
        assert isinstance(stage, RemoteStage)
        return stage.name


@pytest.mark.parametrize("cause", ["unknown_session", "worker_failed"])
async def test_worker_that_is_there_and_only_lost_its_session_is_asked_once_more(
    cause: str,
) -> None:
    scene = Scene(ONE, TWO)
    assert [await scene.after(cause), await scene.after(cause)] == [ONE, TWO]
    assert scene.struck == [ONE]
    away = Scene(TWO)
    assert await away.after(cause) == TWO
    assert away.struck == [ONE]


@pytest.mark.parametrize("cause", ["class_missing", moving.LEAVES])
async def test_who_computes_otherwise_or_goes_away_did_nothing_wrong(cause: str) -> None:
    scene = Scene(ONE, TWO)
    assert await scene.after(cause) == TWO
    assert scene.struck == []


async def test_words_of_a_worker_decide_nothing() -> None:
    """They are its own: it would write itself a second try, or no blame."""
    for word in ("unknown_session", "worker_failed", "class_missing", moving.LEAVES):
        scene = Scene(ONE, TWO)
        assert await scene.after("busy", f"step 3: {word}: {word}") == TWO
        assert scene.struck == [ONE]
