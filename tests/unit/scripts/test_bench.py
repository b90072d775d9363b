"""The table of figures: what was asked, judged by what is recorded, and what a run may replace."""

import argparse
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "scripts"))  # behind all others: it has a module `test`

import bench  # noqa: E402 - the path comes first
from benchmarks import asked, runs  # noqa: E402 - as above
from benchmarks.asked import Figure, Sheet, Verdict  # noqa: E402 - as above
from benchmarks.runs import Failed, Part, Record, Row  # noqa: E402 - as above

FREE = Record("p", "abc", "2026-01-01 00:00", "a machine", 1.0, 2.0, (Row("ms", 8.0, "ms"),))
LOADED = msgspec.structs.replace(FREE, others_percent=80.0, rows=(Row("ms", 99.0, "ms"),))
ASKED = Figure(what="time", subject="s", part="p", row="ms", most=10)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records, latest runs and the page in a folder of the test."""
    monkeypatch.setattr(runs, "RECORDS", tmp_path / "figures")
    monkeypatch.setattr(runs, "LATEST", tmp_path / "latest")
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "PAGE", tmp_path / "page.md")
    bench.PAGE.write_text("# P\n<!-- figures -->\nold\n<!-- end figures -->\nend\n")
    return tmp_path


def test_page_is_what_the_records_give() -> None:
    """If this fails: python scripts/bench.py all --render."""
    page = bench.PAGE.read_text(encoding="utf-8")
    assert bench.rendered(page, asked.load()) == page


def test_every_figure_has_a_part_or_says_what_to_type() -> None:
    sheet = asked.load()
    assert len({(each.subject, each.what) for each in sheet.figures}) == len(sheet.figures)
    for each in sheet.figures:
        if each.part:
            assert each.part in sheet.parts, each.what
            assert each.row, each.what
            bars = [each.most, each.least, each.exactly]
            assert sum(bar is not None for bar in bars) + bool(each.bar) == 1, each.what
        else:
            assert each.command, each.what
            assert each.bar, each.what
            assert bool(each.seen) == bool(each.on), each.what
            assert each.holds or each.why, each.what


def test_every_part_is_made_of_things_that_exist() -> None:
    for name, part in asked.load().parts.items():
        assert part.modules or part.commands, name
        for module in part.modules:
            text = (ROOT / "scripts" / "benchmarks" / f"{module}.py").read_text(encoding="utf-8")
            assert re.search(r"^LIMITS: Final", text, flags=re.MULTILINE), module
            assert re.search(r"^def measure_all\(.*\) -> list\[Row\]:", text, flags=re.MULTILINE)
        for command in part.commands.values():
            program = command.split()[0]
            assert program in runs.PROGRAMS or (ROOT / program).is_file(), command


def test_links_of_reasons_lead_to_headings_of_the_page() -> None:
    page = bench.PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", page, flags=re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings}
    assert {each.see for each in asked.load().figures} - {""} <= anchors


@pytest.mark.parametrize(
    ("bar", "value", "strain"),
    [
        ({"most": 10.0}, 10.0, 1.0),
        ({"most": 10.0}, 15.0, 1.5),
        ({"most": 0.0}, 0.0, 0.0),
        ({"most": 0.0}, 1.0, math.inf),
        ({"least": 10.0}, 5.0, 2.0),
        ({"least": 10.0}, 0.0, math.inf),
        ({"exactly": 3.0}, 3.0, 0.0),
        ({"exactly": 3.0}, 2.0, math.inf),
        ({"bar": "printed"}, 7.0, 0.0),
    ],
)
def test_strain_is_above_one_where_the_bar_is_missed(
    bar: dict[str, object], value: float, strain: float
) -> None:
    figure = msgspec.convert({"what": "w", "subject": "s", "part": "p", "row": "r", **bar}, Figure)
    assert asked.strain_of(figure, value) == strain


def test_a_figure_may_be_judged_by_its_ratio_to_another_row() -> None:
    record = msgspec.structs.replace(FREE, rows=(Row("busy", 30.0), Row("quiet", 10.0)))
    figure = msgspec.structs.replace(ASKED, row="busy", of="quiet", most=2.0)
    judged = asked.judge(figure, record)
    assert (judged.verdict, judged.strain) == (Verdict.SHORT, 1.5)
    assert judged.limit == Row("quiet", 10.0)
    without = msgspec.structs.replace(record, rows=record.rows[:1])
    assert asked.judge(figure, without).verdict is Verdict.MISSING


def test_of_several_rows_the_worst_counts() -> None:
    rows = (Row("a.ms", 3.0), Row("b.ms", 12.0), Row("c.ms", 5.0))
    record = msgspec.structs.replace(FREE, rows=rows)
    judged = asked.judge(msgspec.structs.replace(ASKED, row="*.ms"), record)
    assert judged.verdict is Verdict.SHORT
    assert judged.row is not None
    assert judged.row.name == "b.ms"


def test_nothing_is_said_to_hold_that_was_not_measured_or_whose_part_failed() -> None:
    assert asked.judge(ASKED, None).verdict is Verdict.MISSING
    by_hand = Figure(what="w", subject="s", command="look", bar="all")
    assert asked.judge(by_hand, None).verdict is Verdict.MISSING
    assert asked.judge(msgspec.structs.replace(ASKED, row="other"), FREE).verdict is Verdict.MISSING
    failed = msgspec.structs.replace(FREE, failure="exit 1: no disk")
    assert asked.judge(ASKED, failed).verdict is Verdict.FAILED
    text = asked.table(Sheet({"p": Part("about")}, (ASKED,)), {"p": failed})
    assert "exit 1: no disk" in text
    assert "holds" not in text


def test_table_has_the_worst_first_and_says_why() -> None:
    rows = (Row("near", 9.0), Row("far", 50.0, limit=5.0, limit_of="the disk"), Row("over", 11.0))
    figures = tuple(
        Figure(what=f"what {name}", subject="s", part="p", row=name, most=10, why=f"why {name}.")
        for name in ("near", "over", "gone", "far")
    )
    text = asked.table(
        Sheet({"p": Part("about")}, figures), {"p": msgspec.structs.replace(FREE, rows=rows)}
    )
    assert text.startswith("4 figures: 2 short, 1 not measured, 1 holds.")
    lines = [line for line in text.splitlines() if line.startswith("| s |")]
    assert [line.split(" | ")[1] for line in lines] == [
        "what far",
        "what over",
        "what gone",
        "what near",
    ]
    assert "| 50 | 5: the disk | 10 | **short** |" in lines[0]
    reasons = [line for line in text.splitlines() if line.startswith("- ")]
    assert reasons == ["- s, what far: why far.", "- s, what over: why over."]


@pytest.mark.usefixtures("folder")
def test_run_beside_other_programs_never_replaces_one_of_a_free_machine() -> None:
    assert bench.keep(LOADED, loaded=False) == "kept"  # nothing better is there
    assert bench.keep(FREE, loaded=False) == "kept"
    assert bench.keep(LOADED, loaded=False).startswith("not kept")
    assert runs.read(runs.RECORDS, "p") == FREE
    bench.keep_failure("p", "exit 1")
    assert bench.keep(LOADED, loaded=False).startswith("not kept")
    assert runs.read(runs.RECORDS, "p") == FREE  # the part can be measured again
    unknown = msgspec.structs.replace(LOADED, others_percent=None)
    assert bench.keep(unknown, loaded=False).startswith("not kept")
    assert bench.keep(LOADED, loaded=True) == "kept"
    assert runs.read(runs.RECORDS, "p") == LOADED


def test_all_survives_a_part_that_fails_marks_it_and_resumes_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fake measures; the second part fails at first, and alone is tried again."""
    asked_for: list[str] = []
    broken = {"b"}

    def fake_alone(name: str, _limit_s: float) -> Record:
        asked_for.append(name)
        if name in broken:
            raise Failed("exit 1: no disk")
        return msgspec.structs.replace(FREE, part=name, commit="now")

    monkeypatch.setattr(bench, "_alone", fake_alone)
    monkeypatch.setattr(bench, "commit", lambda: "now")
    (folder / "src" / "prsm").mkdir(parents=True)
    figures = tuple(msgspec.structs.replace(ASKED, what=name, part=name) for name in "abc")
    sheet = Sheet({name: Part(f"about {name}") for name in "abc"}, figures)
    options = argparse.Namespace(resume=False, loaded=False)
    assert bench.run_all(["a", "b", "c"], options, sheet) == 1
    assert asked_for == ["a", "b", "c"]
    assert "failed: b" in capsys.readouterr().out
    page = bench.PAGE.read_text()
    assert page.startswith("# P\n<!-- figures -->\n3 figures: 1 part failed, 2 holds.")
    assert page.endswith("<!-- end figures -->\nend\n")

    broken.clear()
    options.resume = True
    assert bench.run_all(["a", "b", "c"], options, sheet) == 0
    assert asked_for == ["a", "b", "c", "b"]
    assert "3 figures: 3 holds." in bench.PAGE.read_text()


