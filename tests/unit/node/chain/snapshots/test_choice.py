"""Whether a snapshot is the way forward, and whose."""

from prsm.node.chain.snapshots.choice import BlocksTurn, choose
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
    far: int | None = FAR,
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


def test_blocks_have_their_turn_while_somebody_holds_them() -> None:
    offered = {"a": status(9_000, 8_000)}
    assert asked(5, offered) == ("a", 8_000)
    assert asked(5, offered, far=None) is None
    assert asked(5, {"a": status(9, 7, first=7)}, far=None) == ("a", 7)


def test_turn_of_blocks_is_twice_as_long_after_each_failure() -> None:
    turn = BlocksTurn(100, 350)
    assert turn.far(FAR, 0) == FAR
    now_ms = 0
    for length_ms in (100, 200, 350, 350):
        turn.fail(now_ms)
        assert turn.far(FAR, now_ms + length_ms - 1) is None
        now_ms += length_ms
        assert turn.far(FAR, now_ms) == FAR
    turn.succeed()
    turn.fail(now_ms)
    assert turn.far(FAR, now_ms + 99) is None
    assert turn.far(FAR, now_ms + 100) == FAR


def test_turn_of_blocks_stays_bounded_however_often_it_fails() -> None:
    turn = BlocksTurn(5_000, 600_000)
    for _ in range(1_000):
        turn.fail(0)
    assert turn.far(FAR, 600_000) == FAR


def test_try_that_got_on_gives_blocks_the_first_turn_and_is_no_failure() -> None:
    turn = BlocksTurn(100, 350)
    turn.fail(0)
    for now_ms, note, length_ms in (
        (100, turn.get_on, 100),
        (200, turn.get_on, 100),
        (300, turn.fail, 200),
    ):
        note(now_ms)
        assert turn.far(FAR, now_ms + length_ms - 1) is None
        assert turn.far(FAR, now_ms + length_ms) == FAR
