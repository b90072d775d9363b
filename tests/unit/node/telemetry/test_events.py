"""Rows told to listeners: numbers, replay, bounds, and listeners that fail."""

import msgspec
import pytest

from prsm.node.telemetry.events import KEPT_BYTES, Event, Events


class Row(msgspec.Struct, frozen=True):
    """What is told here."""

    n: int
    text: str = ""


def told(events: Events, topic: str = "a", resume_from: int | None = None) -> list[Event]:
    heard: list[Event] = []
    events.listen(topic, heard.append, resume_from=resume_from)
    return heard


def test_numbers_count_by_topic_and_a_row_is_encoded_once() -> None:
    events = Events(["a", "b"])
    first, second, other = told(events), told(events), told(events, "b")
    for n in range(3):
        events.publish("a", Row(n))
    events.publish("b", Row(9))
    assert [event.seq for event in first] == [1, 2, 3]
    assert [event.seq for event in other] == [1]
    assert first[0] is second[0]
    assert first[0].text == '{"n":0,"text":""}'
    assert events.subscribers() == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("last", "missed", "seqs"),
    [
        (0, 2, [3, 4, 5]),
        (1, 1, [3, 4, 5]),
        (2, 0, [3, 4, 5]),
        (4, 0, [5]),
        (5, 0, []),
        (99, 2, [3, 4, 5]),  # of an earlier run
        (None, 0, []),
    ],
)
def test_replay_goes_on_after_the_last_row_or_says_what_is_lost(
    last: int | None, missed: int, seqs: list[int]
) -> None:
    events = Events(["a"], kept=3)
    for n in range(5):
        events.publish("a", Row(n))
    heard = told(events, resume_from=last)
    if missed:
        note = heard.pop(0)
        assert (note.row, note.text, note.missed, note.seq) == (None, "null", missed, 2)
    assert [event.seq for event in heard] == seqs
    events.publish("a", Row(6))
    assert heard[-1].seq == 6


def test_replay_of_a_topic_that_kept_nothing() -> None:
    assert told(Events(["a"]), resume_from=0) == []


def test_only_wanted_rows_are_told_and_stop_ends_it() -> None:
    events = Events(["a"])
    heard: list[Event] = []
    events.publish("a", Row(0))
    listening = events.listen(
        "a", heard.append, wanted=lambda row: isinstance(row, Row) and row.n % 2 == 0, resume_from=0
    )
    for n in range(1, 5):
        events.publish("a", Row(n))
    assert [event.seq for event in heard] == [1, 3, 5]
    listening.stop()
    listening.stop()
    events.publish("a", Row(6))
    assert len(heard) == 3
    assert not events.is_heard("a")


def test_a_listener_that_fails_is_dropped_and_the_others_hear_on() -> None:
    events = Events(["a"])

    def fail(_event: Event) -> None:
        raise RuntimeError("a bug")

    events.listen("a", fail)
    heard = told(events)
    events.publish("a", Row(1))
    events.publish("a", Row(2))
    assert [event.seq for event in heard] == [1, 2]
    assert events.subscribers() == {"a": 1}


def test_what_is_kept_is_bounded_in_bytes() -> None:
    events = Events(["a"])
    for n in range(10):
        events.publish("a", Row(n, "x" * (KEPT_BYTES // 4)))
    heard = told(events, resume_from=0)
    assert [event.missed for event in heard] == [7, 0, 0, 0]


def test_an_unknown_topic_is_a_bug() -> None:
    with pytest.raises(KeyError):
        told(Events(["a"]), "b")
    assert Events(["a"]).seq("a") == 0


def test_a_failing_listener_that_tells_of_it_does_not_turn_in_a_circle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line about it is a row of a topic that it hears."""
    events = Events(["a"])
    told_lines: list[str] = []

    def exception(line: str, **_fields: object) -> None:
        told_lines.append(line)
        events.publish("a", Row(2))

    monkeypatch.setattr("prsm.node.telemetry.events.log.exception", exception, raising=False)

    def fail(_event: Event) -> None:
        raise RuntimeError("a bug")

    events.listen("a", fail)
    events.publish("a", Row(1))
    assert len(told_lines) == 1
