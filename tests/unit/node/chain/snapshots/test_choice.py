"""Whether a snapshot is the way forward, and whose."""

from prsm.node.chain.snapshots.choice import choose
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import Status

FAR = 10


def status(height: int, snapshot: int, *, first: int = 1) -> Status:
    return Status(height, 0, bytes(32), height, snapshot, first, None)


def asked(
    own: int,
    trusted: dict[str, Status],
    *,
    settled: int = 0,
    far: int = FAR,
    stalls: dict[str, int] | None = None,
) -> tuple[str, int] | None:
    claims = {PeerId(name): each for name, each in trusted.items()}
    counted = {PeerId(name): count for name, count in (stalls or {}).items()}
    return choose(own, claims, settled=settled, far=far, stalls=counted)


def test_blocks_lead_on_while_they_are_near() -> None:
    assert asked(5, {}) is None
    assert asked(5, {"a": status(15, 15)}) is None
    assert asked(5, {"a": status(16, 16)}) == ("a", 16)


def test_snapshot_is_taken_where_nobody_holds_the_next_block() -> None:
    assert asked(5, {"a": status(9, 8, first=6)}) is None
    assert asked(5, {"a": status(9, 8, first=7)}) == ("a", 8)
    # One that is not ahead is no help, whatever it holds.
    assert asked(5, {"a": status(9, 8, first=7), "b": status(5, 0)}) == ("a", 8)


def test_snapshot_at_or_below_the_own_height_is_none() -> None:
    assert asked(5, {"a": status(9, 5, first=7)}) is None


def test_highest_offer_that_is_certainly_real_comes_first() -> None:
    """A liar offers more than anybody has; it is asked only where nobody else offers anything."""
    trusted = {"honest": status(40, 30), "liar": status(900, 800)}
    assert asked(5, trusted, settled=40) == ("honest", 30)
    assert asked(5, trusted, settled=0) == ("liar", 800)
    assert asked(5, {"liar": status(900, 800)}, settled=40) == ("liar", 800)
    assert asked(35, trusted, settled=40) == ("liar", 800)


def test_who_never_let_a_call_run_out_of_time_comes_first() -> None:
    """Liars that drip offer the highest each time, and took their turns one after the other."""
    trusted = {"slow": status(90, 80), "drip": status(90, 90), "honest": status(90, 70)}
    stalls = {"slow": 1, "drip": 2}
    assert asked(5, trusted, settled=90, stalls=stalls) == ("honest", 70)
    assert asked(65, trusted, settled=90, stalls=stalls) == ("slow", 80)  # 70 is near
    del trusted["honest"]
    assert asked(5, trusted, settled=90, stalls=stalls) == ("slow", 80)
    # Sound comes before quick: a height nobody else claims may be no height at all.
    trusted["quick"] = status(900, 800)
    assert asked(5, trusted, settled=90, stalls=stalls) == ("slow", 80)


def test_liar_above_sound_offers_that_are_near_is_not_asked() -> None:
    trusted = {"honest": status(40, 30), "liar": status(900, 800)}
    assert asked(25, trusted, settled=40) is None
