"""`prsm ask`: what of one's own texts, or of the cards of models, is nearest to a question.

With --model a model answers from what was found. Each line of the files is a passage; lines and
question become vectors in one job of several workers, the search itself happens here.

Knows: the methods it calls. Must not know: how they are answered, numpy.
"""

import math
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import msgspec

from prsm.node.cli.costs import OverCap
from prsm.node.cli.generate import printable
from prsm.node.cli.readable import cell
from prsm.node.cli.render import show, show_fields, show_table
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.verbs import INPUT_BYTES_MAX, lines_of, require_done, submitted, wait_job
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.reasons import entry_for
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.ids import format_ftns, parse_ftns

READER: Final = "minilm"
_WAIT_MS: Final = 2_000  # one reading holds the connection so long
_ORDER: Final = (
    "Answer the question from the passages alone, in a few sentences. "
    "If they do not hold the answer, say so."
)


class NoVectors(LocalError):
    """The output of the model that reads is no vector for each text."""

    reason = "no_embedding"


class Passage(NamedTuple):
    """A text that may hold the answer, and where it is from."""

    place: str  # FILE:LINE, or name@version of a card
    text: str
    cosine_millionths: int = 0


@click.command("ask")
@click.argument("question")
@click.argument("files", metavar="[FILE|-]…", nargs=-1)
@click.option("--reader", default=READER, show_default=True, help="Turns texts into vectors.")
@click.option("--model", help="Let this one answer from the passages.")
@click.option("--count", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1, 4096), default=256, show_default=True)
@click.option("--local", is_flag=True, help="This node alone answers; nothing is locked for it.")
@click.option(
    *("--budget", "--max-price", "budget"),
    metavar="FTNS",
    help="Lock at most this much for all of it; refused above.",
)
@click.option("--dry-run", is_flag=True, help="Say what it costs; lock nothing.")
@pass_session
def ask(session: Session, /, question: str, files: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401 - click's options
    """What in FILEs (`-`: standard input), one passage a line, is nearest to QUESTION.

    Without a FILE the cards of models and datasets on the network are searched, which costs
    nothing. With --model the passages found are given to a model, which answers from them; what it
    says is its own, the passages stand beside it.
    """
    budget = None if options["budget"] is None else parse_ftns(options["budget"])
    session.timeout_s = max(session.timeout_s, 120.0)
    passages = list(_passages(files))
    reading = {"model": options["reader"], "texts": [question, *(one.text for one in passages)]}
    if options["dry_run"]:
        _answer_cost(session, reading if passages else None, options)
        return
    job: dict[str, Any] = {}
    if passages:
        job, found = _nearest(session, reading, passages, budget)
    else:
        found = _cards(session, question, options["count"])
    found = sorted(found, key=lambda one: -one.cosine_millionths)[: options["count"]]
    left = None if budget is None else budget - int(job.get("paid", "0"))
    told: dict[str, Any] = {}
    failed: PrsmError | RpcError | None = None
    if options["model"] and found:
        try:
            told = _answered(session, question, found, options, left)
        except (PrsmError, RpcError) as error:
            failed = error  # what was found is paid for, and shown all the same
    document = {
        "question": question,
        "answer": told.get("text"),
        "passages": [one._asdict() for one in found],
        "job_id": job.get("job_id"),
        "paid": job.get("paid", "0"),
        "generation_id": told.get("generation_id"),
        "locked": told.get("locked", "0"),
        "error": failed and {"reason": failed.reason, "what": failed.what, "hint": failed.hint},
    }
    session.answer_value(document, _show)
    if job:
        session.note(f"receipt of the reading: prsm proof show {job['job_id'][:10]}")
    if failed is not None:
        session.note(f"no answer: {failed.what}\ntry: {failed.hint}")
        click.get_current_context().exit(int(entry_for(failed.reason).exit_code))


def _passages(files: Sequence[str]) -> Iterator[Passage]:
    """Each line that holds something, with its file and number."""
    for name in files:
        if name == "-":
            text, place = sys.stdin.read(INPUT_BYTES_MAX + 1), "standard input"
        else:
            try:
                text = Path(name).read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                raise click.UsageError(f"{name} cannot be read: {error.strerror}") from error
            place = name
        lines_of(text, place)  # refuses what is empty or too large
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield Passage(f"{place}:{number}", line.strip())


def _nearest(
    session: Session, reading: dict[str, Any], passages: Sequence[Passage], budget: int | None
) -> tuple[dict[str, Any], list[Passage]]:
    """The job that read question and passages, and the passages with how near they are."""
    capped = {} if budget is None else {"max_price": str(budget)}
    raw = submitted(session, {**reading, **capped})
    job = wait_job(session, msgspec.json.decode(raw, type=dict[str, Any]))
    require_done(job)
    result = session.ask("job_getResult", {"job_id": job["job_id"]})
    asked, *read = _vectors(result["outputs"], 1 + len(passages), str(reading["model"]))
    near = (round(1_000_000 * _cosine(asked, one)) for one in read)
    return job, [
        one._replace(cosine_millionths=score) for one, score in zip(passages, near, strict=True)
    ]


def _vectors(outputs: Any, rows: int, model: str) -> list[tuple[float, ...]]:  # noqa: ANN401 - any JSON
    """The first output as one vector a row: float32 (rows, width).

    Raises:
        NoVectors: it is something else.
    """
    first: Mapping[str, Any] = outputs[0] if outputs else {}
    shape = first.get("shape", ())
    if first.get("dtype") != "f32" or len(shape) != 2 or shape[0] != rows or not shape[1]:
        raise NoVectors(
            f"{model} gives {first.get('dtype', 'nothing')} {list(shape)} for {rows} texts",
            hint=f"name a sentence encoder such as {READER} with --reader",
        )
    data = bytes.fromhex(first["data"].removeprefix("0x"))
    return list(struct.iter_unpack(f"<{shape[1]}f", data))


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Between -1 and 1; 0 where a vector has no direction."""
    product = sum(x * y for x, y in zip(one, other, strict=True))
    sizes = math.hypot(*one) * math.hypot(*other)
    return product / sizes if sizes and math.isfinite(product) else 0.0


def _cards(session: Session, question: str, count: int) -> list[Passage]:
    found = session.ask("model_search", {"query": question, "limit": count})["items"]
    return [Passage(one["ref"], one["summary"], one["score_millionths"]) for one in found]


def _answered(
    session: Session,
    question: str,
    found: Sequence[Passage],
    options: Mapping[str, Any],
    left: int | None,
) -> dict[str, Any]:
    """What the model says; its text ends before the first of its stops.

    Args:
        session: whose node is asked.
        question: as typed.
        found: passages, the nearest first.
        options: of the command.
        left: of the budget, in micro-FTNS; None: there is none.
    """
    if left is not None and left <= 0 and not options["local"]:
        raise OverCap("nothing is left of the budget for an answer", hint="give more with --budget")
    listed = "\n".join(f"[{number}] {one.text}" for number, one in enumerate(found, 1))
    said = f"Passages:\n{listed}\n\nQuestion: {question}"
    messages = [{"role": "system", "content": _ORDER}, {"role": "user", "content": said}]
    prompt = _prompt(session, {"model": options["model"], "messages": messages})
    asked = {"model": prompt["model"], "prompt": prompt["prompt"], "local": options["local"]}
    asked |= {"max_tokens": options["max_tokens"]}
    capped = {} if left is None or options["local"] else {"max_price": str(left)}
    info = session.ask("infer_generate", {**asked, **capped})
    return {**info, "text": _read(session, info, prompt["stops"])}


def _prompt(session: Session, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        return session.ask("model_getPrompt", asked)
    except RpcError as error:
        if error.reason != "no_chat_form":
            raise
    session.note(f"{asked['model']} was not made for conversations: it is asked in plain words")
    return session.ask("model_getPrompt", {**asked, "form": "plain"})


def _read(session: Session, info: dict[str, Any], stops: Sequence[str]) -> str:
    """All of the text, up to the first stop."""
    named, text = {"generation_id": info["generation_id"]}, str(info["text"])
    try:
        while not info["is_over"]:
            if any(stop in text for stop in stops):
                session.ask("infer_endGeneration", named)
                break
            info = session.ask("infer_readTokens", {**named, "wait_ms": _WAIT_MS})
            text += str(info["text"])
    except KeyboardInterrupt:
        session.ask("infer_endGeneration", named)
        session.note("\nthe answer is ended; what was done is paid")
        raise
    ends = [text.find(stop) for stop in stops if stop in text]
    return text[: min(ends, default=len(text))].strip()


def _answer_cost(
    session: Session, reading: dict[str, Any] | None, options: Mapping[str, Any]
) -> None:
    """What it would cost: the plan of the reading, and prices of workers for the answer."""
    plan = reading and msgspec.json.decode(submitted(session, reading, "infer_plan"))
    quoted = {"model": options["model"], "rows": options["max_tokens"]}
    is_paid = options["model"] and not options["local"]
    quote = session.ask("infer_quote", quoted) if is_paid else None
    session.answer_value({"dry_run": True, "reading": plan, "answer": quote}, _show_cost)


def _show_cost(document: dict[str, Any]) -> None:
    plan, quote = document["reading"], document["answer"]
    amount, fees = (format_ftns(int(plan[n])) if plan else "0" for n in ("amount", "fees"))
    told = f"at most {amount} FTNS, and fees of about {fees}"
    show_fields({"dry_run": True, "reading": told})
    for line in plan["because"] if plan else ():
        print(f"  {cell('because', line)}")
    if quote is not None:
        print("\nanswer")
        show(quote)


def _show(document: dict[str, Any]) -> None:
    if document["answer"] is not None:
        print(printable(document["answer"]) + "\n")
    rows = [
        {"cosine": f"{one['cosine_millionths'] / 1e6:.4f}", **one} for one in document["passages"]
    ]
    names = ("cosine", "place", "text")
    show_table([{name: row[name] for name in names} for row in rows])
    costs = [
        f"{word} {format_ftns(int(document[word]))} FTNS"
        for word in ("paid", "locked")
        if document[word] != "0"
    ]
    if costs:
        print("\n" + ", ".join(costs))
