"""`prsm generate`: text on standard output as its tokens come.

Ctrl-C ends the generation; its stages stop at once. Knows: the methods it calls. Must not know:
how they are answered.
"""

import sys
from typing import Any, Final

import click

from prsm.node.cli.failures import Usage
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.words import Number
from prsm.protocol.ids import parse_ftns

_WAIT_MS: Final = 2_000  # one reading holds the connection so long
_PROMPT_CHARS_MAX: Final = 1024 * 1024


@click.command("generate")
@click.argument("model")
@click.argument("prompt", metavar="[PROMPT|-]", required=False)
@click.option("--max-tokens", type=click.IntRange(1, 65_536), default=128, show_default=True)
@click.option("--temperature", type=Number(0, 100), default=0.0, help="0: no chance.")
@click.option("--top-k", type=click.IntRange(min=0), default=0, help="Of so many tokens; 0: all.")
@click.option("--top-p", type=Number(0.001, 1), default=1.0, help="Of so much of them.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the draws.")
@click.option("--stages", type=click.IntRange(1, 32), default=1, help="Parts on several peers.")
@click.option("--stages-here", type=click.IntRange(0, 32), default=0, help="First parts done here.")
@click.option("--local", is_flag=True, help="This node alone; nothing is locked.")
@click.option("--no-spare", is_flag=True, help="Lock no second route for a stage that is lost.")
@click.option("--replay", type=click.Choice(["steps", "prefill"]), help="For a stage that is lost.")
@click.option("--max-price", metavar="FTNS", help="Lock at most this much; refused above.")
@click.option("--dry-run", is_flag=True, help="Ask workers for their prices; lock nothing.")
@pass_session
def generate(session: Session, /, model: str, prompt: str | None, **options: Any) -> None:  # noqa: ANN401 - click's options
    """Let MODEL go on from PROMPT (`-`: standard input); the text comes token by token."""
    if options["dry_run"]:
        asked = {"model": model, "rows": options["max_tokens"]}
        session.answer(session.call("infer_quote", asked))
        return
    params: dict[str, object] = {
        "model": model,
        "prompt": _read_prompt(prompt),
        "max_tokens": options["max_tokens"],
        "temperature": round(options["temperature"] * 1000),
        "top_k": options["top_k"],
        "top_p": round(options["top_p"] * 1000),
        "seed": options["seed"],
        "stages": options["stages"],
        "home": options["stages_here"],
        "local": options["local"],
        "spare": not options["no_spare"],
    }
    if options["replay"]:
        params["replay"] = options["replay"]
    if options["max_price"] is not None:
        params["max_price"] = str(parse_ftns(options["max_price"]))
    session.timeout_s = max(session.timeout_s, 90.0)
    last = _follow(session, session.ask("infer_generate", params))
    if session.json:
        session.answer_value(last)
        return
    _show_bill(session, last)


def _follow(session: Session, info: dict[str, Any]) -> dict[str, Any]:
    """Write text as it comes; the last word about the generation, with all of the text."""
    name, whole = info["generation_id"], []

    def show() -> None:
        whole.append(str(info["text"]))
        if not session.json:
            sys.stdout.write(printable(whole[-1]))
            sys.stdout.flush()

    try:
        show()
        while not info["is_over"]:
            info = session.ask("infer_readTokens", {"generation_id": name, "wait_ms": _WAIT_MS})
            show()
    except KeyboardInterrupt:
        session.ask("infer_endGeneration", {"generation_id": name})
        session.note("\nthe generation is ended; what was done is paid")
        raise
    if not session.json:
        sys.stdout.write("\n")
    return {**info, "text": "".join(whole)}


def _show_bill(session: Session, info: dict[str, Any]) -> None:
    """What it took, on standard error."""
    tokens, spent = int(info["tokens"]), int(info["tokens_ms"])
    each = spent / (tokens - 1) if tokens > 1 else 0.0
    session.note(
        f"{tokens} tokens ({info['finish']}), first after {info['first_token_ms']} ms, "
        f"then {each:.1f} ms each; opened in {info['opened_ms']} ms"
    )
    for each_lost in info["recoveries"]:
        session.note(
            f"stage {each_lost['stage']} was lost and taken over: {each_lost['positions']} "
            f"positions replayed in {each_lost['replay_ms']} ms"
        )
    session.note(f"its steps: prsm generation trace {info['generation_id']}")


def _read_prompt(given: str | None) -> str:
    text = given
    if given == "-" or (given is None and not sys.stdin.isatty()):
        text = sys.stdin.read(_PROMPT_CHARS_MAX + 1)
    if not text:
        raise Usage("no prompt", hint='prsm generate MODEL "Once upon a time"')
    if len(text) > _PROMPT_CHARS_MAX:
        raise Usage(f"a prompt of more than {_PROMPT_CHARS_MAX} characters")
    return text


def printable(text: str) -> str:
    """Text of a model without what would move a terminal's cursor; lines and tabs stay."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )
