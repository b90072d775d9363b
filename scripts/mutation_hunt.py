"""Run the tests that execute a mutant's statement, until one fails; a process for each mutant.

Everything is imported and collected once; each mutant runs in a fork of that warm process, where
the code of its function is exchanged in place. So a mutant costs what its tests cost, and nothing
outlives it. Knows pytest, coverage and forks; nothing of operators.
"""

import gc
import json
import os
import resource
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final, TypeAlias

import pytest
from _pytest.runner import runtestprotocol
from coverage import Coverage
from mutation_plants import ROOT, Mutant, Place, Source

CPU_SECONDS: Final = 10.0  # of tests for one mutant, the quickest first
NO_END: Final = "no end in time, or a crash"
_MEMORY_BYTES_MAX: Final = 6 << 30
_WALL_SECONDS_MAX: Final = 60  # of one test; a deadlock takes no processor time

Live: TypeAlias = dict[Place, list[FunctionType]]


@dataclass(frozen=True)
class Outcome:
    """How the hunt for one mutant ended: `by` names the test that failed, or what ran out."""

    place: Place
    line: int
    change: str
    by: str | None


@dataclass
class Survey:
    """What the tests do with the code as it is: whose statements each runs, and for how long."""

    tests_by_line: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def tests_of(self, path: str, lines: range, seconds_max: float) -> list[int]:
        """Those that run a statement, the quickest first, as many as the time allows."""
        known = self.tests_by_line.get(path, {})
        reached = {test for line in lines for test in known.get(line, ())}
        chosen: list[int] = []
        left = seconds_max
        for test in sorted(reached, key=lambda test: self.seconds[test]):
            left -= self.seconds[test]
            if left < 0 and chosen:
                break
            chosen.append(test)
        return chosen


class _Fork:
    """A child that says JSON lines; its own output goes nowhere."""

    def __init__(self, work: Callable[[Callable[[object], None]], None]) -> None:
        self._pipe, inner = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(inner)
            return
        status = 1
        try:
            work(lambda what: _say(inner, what))
            status = 0
        except BaseException as error:  # noqa: BLE001 - told to the parent, and the end of this process
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)

    def lines(self) -> list[object]:
        """All it says until its end; call it once."""
        with os.fdopen(self._pipe) as said:
            return [json.loads(line) for line in said if line.endswith("\n")]


def _say(pipe: int, what: object) -> None:
    data = (json.dumps(what) + "\n").encode()
    while data:
        data = data[os.write(pipe, data) :]


