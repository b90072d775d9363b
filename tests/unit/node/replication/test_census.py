"""Who holds what, as it was told: over in time, doubted when a link breaks, bounded."""

import pytest

from prsm.node.replication import census as module
from prsm.node.replication.census import Census, Heard
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import CopyWish, ModelOffer, StorageBeacon

ME, ONE, TWO = (PeerId(name) for name in ("me", "one", "two"))
MODEL, OTHER = bytes(36), bytes([1]) * 36


def offer(manifest: bytes = MODEL) -> ModelOffer:
    return ModelOffer(
        manifest=manifest, pinned_sha256=bytes(32), name="m", semver="1.0.0", size_bytes=1
    )


def beacon(room: int = 2**30, *wishes: CopyWish) -> StorageBeacon:
    return StorageBeacon(region="here", room_bytes=room, wishes=wishes)


def heard(made_ms: int = 0, expires_ms: int = 1_000) -> Heard:
    return Heard(made_ms, expires_ms)


def test_offers_are_over_in_time_and_a_later_one_counts() -> None:
    census = Census()
    census.hear_offer(ONE, offer(), heard())
    census.hear_offer(ONE, offer(), heard(500, 1_500))
    census.hear_offer(TWO, offer(), heard())
    census.forget(1_000)
    assert census.holders(ME, ()) == {MODEL: frozenset({ONE})}
    census.forget(1_500)
    assert census.holders(ME, ()) == {}


def test_own_models_count_at_once_and_own_old_offers_do_not() -> None:
    census = Census()
    census.hear_offer(ME, offer(), heard())
    assert census.holders(ME, [OTHER]) == {MODEL: frozenset(), OTHER: frozenset({ME})}


def test_lost_node_counts_again_when_it_links_or_speaks() -> None:
    census = Census()
    census.hear_offer(ONE, offer(), heard())
    census.hear_beacon(ONE, beacon(), heard())
    census.see(ONE, is_up=False, now_ms=100)
    census.forget(200)
    assert census.holders(ME, ()) == {MODEL: frozenset()}
    assert census.keepers(()) == {}
    census.hear_beacon(ONE, beacon(), heard(150))
    assert [(k.peer, k.is_bonded) for k in census.keepers({ONE}).values()] == [(ONE, True)]
    assert census.holders(ME, ()) == {MODEL: frozenset()}, "the offer is from before"
    census.see(ONE, is_up=True, now_ms=300)
    assert census.holders(ME, ()) == {MODEL: frozenset({ONE})}


def test_loss_of_a_silent_node_is_forgotten() -> None:
    census = Census()
    census.see(ONE, is_up=False, now_ms=100)
    census.forget(200)
    assert census._lost_ms == {}


def test_wishes_of_live_holders_count_the_largest_first() -> None:
    census = Census()
    census.hear_beacon(ONE, beacon(0, CopyWish(MODEL, 4)), heard())
    census.hear_beacon(TWO, beacon(0, CopyWish(MODEL, 5), CopyWish(OTHER, 7)), heard())
    assert census.wishes({MODEL: {ONE, TWO}, OTHER: {ONE}}) == {MODEL: 5}
    assert census.wishes({MODEL: {ONE}}) == {MODEL: 4}
    assert census.keepers(()) == {}, "no room is no keeper"


def test_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OFFERS_MAX", 2)
    monkeypatch.setattr(module, "KEEPERS_MAX", 1)
    census = Census()
    for manifest in (MODEL, OTHER, bytes([2]) * 36):
        census.hear_offer(ONE, offer(manifest), heard())
    for peer in (ONE, TWO):
        census.hear_beacon(peer, beacon(), heard())
    assert len([live for live in census.holders(ME, ()).values() if live]) == 2
    assert list(census.keepers(())) == [ONE]
    census.hear_offer(ONE, offer(), heard(500, 2_000))
    census.forget(1_000)
    census.hear_offer(ONE, offer(OTHER), heard(500, 2_000))
    assert len(census.holders(ME, ())) == 2, "what is over makes room"
