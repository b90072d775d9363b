"""A program is told of alerts: what it reads, what it never gets, and that nothing waits for it."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from prsm.node.telemetry import pager as paging
from prsm.node.telemetry.alertrules import RULES
from prsm.node.telemetry.alerts import Change
from prsm.node.telemetry.pager import TRIES, WAITING_MAX, Pager

BY_NAME = {rule.name: rule for rule in RULES}
HALTED, SLASHED = BY_NAME["NodeHalted"], BY_NAME["Slashed"]


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Make a program of lines of shell; it stands in a folder whose name has a space."""

    def make(lines: str) -> str:
        path = tmp_path / "a program"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o700)
        return str(path)

    return make


def fires(*, over: bool = False) -> Change:
    return Change(HALTED, is_firing=not over, since_ms=1_700_000_000_000)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


async def call_all(pager: Pager, *changes: Change) -> None:
    """Tell changes, and let the pager do what waits then."""
    for change in changes:
        pager.tell(change)
    await pager._send.aclose()
    with trio.fail_after(20):
        await pager.run()


async def test_program_reads_each_change_and_gets_nothing_of_ours(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    """Arguments arrive as they are: nothing is a shell's word here."""
    out = tmp_path / "out"
    where = shlex.quote(str(out))
    says = f'read line; printf "%s|%s\\n" "$1" "$line" >> {where}'
    path = program(f"{says}; env > {where}.env; pwd > {where}.pwd")
    pager = Pager((path, "$(touch x); *"), "warning", node="lab-1")
    await call_all(pager, fires(), fires(over=True))
    first, second = lines_of(out)
    argument, _, document = first.partition("|")
    assert argument == "$(touch x); *"
    assert json.loads(document) == {
        "node": "lab-1",
        "name": "NodeHalted",
        "severity": "critical",
        "state": "firing",
        "since": "2023-11-14T22:13:20.000Z",
        "text": HALTED.text,
        "runbook": "docs/runbooks/NodeHalted.md",
    }
    assert '"state":"over"' in second
    names = {line.partition("=")[0] for line in lines_of(tmp_path / "out.env")}
    assert names - {"_", "SHLVL", "OLDPWD", "PWD"} == {"PATH", "HOME", "LANG"}
    assert lines_of(tmp_path / "out.pwd") == ["/"]


def test_less_severe_alerts_and_an_empty_vector_call_nobody(tmp_path: Path) -> None:
    for pager in (
        Pager((str(tmp_path / "none"),), "critical", node="n"),
        Pager((), "info", node="n"),
    ):
        pager.tell(Change(SLASHED, is_firing=True, since_ms=0))
        with pytest.raises(trio.WouldBlock):
            pager._receive.receive_nowait()


async def test_program_that_fails_is_tried_again_and_the_next_call_is_made(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    path = program(f"cat >> {shlex.quote(str(out))}; exit 3")
    await call_all(Pager((path,), "info", node="n", pause_s=0), fires(), fires(over=True))
    found = ['"firing"' in line for line in lines_of(out)]
    assert found == [True] * TRIES + [False] * TRIES


async def test_program_that_hangs_is_ended(
    program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "RUN_S_MAX", 0.05)
    pager = Pager((program("exec sleep 600"),), "info", node="n")
    pager.tell(fires())
    with trio.fail_after(20):
        assert "did not end" in await pager._run_once(pager._receive.receive_nowait())


async def test_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    pager = Pager((str(tmp_path / "none"),), "info", node="n")
    pager.tell(fires())
    assert "No such file" in await pager._run_once(pager._receive.receive_nowait())


def test_calls_beyond_the_bound_are_dropped_and_nothing_waits() -> None:
    pager = Pager(("/bin/true",), "info", node="n")
    for _ in range(WAITING_MAX + 5):
        pager.tell(fires())
    assert pager._receive.statistics().current_buffer_used == WAITING_MAX
