"""Answers for people: what a terminal shows of them, and what a pipe does."""

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from datetime import UTC, datetime

import pytest
from typing_extensions import override

from prsm.node.cli import render
from prsm.node.cli.readable import span, words

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
HASH = "0x" + "ab" * 32
JOB = {
    "job_id": HASH,
    "state": "done",
    "error": None,
    "created": "2026-03-01T11:59:22.500Z",
    "paid": "3800",
    "run_ms": 1027,
    "rss_bytes": 27_011_328,
    "because": "a sentence that has more to say than a column may take",
}


class Terminal(io.StringIO):
    """A terminal that keeps what is written on it."""

    @override
    def isatty(self) -> bool:
        return True


Draw = Callable[[object], list[str]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Draw:
    """What a terminal of sixty characters shows of a value, line by line."""
    monkeypatch.delenv("PRSM_WIDE", raising=False)
    monkeypatch.setattr(render, "now", lambda: NOW)
    monkeypatch.setattr(render, "columns", lambda: 60)

    def draw(value: object) -> list[str]:
        with redirect_stdout(Terminal()) as terminal:
            render.show(value)
        return terminal.getvalue().splitlines()

    return draw


def test_fields_are_told_with_units_moments_and_money(drawn: Draw) -> None:
    assert drawn(
        {
            **JOB,
            "addresses": ["one", "two"],
            "disk": {"free_bytes": 1024, "state": "ok"},
            "batches": [1, 0],
            "why": "",
            "raw": "0x" + "ab" * 65,
        }
    ) == [
        f"job_id     {HASH}",
        "state      done",
        "error      -",
        "created    2026-03-01 11:59:22Z, 37 s ago",
        "paid       0.0038 FTNS",
        "run        1.03 s",
        "rss        25.8 MiB",
        "because    a sentence that has more to say than a column may take",
        "addresses  one",
        "           two",
        "disk       free 1.0 KiB, state ok",
        "batches    1,0",
        "why        -",
        "raw        0xabababababababababababababababab... (65 bytes)",
    ]


def test_table_keeps_what_fits_and_names_the_rest(drawn: Draw) -> None:
    found = drawn({"items": [JOB, {**JOB, "paid": "1000000"}], "next_cursor": None, "banned": []})
    assert found == [
        "job_id          state  created   paid         run",
        "0xabababababab  done   37 s ago  0.0038 FTNS  1.03 s",
        "0xabababababab  done   37 s ago  1.00 FTNS    1.03 s",
        "(not shown: rss, because; see --wide)",
    ]


def test_wide_tables_have_every_column_whole(drawn: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRSM_WIDE", "1")
    head, row = drawn([JOB])
    assert head.split() == [name.removesuffix("_bytes").removesuffix("_ms") for name in JOB]
    assert HASH in row
    assert str(JOB["because"]) in row


def test_numbers_stand_below_one_another_and_a_page_says_that_more_follow(drawn: Draw) -> None:
    found = drawn({"items": [{"name": "a", "n": 7}, {"name": "b", "n": 1234}], "next_cursor": "x"})
    assert found == ["next_cursor  x", "name     n", "a        7", "b     1234"]


def test_a_table_of_nothing_is_a_word(drawn: Draw) -> None:
    assert drawn({"items": [], "next_cursor": None}) == ["(none)"]


def test_control_characters_of_peers_are_escaped(drawn: Draw) -> None:
    found = drawn([{"agent": "\x1b[31mred"}])
    found += drawn({"agent": "\x1b[31mred", "notes": {"why": "\x07"}, "names": ["\x1b", "b"]})
    assert all(line.isprintable() for line in found)
    assert found[1] == r"\x1b[31mred"


def test_names_keep_their_unit_where_two_would_be_one(drawn: Draw) -> None:
    assert drawn([{"wait": 1, "wait_ms": 5}]) == ["wait  wait_ms", "   1  5 ms"]
    assert drawn({"wait": 1, "wait_ms": 5}) == ["wait     1", "wait_ms  5 ms"]


def test_a_moment_in_a_table_is_told_by_its_largest_unit(drawn: Draw) -> None:
    times = ("2026-03-01T11:53:51Z", "2026-03-01T14:30:00Z", "2026-02-26T08:00:00Z")
    found = drawn([{"since": when} for when in times])
    assert found == ["since", "6 min ago", "in 2 h", "3 d ago"]


def test_a_pipe_has_values_as_they_are_and_begins_with_the_heading(
    capsys: pytest.CaptureFixture[str],
) -> None:
    render.show({"items": [JOB], "next_cursor": None})
    head, row = capsys.readouterr().out.splitlines()
    assert head.split("\t") == list(JOB)
    assert row.split("\t")[:4] == [HASH, "done", "-", "2026-03-01T11:59:22.500Z"]
    assert row.split("\t")[5:7] == ["1027", "27011328"]
    render.show({"run_ms": 1027, "items_bytes": 3})
    assert capsys.readouterr().out == "run_ms\t1027\nitems_bytes\t3\n"


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"used_bytes": 0}, "0 B"),
        ({"used_bytes": 1023}, "1023 B"),
        ({"used_bytes": 53_687_091_200}, "50.0 GiB"),
        ({"rate_bytes_per_s": 2_097_152}, "2.0 MiB/s"),
        ({"rtt_ms": None}, "-"),
        ({"rtt_ms": True}, "yes"),
        ({"deadline": "2026-03-01T12:09:02Z"}, "2026-03-01 12:09:02Z, in 9 min 2 s"),
        ({"created": "2026-03-01T12:00:00.000Z"}, "2026-03-01 12:00:00Z, now"),
        ({"created": "2026-02-26T08:00:00Z"}, "2026-02-26 08:00:00Z, 3 d 4 h ago"),
        ({"created": "2026-02-26T08:00:00"}, "2026-02-26T08:00:00"),
        ({"batches": [1, 0]}, "1,0"),
        ({"parts": {}}, "-"),
    ],
)
def test_words(named: Mapping[str, object], told: str) -> None:
    ((name, value),) = named.items()
    assert words(name, value, now=NOW) == told


def test_spans_are_told_in_two_units() -> None:
    told = [span(ms) for ms in (0, 999, 1_000, 9_999, 10_000, 59_999, 200_000, 7_500_000)]
    assert told[:5] == ["0 ms", "999 ms", "1.00 s", "10.00 s", "10 s"]
    assert told[5:8] == ["59 s", "3 min 20 s", "2 h 5 min"]
