"""A peer that connects while a file is fetched is asked too; offline nobody is."""

from pathlib import Path

import pytest

from prsm.protocol.ids import PeerId
from prsm.storage.fetch.exchange import Exchange
from prsm.storage.interfaces import Source
from tests.tools.model_rooms import open_room

PEER = PeerId("peer")


@pytest.mark.parametrize("offline", [False, True])
async def test_peer_that_connects_joins_the_fetches_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    joined: list[str] = []

    def note(_self: Exchange, source: Source) -> None:
        joined.append(source.name)

    monkeypatch.setattr(Exchange, "join", note)
    async with open_room(tmp_path, offline=offline) as room:
        room.wire.meet(PEER)
        room.wire.lose(PEER)
        assert joined == ([] if offline else [PEER])
