"""`prsm generation trace` and `end`: bars on a terminal, a table on a pipe, verbatim as JSON."""

import json

import msgspec

from prsm.node.cli.generations import waterfall
from prsm.node.rpc.methods.generation import GenerationInfo, GenerationStep, GenerationTrace
from tests.tools.rpc_node import sample
from tests.tools.served import Served

NAME, JOB = "0x" + "ab" * 32, "0x" + "cd" * 32
LOST, TOOK = "12D3" + "K" * 42 + "lost01", "12D3" + "K" * 42 + "took02"
SHUT = "12D3" + "K" * 42 + "shut03"
TRACE = GenerationTrace(
    generation_id=NAME,
    state="running",
    is_over=False,
    jobs=(JOB,),
    steps=(
        GenerationStep("plan", 0, 100),
        GenerationStep("open", 100, 200, stage=0, peer="home"),
        GenerationStep("open", 100, 200, stage=1, peer=LOST, why="silent for 5 s\x1b[2J"),
        GenerationStep("work", 200, 300, stage=1, peer=LOST, why="silent for 5 s\x1b[2J"),
        GenerationStep("open", 300, 310, stage=1, peer=SHUT, why="too full"),
        GenerationStep("work", 320, None, stage=1, peer=TOOK),
        GenerationStep("run", 200, 400),
    ),
)


def test_bars_of_stages_name_their_worker_and_why_it_was_lost_once() -> None:
    first, *lines = waterfall(msgspec.to_builtins(TRACE), 106)
    assert first == "generation 0xabababab..  running  400 ms"
    bars = [line.split("|")[1] for line in lines if "|" in line]
    assert bars == [
        "=" * 10 + " " * 30,
        " " * 10 + "=" * 10 + " " * 20,
        " " * 10 + "=" * 10 + " " * 20,
        " " * 20 + "=" * 10 + " " * 10,
        " " * 30 + "=" + " " * 9,
        " " * 32 + "-" * 8,
        " " * 20 + "=" * 20,
    ]
    text = "\n".join(lines)
    assert "  stage 0 home open" in text
    assert "  stage 1 took02 work" in text
    assert "goes on from 320" in text
    assert [line.rpartition("  ")[2] for line in lines if line.endswith("lost")] == ["lost"] * 2
    assert text.count("silent for 5 s\\x1b[2J") == text.count("too full") == 1
    assert "\x1b" not in text
    assert lines[-1] == f"paid as the job {JOB}"


def test_on_a_pipe_the_steps_are_a_table_and_json_is_the_answer(served: Served) -> None:
    served.node.answers["infer_getTrace"] = TRACE
    result = served.run("generation", "trace", NAME)
    assert result.exit_code == 0, result.stderr
    heading, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert heading == ["step", "began_ms", "ended_ms", "stage", "peer", "why"]
    assert [row[0] for row in rows] == [step.step for step in TRACE.steps]
    told = served.run("generation", "trace", NAME, "--json")
    assert json.loads(told.stdout) == json.loads(msgspec.json.encode(TRACE))
    assert {params.generation_id for _, params in served.node.calls} == {NAME}
    assert served.run("generation", "trace", "0x12").exit_code == 2


def test_a_generation_is_ended_and_a_finished_one_says_how_to_see_its_steps(
    served: Served,
) -> None:
    assert served.run("generation", "end", NAME).exit_code == 0
    assert served.node.calls[-1][0] == "infer_endGeneration"
    done = msgspec.structs.replace(sample(GenerationInfo), is_over=True, generation_id=NAME)
    served.node.answers["infer_generate"] = done
    assert f"prsm generation trace {NAME}" in served.run("generate", "m", "hi").stderr
