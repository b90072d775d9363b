"""`prsm ask`: passages by nearness, an answer from them, never more than the budget."""

import json
import struct
from pathlib import Path

import anyio.lowlevel
import msgspec
import pytest

from prsm.node.rpc.methods.chat import PromptText
from prsm.node.rpc.methods.generation import GenerationInfo
from prsm.node.rpc.methods.offers import JobPlan
from prsm.node.rpc.methods.registry import Found, FoundModel
from prsm.node.rpc.methods.work import Job, JobFault, JobResult, TensorText
from prsm.protocol.errors import LocalError
from tests.tools.rpc_node import sample
from tests.tools.served import Served

NOTES = "The freezer alarms at minus 70.\n\n  Order primers before Friday.\x1b[2J\n"
QUESTION = "How cold?"
JOB, NAME = "0x" + "ab" * 32, "0x" + "cd" * 32


class NoForm(LocalError):
    """As a node refuses a model without a form of conversations."""

    reason = "no_chat_form"


@pytest.fixture
def notes(tmp_path: Path) -> str:
    path = tmp_path / "notes.txt"
    path.write_text(NOTES, encoding="utf-8")
    return str(path)


def reads(served: Served, *rows: tuple[float, ...], paid: str = "400") -> None:
    """Let the job that reads give these vectors: of the question, then of each passage."""
    data = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
    shape = (len(rows), len(rows[0]))
    output = TensorText("sentence_embedding", "f32", shape, "0x" + data.hex())
    done = msgspec.structs.replace(
        sample(Job), job_id=JOB, state="done", is_over=True, paid=paid, error=None
    )
    served.node.answers["infer_run"] = done
    served.node.answers["job_getResult"] = msgspec.structs.replace(
        sample(JobResult), job_id=JOB, rows=len(rows), outputs=(output,)
    )


def answers(served: Served, *texts: str, stops: tuple[str, ...] = ()) -> None:
    """Let a model say these parts of a text, one reading each."""
    prompt = msgspec.structs.replace(sample(PromptText), prompt="<prompt>", stops=stops)
    served.node.answers["model_getPrompt"] = prompt
    info = msgspec.structs.replace(
        sample(GenerationInfo), generation_id=NAME, is_over=False, text="", locked="50"
    )
    served.node.answers["infer_generate"] = info
    left = list(texts)

    async def before() -> None:
        await anyio.lowlevel.checkpoint()
        served.node.answers["infer_readTokens"] = msgspec.structs.replace(
            info, text=left.pop(0), is_over=not left
        )

    served.node.before["infer_readTokens"] = before


def asked(served: Served, method: str) -> list[object]:
    return [msgspec.to_builtins(params) for name, params in served.node.calls if name == method]


def test_lines_of_a_file_are_told_by_nearness_with_their_place(served: Served, notes: str) -> None:
    reads(served, (1.0, 0.0), (0.0, 2.0), (3.0, 4.0))
    result = served.run("ask", QUESTION, notes, "--budget", "0.5")
    assert result.exit_code == 0, result.stderr
    heading, first, second, _, costs = result.stdout.splitlines()
    assert heading == "cosine\tplace\ttext"
    assert first == f"0.6000\t{notes}:3\tOrder primers before Friday.\\x1b[2J"
    assert second == f"0.0000\t{notes}:1\tThe freezer alarms at minus 70."
    assert costs == "paid 0.0004 FTNS"
    assert f"prsm proof show {JOB[:10]}" in result.stderr
    [sent] = asked(served, "infer_run")
    assert isinstance(sent, dict)
    texts = (QUESTION, "The freezer alarms at minus 70.", "Order primers before Friday.\x1b[2J")
    assert (sent["model"], sent["texts"], sent["max_price"]) == ("minilm", texts, "500000")
    document = json.loads(served.run("ask", QUESTION, notes, "--count", "1", "--json").stdout)
    assert [one["cosine_millionths"] for one in document["passages"]] == [600_000]
    assert (document["answer"], document["job_id"], document["paid"]) == (None, JOB, "400")


def test_without_a_file_the_cards_of_the_network_are_searched(served: Served) -> None:
    card = msgspec.structs.replace(
        sample(FoundModel), ref="digits@1.0.0", summary="reads digits", score_millionths=7
    )
    served.node.answers["model_search"] = msgspec.structs.replace(sample(Found), items=(card,))
    document = json.loads(served.run("ask", "what reads digits?", "--json").stdout)
    assert document["passages"] == [
        {"place": "digits@1.0.0", "text": "reads digits", "cosine_millionths": 7}
    ]
    assert {name for name, _ in served.node.calls} == {"model_search"}