def test_numbers_of_a_document_become_rows_named_by_their_path() -> None:
    document = {"a": {"p99": 3, "why": "x"}, "holds": True, "each": [1.5, None]}
    rows = {row.name: row.value for row in runs.flattened(document, "word")}
    assert rows == {"word.a.p99": 3.0, "word.holds": 1.0, "word.each.0": 1.5}


def test_document_of_a_run_that_is_over_keeps_its_hour_and_commit(tmp_path: Path) -> None:
    path = tmp_path / "said.json"
    path.write_text('{"commit": "abc", "ms": 7, "other": 8}')
    os.utime(path, (86_400, 86_400))
    figure = msgspec.structs.replace(ASKED, row="run.ms")
    sheet = Sheet({"p": Part("about", commands={"run": "prsm-testnet run --json"})}, (figure,))
    record = bench._of_document("p", path, sheet)
    assert (record.commit, record.date) == ("abc", "1970-01-02 00:00")
    assert record.rows == (Row("run.ms", 7.0),)
    assert record.others_percent is None
    path.write_text("words")
    with pytest.raises(Failed, match="not one document"):
        bench._of_document("p", path, sheet)


def test_command_that_prints_no_document_has_failed(tmp_path: Path) -> None:
    script = tmp_path / "words.py"
    script.write_text("print('no')\nraise SystemExit(3)\n")
    with pytest.raises(Failed, match="exit 3 and no document"):
        runs.run_command(str(script))


