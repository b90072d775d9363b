"""net_: announcements and their delivery by JSON-RPC."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prsm.node.net.delivery import Fate
from prsm.protocol.messages.announce import BLOCKS, MODELS, STATUS, ModelOffer, NewBlock
from tests.tools.announced import peer
from tests.tools.site import Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def test_own_announcements_are_listed_by_topic(site: Site) -> None:
    announcer = site.announcer
    offer = ModelOffer(
        manifest=b"\1" * 36, pinned_sha256=b"p" * 32, name="m", semver="1.0.0", size_bytes=7
    )
    await announcer.publish(MODELS.name, offer)
    await announcer.publish(BLOCKS.name, NewBlock(height=3, block_hash=b"h" * 32))
    listed = await site.ask("net_getAnnouncements", topic="models")
    [only] = listed["items"]
    assert only["topic"] == MODELS.name
    assert only["key"] == "0x" + "01" * 36
    assert only["content"]["name"] == "m"
    assert only["content"]["pinned_sha256"] == "0x" + b"p".hex() * 32
    assert not listed["more"]
    topics = [item["topic"] for item in (await site.ask("net_getAnnouncements"))["items"]]
    assert {MODELS.name, BLOCKS.name} <= set(topics)  # the node may have said more by itself
    of_it = await site.ask("net_getAnnouncements", peer_id=only["peer_id"], limit=1)
    assert (len(of_it["items"]), of_it["more"]) == (1, True)
    assert (await site.ask("net_getAnnouncements", peer_id=peer(9)))["items"] == []


async def test_delivery_is_reported_by_topic_and_author(site: Site) -> None:
    topic = site.announcer.delivery[STATUS.name]
    author = b"a" * 32
    for sequence, delay_ms, repaired in ((1, 10, False), (2, 2_000, True), (5, 30, False)):
        topic.see(
            author,
            sequence=sequence,
            made_ms=sequence,
            arrived_ms=sequence + delay_ms,
            repaired=repaired,
        )
    topic.fates[Fate.EARLY] += 4
    items = (await site.ask("net_getDelivery"))["items"]
    [status] = [item for item in items if item["topic"] == STATUS.name]
    assert status["authors"][0] | {"peer_id": ""} == {
        "peer_id": "",
        "seen": 3,
        "repaired": 1,
        "late": 1,
        "missing": 2,
    }
    assert (status["seen"], status["missing"], status["early"]) == (3, 2, 4)
    assert (status["p50_ms"], status["p99_ms"]) == (30, 2_000)
    [blocks] = [item for item in items if item["topic"] == BLOCKS.name]
    assert (blocks["published"], blocks["p50_ms"], blocks["authors"]) == (0, None, [])


async def test_unknown_topic_is_refused(site: Site) -> None:
    assert (await site.refused("net_getAnnouncements", topic="all"))[1] == "invalid_params"
    assert (await site.refused("net_getAnnouncements", limit=0))[1] == "invalid_params"