class Hunt:
    """A pytest plugin whose loop hunts mutants with the tests that were collected."""

    def __init__(
        self,
        package: Path,
        sources: Sequence[Source],
        mutants: Sequence[Mutant],
        note: Callable[[Outcome], None],
        jobs: int,
    ) -> None:
        self.survey = Survey()
        self._package = package
        self._sources = sources
        self._mutants = mutants
        self._note = note
        self._jobs = jobs

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """A failure is enough: nobody reads the smallest example, and none is kept."""
        from hypothesis import Phase, settings  # noqa: PLC0415 - pytest wants to import it first

        phases = (Phase.explicit, Phase.generate)
        gate = settings.get_profile("gate")
        settings.register_profile("mutation", parent=gate, database=None, phases=phases)
        settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Survey, then hunt."""
        if session.testsfailed:
            raise session.Interrupted("tests cannot be collected")
        fork = _Fork(lambda say: _watch(session.items, self._package, say))
        self.survey = _read(fork.lines())  # before its end: a pipe holds less than it says
        os.waitpid(fork.pid, 0)
        assert len(self.survey.seconds) == len(session.items), "the survey broke off"
        if not self.survey.failed:
            live = _live_functions(self._package)
            gc.freeze()
            self._control(session.items, live)
            self._hunt(session.items, live)
        return True

    def _control(self, items: list[pytest.Item], live: Live) -> None:
        """Exchange every function for what it was: a test that fails then would prove nothing."""
        same = {place: code for source in self._sources for place, code in source.codes.items()}
        fork = _Fork(lambda say: _stand_in(same, items, live, say))
        lines = fork.lines()
        os.waitpid(fork.pid, 0)
        assert lines == [""], f"fails without a mutant: {lines}"

    def _hunt(self, items: list[pytest.Item], live: Live) -> None:
        running: dict[int, tuple[_Fork, Mutant]] = {}
        for mutant in self._mutants:
            tests = self.survey.tests_of(mutant.place.path, mutant.lines, CPU_SECONDS)
            chosen = [(items[test], 20 * self.survey.seconds[test] + 3) for test in tests]
            fork = _Fork(partial(_try, mutant, chosen, live))
            running[fork.pid] = (fork, mutant)
            if len(running) >= self._jobs:
                self._take_one(running)
        while running:
            self._take_one(running)

    def _take_one(self, running: dict[int, tuple[_Fork, Mutant]]) -> None:
        pid, _ = os.waitpid(-1, 0)
        fork, mutant = running.pop(pid)
        lines = fork.lines()
        assert lines, f"no mutant was made of {mutant.place}"
        if lines[0] is not None:
            by = lines[1] if len(lines) > 1 else NO_END
            self._note(Outcome(mutant.place, mutant.lines.start, str(lines[0]), str(by) or None))


def _watch(items: list[pytest.Item], package: Path, say: Callable[[object], None]) -> None:
    """Run each test once; say its seconds, whether it failed, and the statements it ran."""
    coverage = Coverage(
        data_file=None, config_file=False, include=[f"*/consensus/{package.name}/*"]
    )
    coverage.start()
    for index, item in enumerate(items):
        coverage.switch_context(str(index))
        begin = time.process_time()
        failed = _fails(item, items[index + 1] if index + 1 < len(items) else None)
        say(["test", time.process_time() - begin, item.nodeid if failed else ""])
    coverage.stop()
    data = coverage.get_data()
    for path in data.measured_files():
        name = str(Path(path).resolve().relative_to(ROOT))
        for line, contexts in data.contexts_by_lineno(path).items():
            say(["line", name, line, [int(each) for each in contexts if each]])


def _read(lines: Iterable[object]) -> Survey:
    survey = Survey()
    for line in lines:
        match line:
            case ["test", float(seconds), str(failed)]:
                survey.seconds.append(seconds)
                survey.failed += [failed] if failed else []
            case ["line", str(path), int(number), list(tests)]:
                survey.tests_by_line.setdefault(path, {}).setdefault(number, []).extend(tests)
            case _:
                raise AssertionError(line)
    return survey


def _try(
    mutant: Mutant,
    tests: list[tuple[pytest.Item, float]],
    live: Live,
    say: Callable[[object], None],
) -> None:
    """Say what the mutant changes, then the test that fails with it, or nothing."""
    planted = mutant.plant()
    say(None if planted is None else planted.change)
    if planted is None:
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES_MAX, _MEMORY_BYTES_MAX))
    for function in live.get(planted.place, ()):
        function.__code__ = planted.code
    for index, (item, seconds) in enumerate(tests):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # the signal ends the process
        signal.alarm(_WALL_SECONDS_MAX)
        if _fails(item, tests[index + 1][0] if index + 1 < len(tests) else None):
            say(item.nodeid)
            return
    say("")


def _stand_in(
    codes: dict[Place, CodeType],
    items: list[pytest.Item],
    live: Live,
    say: Callable[[object], None],
) -> None:
    """Say the first test that fails although each function has the code it had, or nothing."""
    for place, code in codes.items():
        for function in live.get(place, ()):
            function.__code__ = code
    for index, item in enumerate(items):
        if _fails(item, items[index + 1] if index + 1 < len(items) else None):
            say(item.nodeid)
            return
    say("")


def _fails(item: pytest.Item, following: pytest.Item | None) -> bool:
    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=following))


def _live_functions(package: Path) -> Live:
    """Every function of the package that is in memory, by its place; a copy is one more."""
    found: defaultdict[tuple[str, str], list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and package in (path := _real(each)).parents:
            found[str(path.relative_to(ROOT)), each.__code__.co_qualname].append(each)
    live: Live = defaultdict(list)
    for (path_text, name), functions in found.items():
        lines = sorted({each.__code__.co_firstlineno for each in functions})
        for each in functions:
            live[Place(path_text, name, lines.index(each.__code__.co_firstlineno))].append(each)
    return live


@cache
def _resolved(name: str) -> Path:
    return Path(name).resolve()


def _real(function: FunctionType) -> Path:
    return _resolved(function.__code__.co_filename)
