"""`prsm job trace` and `retry`: bars below one another, a table on a pipe, the next command."""

import msgspec

from prsm.node.cli.jobs import waterfall
from prsm.node.rpc.methods.work import Job, JobFault, JobStep, JobTrace, JobWorker
from tests.tools.rpc_node import sample
from tests.tools.served import Served

JOB = "0x" + "ab" * 32
WORKER = msgspec.structs.replace(
    sample(JobWorker), role="replica", peer_id="12D3" + "K" * 42 + "tail"
)
LOST = msgspec.structs.replace(WORKER, verdict="lost", why="no answer within 5 s")
TRACE = JobTrace(
    job_id=JOB,
    state="running",
    created="2026-05-01T12:00:00Z",
    is_over=False,
    steps=(
        JobStep("plan", 0, 100),
        JobStep("home", 100, 200, stage=0),
        JobStep("run", 100, None),
        JobStep("work", 100, 400, unit=0, stage=1, attempt=1, worker=LOST),
        JobStep("work", 200, 300, unit=1, stage=1, attempt=2, worker=WORKER),
    ),
    error=JobFault("no_quorum", "too few agree"),
)


def test_bars_begin_and_end_where_the_steps_did() -> None:
    lines = list(waterfall(msgspec.to_builtins(TRACE), 106))
    bars = [line.split("|")[1] for line in lines if "|" in line]
    assert bars == [
        "==========" + " " * 30,
        " " * 10 + "==========" + " " * 20,
        " " * 10 + "-" * 30,
        " " * 10 + "=" * 30,
        " " * 20 + "=" * 10 + " " * 10,
    ]
    text = "\n".join(lines)
    assert "goes on from 100" in text
    assert "unit 0 stage 1 replica KKtail work" in text
    assert "unit 1 stage 1 #2 replica" in text
    assert "no answer within 5 s" in text
    assert "no_quorum: too few agree" in lines[-1]


def test_a_job_of_no_time_has_lines_too() -> None:
    empty = msgspec.structs.replace(TRACE, steps=(JobStep("plan", 0, 0),), error=None)
    assert [line.count("=") for line in waterfall(msgspec.to_builtins(empty), 40)] == [0, 1]


def test_on_a_pipe_the_steps_are_a_table(served: Served) -> None:
    served.node.answers["job_getTrace"] = TRACE
    result = served.run("job", "trace", JOB)
    assert result.exit_code == 0, result.stderr
    heading, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert heading[:4] == ["step", "unit", "stage", "attempt"]
    assert [row[0] for row in rows] == ["plan", "home", "run", "work", "work"]
    assert served.run("job", "trace", JOB, "--json").stdout.startswith('{"job_id"')


def test_retry_answers_with_the_new_job_and_says_how_to_follow_it(served: Served) -> None:
    served.node.answers["job_retry"] = msgspec.structs.replace(sample(Job), job_id=JOB)
    result = served.run("job", "retry", "0x" + "cd" * 32, "--max-price", "0.5")
    assert result.exit_code == 0, result.stderr
    assert f"prsm job wait {JOB}" in result.stderr
    [asked] = [params for name, params in served.node.calls if name == "job_retry"]
    assert msgspec.to_builtins(asked) == {
        "job_id": "0x" + "cd" * 32,
        "max_price": "500000",
        "wait_ms": 0,
    }