def test_a_model_answers_from_what_was_found_within_what_is_left(
    served: Served, notes: str
) -> None:
    reads(served, (1.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    answers(served, "Minus\x1b ", "70.<end>and", " more", stops=("<end>",))
    words = ("ask", QUESTION, notes, "--model", "gpt", "--count", "1", "--budget", "0.001")
    result = served.run(*words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Minus\N{REPLACEMENT CHARACTER} 70.\n\ncosine\t")
    assert result.stdout.endswith("paid 0.0004 FTNS, locked 0.00005 FTNS\n")
    [talk] = asked(served, "model_getPrompt")
    assert isinstance(talk, dict)
    said = talk["messages"][1]["content"]
    assert said == f"Passages:\n[1] The freezer alarms at minus 70.\n\nQuestion: {QUESTION}"
    [sent] = asked(served, "infer_generate")
    assert isinstance(sent, dict)
    assert (sent["prompt"], sent["max_price"], sent["local"]) == ("<prompt>", "600", False)
    assert asked(served, "infer_endGeneration") == [{"generation_id": NAME}]


def test_budget_that_the_reading_took_leaves_no_answer_but_this_nodes_own(
    served: Served, notes: str
) -> None:
    reads(served, (1.0,), (1.0,), (1.0,))
    answers(served, "Yes.")
    words = ("ask", QUESTION, notes, "--model", "gpt", "--budget", "0.0004")
    refused = served.run(*words)
    assert refused.exit_code != 0
    assert "no answer: nothing is left of the budget" in refused.stderr
    assert refused.stdout.startswith("cosine\tplace\ttext\n1.0000\t")
    document = json.loads(served.run(*words, "--json").stdout)
    assert (document["answer"], document["error"]["reason"]) == (None, "price_over_cap")
    assert len(document["passages"]) == 2
    assert not asked(served, "infer_generate")
    assert served.run(*words, "--local").stdout.startswith("Yes.\n")
    [sent] = asked(served, "infer_generate")
    assert isinstance(sent, dict)
    assert (sent["max_price"], sent["local"]) == (None, True)


def test_a_model_of_no_conversations_is_asked_in_plain_words(served: Served, notes: str) -> None:
    reads(served, (1.0,), (1.0,), (1.0,))
    answers(served, "Yes.")

    async def before() -> None:
        await anyio.lowlevel.checkpoint()
        if len(asked(served, "model_getPrompt")) < 2:
            raise NoForm("the model was not made for conversations")

    served.node.before["model_getPrompt"] = before
    result = served.run("ask", QUESTION, notes, "--model", "gpt")
    assert result.stdout.startswith("Yes.\n")
    assert "plain words" in result.stderr
    forms = [sent["form"] for sent in asked(served, "model_getPrompt") if isinstance(sent, dict)]
    assert forms == ["own", "plain"]


def test_what_gives_no_vectors_or_failed_is_refused_and_an_absent_file_named(
    served: Served, notes: str, tmp_path: Path
) -> None:
    reads(served, (1.0,), (1.0,))
    refused = served.run("ask", QUESTION, notes, "--reader", "digits")
    assert (refused.exit_code, "digits gives f32 [2, 1] for 3 texts" in refused.stderr) == (2, True)
    failed = msgspec.structs.replace(
        sample(Job), state="failed", is_over=True, error=JobFault("no_quorum", "too few agree")
    )
    served.node.answers["infer_run"] = failed
    assert "too few agree" in served.run("ask", QUESTION, notes).stderr
    absent = served.run("ask", QUESTION, str(tmp_path / "none.txt"))
    assert (absent.exit_code, "cannot be read: No such file" in absent.stderr) == (2, True)


def test_a_vector_of_no_direction_or_no_number_is_near_to_nothing(
    served: Served, notes: str
) -> None:
    reads(served, (1.0, 1.0), (0.0, 0.0), (float("nan"), 1.0))
    document = json.loads(served.run("ask", QUESTION, notes, "--json").stdout)
    assert [one["cosine_millionths"] for one in document["passages"]] == [0, 0]


def test_dry_run_plans_and_asks_for_prices_and_locks_nothing(served: Served, notes: str) -> None:
    result = served.run("ask", QUESTION, notes, "--model", "gpt", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["dry_run"], document["reading"]["rows"] >= 0) == (True, True)
    assert document["answer"] is not None
    assert [name for name, _ in served.node.calls] == ["infer_plan", "infer_quote"]
    plan = msgspec.structs.replace(
        sample(JobPlan), amount="9000", fees="14000", because=("two workers",)
    )
    served.node.answers["infer_plan"] = plan
    shown = served.run("ask", QUESTION, notes, "--dry-run").stdout
    assert "at most 0.009 FTNS, and fees of about 0.014\n  two workers\n" in shown
    local = served.run("ask", "what?", "--dry-run", "--json", "--model", "gpt", "--local")
    assert json.loads(local.stdout) == {"dry_run": True, "reading": None, "answer": None}