@pytest.mark.slow
def test_what_a_part_leaves_behind_is_ended() -> None:
    """In a process of its own, since all its children are meant."""
    script = (
        "import os, subprocess, sys\n"
        "from benchmarks import runs\n"
        "runs.adopt_orphans()\n"
        "left = subprocess.run(['sh', '-c', 'sleep 60 >&- & echo $!'], stdout=subprocess.PIPE)\n"
        "os.kill(int(left.stdout), 0)\n"
        "runs.end_orphans()\n"
        "try:\n"
        "    os.kill(int(left.stdout), 0)\n"
        "except ProcessLookupError:\n"
        "    print('ended')\n"
    )
    paths = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'scripts'}"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=paths, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == b"ended\n"


def test_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="no markers 'figures'"):
        asked.placed("# P\n", "figures", "text")


@pytest.mark.usefixtures("folder")
def test_table_of_a_part_stands_where_the_page_wants_it() -> None:
    runs.write(runs.RECORDS, FREE)
    page = bench.PAGE.read_text() + "<!-- p -->\n\n<!-- end p -->\n"
    after = bench.rendered(page, Sheet({"p": Part("about")}, (ASKED,)))
    assert "| ms | 8 | ms |" in after
    assert bench.rendered(after, Sheet({"p": Part("about")}, (ASKED,))) == after
