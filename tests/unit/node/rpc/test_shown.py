"""What notebooks show: escaped, bounded, without a script."""

import xml.etree.ElementTree as ET
from typing import get_type_hints

import msgspec
import pytest

from prsm.node.rpc import shown as shown_module
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.methods.work import Job, JobTrace
from prsm.node.rpc.shown import ROWS_MAX, html, waterfall
from tests.tools.rpc_node import sample

EVIL = '<script>alert("1")</script>'


def _parsed(text: str) -> ET.Element:
    return ET.fromstring(f"<div>{text}</div>")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_result_is_shown_as_a_whole_document(name: str) -> None:
    _parsed(html(sample(METHODS[name].result)))


def _times(began_ms: int | None, ended_ms: int | None) -> dict[str, int | None]:
    return {"began_ms": began_ms, "ended_ms": ended_ms}


def _job(**changes: object) -> Job:
    plain = msgspec.to_builtins(sample(Job))
    worker = plain["workers"][0]
    workers = [
        {**worker, "unit": 0, "verdict": "agreed", "peer_id": "12D3abcdef", **_times(0, 10)},
        {**worker, "unit": 1, "verdict": "outvoted", "why": EVIL, **_times(10, 40)},
        {**worker, "unit": 1, "verdict": "unused", "why": "", **_times(None, None)},
    ]
    return msgspec.convert({**plain, "workers": workers, **changes}, type=Job)


def _bars(text: str) -> list[ET.Element]:
    return list(_parsed(text).iter("{http://www.w3.org/2000/svg}rect"))


def test_a_job_has_a_bar_for_each_worker_from_its_begin_to_its_end() -> None:
    drawn = waterfall(_job())
    bars = _bars(drawn)
    assert [int(bar.attrib["x"]) - int(bars[0].attrib["x"]) for bar in bars] == [0, 115]
    assert [int(bar.attrib["width"]) for bar in bars] == [115, 345]
    assert bars[0].attrib["fill"] != bars[1].attrib["fill"]
    said = "".join(_parsed(drawn).itertext())
    assert "outvoted 30 ms" in said
    assert "unused" in said
    assert waterfall(_job(workers=[])) == ""


def test_bars_that_are_left_out_are_said_and_count() -> None:
    one = msgspec.to_builtins(_job().workers[0])
    last = {**one, **_times(10, 90)}
    drawn = waterfall(_job(workers=[one] * ROWS_MAX + [one, one, last]))
    assert len(_bars(drawn)) == ROWS_MAX
    assert {bar.attrib["width"] for bar in _bars(drawn)} == {str(10 * 460 // 90)}
    said = "".join(_parsed(drawn).itertext())
    assert "all of it 90 ms" in said
    assert "3 more bars" in said


def test_what_a_bar_tells_is_cut() -> None:
    one = msgspec.to_builtins(_job().workers[0])
    assert len(waterfall(_job(workers=[{**one, "why": "a" * 100_000}]))) < 3_000


def test_a_trace_has_a_bar_for_each_step_and_what_lasts_reaches_the_end() -> None:
    plain = msgspec.to_builtins(sample(JobTrace))
    worker = {**plain["steps"][0]["worker"], "verdict": "lost", "why": EVIL}
    place = {"unit": 0, "stage": 0, "attempt": 1, "worker": worker}
    job = {"unit": None, "stage": None, "attempt": None, "worker": None}
    steps = [
        {"step": "plan", **job, **_times(0, 20)},
        {"step": "work", **place, **_times(20, None)},
        {"step": "run", **job, **_times(20, 80)},
    ]
    trace = msgspec.convert({**plain, "steps": steps}, type=JobTrace)
    assert [int(bar.attrib["width"]) for bar in _bars(html(trace))] == [115, 345, 345]
    assert "goes on" in html(trace)
    assert "<script" not in html(trace)
    assert trace._repr_html_() == html(trace)


def test_nothing_of_a_peer_becomes_markup() -> None:
    shown = html(_job(error={"reason": "x", "what": EVIL}))
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    _parsed(shown)


def test_long_lists_and_texts_are_cut_and_say_so() -> None:
    keys = METHODS["wallet_listKeys"].result
    row = msgspec.to_builtins(sample(keys))["items"][0]
    many = msgspec.convert({"items": [row] * (ROWS_MAX + 3)}, type=keys)
    shown = html(many)
    assert shown.count("<tr>") == ROWS_MAX + 1
    assert "3 more rows" in shown
    assert html(_job(model="b" + "a" * 58)).count("…") >= 1


def test_a_type_is_read_once_for_all_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it for each cell, a page of 200 jobs took half a second."""
    read: list[type] = []

    def counted(kind: type, *, include_extras: bool) -> dict[str, object]:
        read.append(kind)
        return get_type_hints(kind, include_extras=include_extras)

    monkeypatch.setattr(shown_module, "get_type_hints", counted)
    shown_module._amounts_of.cache_clear()
    jobs = METHODS["job_list"].result
    row = msgspec.to_builtins(sample(jobs))["items"][0]
    html(msgspec.convert({"items": [row] * ROWS_MAX}, type=jobs))
    assert len(read) == 1


def test_every_result_shows_itself_in_a_notebook() -> None:
    assert _job()._repr_html_() == html(_job())


def test_amounts_are_shown_in_ftns() -> None:
    assert "1.50 FTNS" in html(_job(locked="1500000"))
    assert "no rows" in html(msgspec.convert({"items": []}, type=METHODS["job_list"].result))
