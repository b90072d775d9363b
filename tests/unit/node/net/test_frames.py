"""Muxer frames: what a peer may send and how often, with time handed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.net.frames import (
    BYTES_PER_CREDIT,
    CREDITS_BURST,
    DATA,
    FOREIGN_OPENS_BURST,
    FOREIGN_STREAMS_KEPT_MAX,
    FRAME_BODY_MAX,
    FRAMES_BURST,
    FRAMES_PER_S,
    GO_AWAY,
    HEADER,
    OPENS_BURST,
    OPENS_PER_S,
    PING,
    STREAMS_KEPT_MAX,
    SYN,
    WINDOW_UPDATE,
    FrameFault,
    FrameRules,
)


def frame(kind: int, flags: int = 0, stream: int = 1, length: int = 0, version: int = 0) -> bytes:
    return HEADER.pack(version, kind, flags, stream, length)


@pytest.fixture
def rules() -> FrameRules:
    """Of a peer that dialled us: its streams are odd."""
    return FrameRules(peer_dialled=True, now_ms=0)


@pytest.mark.parametrize(
    "header",
    [
        frame(DATA, SYN),
        frame(WINDOW_UPDATE, SYN, 3),
        frame(DATA, 4, 1, 100),
        frame(WINDOW_UPDATE, 8, 2),  # the end of a stream of ours
        frame(PING, SYN, 0, 7),
        frame(PING, 2, 0, 7),
        frame(GO_AWAY, 0, 0, 1),
        frame(DATA, 0, 9, FRAME_BODY_MAX),  # of a stream that has ended here
    ],
)
def test_frames_of_honest_peers_pass(rules: FrameRules, header: bytes) -> None:
    rules.check(header, streams=3, now_ms=0)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (frame(DATA, version=1), "version 1"),
        (frame(4), "type 4"),
        (frame(255, 0xFFFF), "type 255"),
        (frame(DATA, SYN, 2), "number 2"),
        (frame(DATA, SYN, 0), "number 0"),
        (frame(WINDOW_UPDATE, SYN, 1000), "number 1000"),
        (frame(DATA, 0, 1, FRAME_BODY_MAX + 1), "262145 bytes"),
        (frame(DATA, SYN, 1, 2**32 - 1), "4294967295 bytes"),
    ],
)
def test_frames_no_honest_peer_sends_ban(rules: FrameRules, header: bytes, why: str) -> None:
    with pytest.raises(FrameFault, match=why) as caught:
        rules.check(header, streams=3, now_ms=0)
    assert caught.value.penalty == 100


def test_peer_we_dialled_opens_even_streams() -> None:
    rules = FrameRules(peer_dialled=False, now_ms=0)
    rules.check(frame(DATA, SYN, 2), streams=0, now_ms=0)
    with pytest.raises(FrameFault, match="number 1"):
        rules.check(frame(DATA, SYN, 1), streams=0, now_ms=0)


def test_half_closed_streams_are_bounded(rules: FrameRules) -> None:
    rules.check(frame(DATA, SYN), streams=STREAMS_KEPT_MAX - 1, now_ms=0)
    with pytest.raises(FrameFault, match="half-open"):
        rules.check(frame(DATA, SYN), streams=STREAMS_KEPT_MAX, now_ms=0)


def test_other_programs_may_open_and_leave_more_streams() -> None:
    """Helia opens a stream for each message; the nodes of a network open four in all."""
    foreign = FrameRules(peer_dialled=True, now_ms=0, is_foreign=True)
    for number in range(FOREIGN_OPENS_BURST):
        kept = min(number, FOREIGN_STREAMS_KEPT_MAX - 1)
        foreign.check(frame(DATA, SYN, 2 * number + 1), streams=kept, now_ms=0)
    with pytest.raises(FrameFault, match="half-open"):
        foreign.check(frame(DATA, SYN), streams=FOREIGN_STREAMS_KEPT_MAX, now_ms=0)
    ours = FrameRules(peer_dialled=True, now_ms=0)
    for number in range(OPENS_BURST):
        ours.check(frame(DATA, SYN, 2 * number + 1), streams=0, now_ms=0)
    with pytest.raises(FrameFault, match="streams opened"):
        ours.check(frame(DATA, SYN), streams=0, now_ms=0)


def test_streams_at_ten_times_the_rate_are_noticed_within_a_second(rules: FrameRules) -> None:
    with pytest.raises(FrameFault, match="streams opened"):  # noqa: PT012 - the loop is the rate
        for number in range(10 * OPENS_PER_S):
            rules.check(frame(DATA, SYN, 2 * number + 1), streams=1, now_ms=number * 10)
    slow = FrameRules(peer_dialled=True, now_ms=0)
    for number in range(500):
        now_ms = number * 1000 // OPENS_PER_S
        slow.check(frame(DATA, SYN, 2 * number + 1), streams=1, now_ms=now_ms)
    assert OPENS_BURST > 16


def test_frames_that_carry_nothing_are_counted(rules: FrameRules) -> None:
    for _ in range(FRAMES_BURST):
        rules.empty(now_ms=0)
    with pytest.raises(FrameFault, match="carry nothing"):
        rules.check(frame(PING, SYN, 0), streams=0, now_ms=0)
    for _ in range(FRAMES_PER_S):
        rules.empty(now_ms=1000)


def test_credit_is_paid_by_what_was_sent(rules: FrameRules) -> None:
    rules.sent(1000 * BYTES_PER_CREDIT)
    for _ in range(1000 + CREDITS_BURST):
        rules.credit(now_ms=0)
    with pytest.raises(FrameFault, match="never sent"):
        rules.credit(now_ms=0)


@given(st.binary(min_size=12, max_size=12), st.booleans(), st.integers(0, 100))
def test_any_header_passes_or_is_a_fault(raw: bytes, peer_dialled: bool, streams: int) -> None:
    rules = FrameRules(peer_dialled=peer_dialled, now_ms=0)
    try:
        rules.check(raw, streams=streams, now_ms=0)
    except FrameFault:
        return
    version, kind, _, _, length = HEADER.unpack(raw)
    assert version == 0
    assert kind <= GO_AWAY
    assert kind != DATA or length <= FRAME_BODY_MAX
