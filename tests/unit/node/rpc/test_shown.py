"""What notebooks show: escaped, bounded, without a script."""

import xml.etree.ElementTree as ET

import msgspec
import pytest

from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.methods.work import Job
from prsm.node.rpc.shown import ROWS_MAX, html, waterfall
from tests.tools.rpc_node import sample

EVIL = '<script>alert("1")</script>'


def _parsed(text: str) -> ET.Element:
    return ET.fromstring(f"<div>{text}</div>")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_result_is_shown_as_a_whole_document(name: str) -> None:
    _parsed(html(sample(METHODS[name].result)))


def _job(**changes: object) -> Job:
    plain = msgspec.to_builtins(sample(Job))
    worker = plain["workers"][0]
    workers = [
        {**worker, "unit": 0, "compute_ms": 10, "verdict": "agreed", "peer_id": "12D3abcdef"},
        {**worker, "unit": 1, "compute_ms": 40, "verdict": "outvoted", "why": EVIL},
    ]
    return msgspec.convert({**plain, "workers": workers, **changes}, type=Job)


def test_a_job_has_a_bar_for_each_worker_as_long_as_it_computed() -> None:
    drawn = _parsed(waterfall(_job()))
    bars = list(drawn.iter("{http://www.w3.org/2000/svg}rect"))
    assert [int(bar.attrib["width"]) for bar in bars] == [115, 460]
    assert bars[0].attrib["fill"] != bars[1].attrib["fill"]
    assert "outvoted 40 ms" in "".join(drawn.itertext())
    assert waterfall(_job(workers=[])) == ""


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


def test_every_result_shows_itself_in_a_notebook() -> None:
    assert _job()._repr_html_() == html(_job())


def test_amounts_are_shown_in_ftns() -> None:
    assert "1.50 FTNS" in html(_job(locked="1500000"))
    assert "no rows" in html(msgspec.convert({"items": []}, type=METHODS["job_list"].result))
