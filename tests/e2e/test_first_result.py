"""From a fresh home to a verified result: three commands, each of which says the next one."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import prsm

pytestmark = [pytest.mark.e2e, pytest.mark.long]


class Person:
    """Types `prsm WORDS` in an empty folder, with an empty home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {key: one for key, one in os.environ.items() if not key.startswith("PRSM_")}
        self.environ |= {"HOME": str(folder), "PYTHONPATH": str(Path(prsm.__file__).parents[1])}

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "prsm.node.cli.main", *words]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=self.environ,
            cwd=self.folder,
            timeout=150,
        )


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    person = Person(tmp_path)
    yield person
    person.type("stop")


def test_three_commands_from_nothing_to_a_verified_result(person: Person) -> None:
    born = person.type("init", "--dev")
    assert born.returncode == 0, born.stderr
    assert "next: prsm start --detach" in born.stderr
    started = person.type("start", "--detach", "--timeout", "100")
    assert started.returncode == 0, started.stderr
    assert re.search(r'next: prsm run \w+ "a sentence" --proof receipt.json', started.stderr)
    words = ("run", "encoder", "a sentence", "--proof", "receipt.json")
    run = person.type(*words, "--timeout", "100")
    assert run.returncode == 0, run.stderr
    assert "verified: the receipt in receipt.json holds" in run.stderr
    again = person.type("proof", "verify", "receipt.json")
    assert again.returncode == 0, again.stderr
    shown = person.type("job", "ls", "--json")
    [job] = json.loads(shown.stdout)["items"]
    assert job["job_id"] in run.stdout
    assert job["job_id"] in (person.folder / "receipt.json").read_text(encoding="utf-8")
    assert sum(worker["verdict"] == "agreed" for worker in job["workers"]) >= 2
    trace = json.loads(person.type("job", "trace", job["job_id"], "--json").stdout)
    assert [step["step"] for step in trace["steps"] if step["unit"] is None] == [
        *("plan", "lock", "run", "settle")
    ]
    assert sum(step["step"] == "work" for step in trace["steps"]) >= 2
    stopped = person.type("stop")
    lines = person.type("job", "logs", job["job_id"][:10]).stdout
    assert "job: done" in lines
    assert "lab=lab" in lines  # who worked on it wrote about it, too
    assert "labs\t3" in stopped.stdout
    assert person.type("doctor").returncode == 0
    gone = person.type("destroy", "--confirm", "node")
    assert gone.returncode == 0, gone.stderr
    assert not (person.folder / ".prsm").exists()
