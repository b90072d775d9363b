"""The everyday verb: `run`.

Ctrl-C in `run` ends the waiting, not the job; the command says how to go on.

Knows: the methods it calls. Must not know: how they are answered.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.building import build_and_add, is_recipe
from prsm.node.cli.failures import Usage
from prsm.node.cli.outputs import OUT_FILE
from prsm.node.cli.proof import verdict_on
from prsm.node.cli.render import show, show_fields, show_table
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.words import Number
from prsm.node.home import write_private
from prsm.node.rpc.client import RpcError
from prsm.node.rpc.faults import fault_told
from prsm.protocol.ids import parse_ftns

_DEADLINE_S_MAX: Final = 86_400  # as infer_run takes it
_WAIT_MS: Final = 2_000  # one look at a job holds the connection so long
_PASSED_ON: Final = ("replicas", "stages", "spread", "stages_here", "redundancy", "spares")
INPUT_BYTES_MAX: Final = 4 * 1024 * 1024


@click.command("run")
@click.argument("model")
@click.argument("source", metavar="[TEXT|FILE|-]…", nargs=-1)
@click.option("--replicas", type=click.IntRange(1, 2), help="Workers of each part.")
@click.option("--stages", type=int, help="Cut the model into so many parts.")
@click.option("--spread", type=int, help="Do so many parts of the rows side by side.")
@click.option("--stages-here", type=int, help="Compute so many first stages on this node.")
@click.option(
    "--redundancy",
    type=click.Choice(["value", "1-of-1", "2-of-2", "2-of-3", "3-of-4", "3-of-5"]),
    help="Who must agree; 1-of-1 is checked by sampling, value goes by the price.",
)
@click.option("--spares", type=int, help="Replacements of lost workers the escrow pays for.")
@click.option("--dry-run", is_flag=True, help="Plan it, say what it costs and why; lock nothing.")
@click.option("--max-price", metavar="FTNS", help="Lock at most this much; refused above.")
@click.option(
    "--deadline",
    type=Number(1, _DEADLINE_S_MAX),
    metavar="SECONDS",
    help="Settled or refunded by then.",
)
@click.option(
    "--proof", type=OUT_FILE, metavar="FILE", help="Write the receipt here, and check it."
)
@click.option("--no-wait", is_flag=True, help="Answer with the job at once.")
@click.option("--cancel-on-interrupt", is_flag=True, help="Ctrl-C ends the job as well.")
@pass_session
def run(session: Session, /, model: str, source: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401 - click's options
    """Run MODEL over rows: texts, a file with one text a line, a .json file of tensors, or `-`."""
    params: dict[str, object] = {"model": model, **_read_rows(source)}
    params |= {name: options[name] for name in _PASSED_ON if options[name] is not None}
    if options["max_price"] is not None:
        params["max_price"] = str(parse_ftns(options["max_price"]))
    if options["deadline"] is not None:
        params["deadline_ms"] = int(options["deadline"] * 1000)
    session.timeout_s = max(session.timeout_s, 90.0)
    if options["dry_run"]:
        session.answer(submitted(session, params, "infer_plan"), _show_plan)
        return
    raw = submitted(session, params)
    job = msgspec.json.decode(raw, type=dict[str, Any])
    job_id = str(job["job_id"])
    if options["no_wait"]:
        session.answer(raw)
        session.note(f"follow it with: prsm job show {job_id}")
        return
    job = wait_job(session, job, cancel=options["cancel_on_interrupt"])
    finish(session, job, options["proof"])


def submitted(session: Session, params: dict[str, object], method: str = "infer_run") -> bytes:
    """Ask for the job; a model that ships by recipe and is not there is made first."""
    try:
        return session.call(method, params)
    except RpcError as error:
        if error.reason == "too_few_peers":
            _refuse_alone(session, error)
        name = str(params["model"])
        if error.reason != "model_not_found" or not is_recipe(name):
            raise
    if not session.ask("node_getStatus")["development"]:
        session.confirm(f"{name} is not on this node; make it by its recipe?")
    session.note(f"{name} is not on this node: it is made by its recipe and added")
    build_and_add(session, name)
    return session.call(method, params)


def _refuse_alone(session: Session, error: RpcError) -> None:
    """Say where workers come from, to somebody whose node has nobody yet."""
    from prsm.node.cli.labs import ALONE

    status = session.ask("node_getStatus")
    if not status["peers"]:
        own = status["development"]
        hint = ALONE if own else "no peer is linked: prsm net peers, prsm doctor, prsm help join"
        what = f"{error.what}: this node is alone"
        raise RpcError(error.code, what, {**error.data, "hint": hint}) from error


def finish(session: Session, job: dict[str, Any], proof: Path | None) -> None:
    """Answer with the outputs of a job that is over.

    Raises:
        RpcError: it failed, with its own reason.
    """
    job_id = str(job["job_id"])
    require_done(job)
    raw = session.call("job_getResult", {"job_id": job_id})
    session.answer(raw, lambda result: _show_result(job, result))
    verdict = _check_proof(session, job_id, proof) if proof else None
    if verdict == 0:
        session.note(f"verified: the receipt in {proof} holds, from the genesis alone")
        session.note(f"next: prsm proof verify {proof} on any machine, or prsm help verify")
    elif verdict is not None:
        session.note(f"the receipt in {proof} was refused: prsm proof verify {proof}")
        click.get_current_context().exit(verdict)
    else:
        session.note(f"its receipt: prsm proof show {job_id[:10]} --output receipt.json")


def require_done(job: dict[str, Any]) -> None:
    """Refuse to go on with a job that is over and not done.

    Raises:
        RpcError: with its own reason.
    """
    if job["state"] != "done":
        fault, job_id = job.get("error") or {}, str(job["job_id"])
        reason = str(fault.get("reason") or "job_failed")
        what = str(fault.get("what") or f"job {job_id} ended as {job['state']}")
        raise fault_told(reason, what, hint=f"prsm job show {job_id}")


def _check_proof(session: Session, job_id: str, file: Path) -> int | None:
    """Write the receipt and have it checked; None where no genesis is at hand to check it from."""
    document = session.call("job_getProof", {"job_id": job_id})
    write_private(file, document + b"\n")
    genesis = session.home.genesis
    if session.node or not genesis.is_file():
        session.note(f"receipt in {file}; check it with: prsm proof verify {file}")
        return None
    return verdict_on(file, ["--genesis", str(genesis)])


def wait_job(session: Session, job: dict[str, Any], *, cancel: bool = False) -> dict[str, Any]:
    """Wait until a job is over; Ctrl-C ends the waiting, with `cancel` the job as well."""
    job_id = str(job["job_id"])
    try:
        while not job["is_over"]:
            if sys.stderr.isatty() and not session.quiet:
                done, rows = job["rows_done"], job["rows"]
                click.echo(f"\r{job['state']:<9} {done}/{rows} rows", nl=False, err=True)
            job = session.ask("job_get", {"job_id": job_id, "wait_ms": _WAIT_MS})
    except KeyboardInterrupt:
        if cancel:
            session.ask("job_cancel", {"job_id": job_id})
            click.echo("\nthe job is ended; what was not settled comes back", err=True)
            raise
        click.echo(f"\nthe job goes on; look at it with: prsm job show {job_id}", err=True)
        raise
    if sys.stderr.isatty() and not session.quiet:
        click.echo("", err=True)
    return job


def _read_rows(source: tuple[str, ...]) -> dict[str, object]:
    """Texts or tensors of the arguments; an argument that names no file is a text itself."""
    if source == ("-",) or (not source and not sys.stdin.isatty()):
        return {"texts": lines_of(sys.stdin.read(INPUT_BYTES_MAX + 1), "standard input")}
    if not source:
        raise Usage("nothing to run the model on", hint='prsm run MODEL "a sentence"')
    texts: list[str] = []
    for word in source:
        path = Path(word)
        if len(word) > 255 or not path.is_file():
            texts.append(word)
        elif path.suffix == ".json":
            if len(source) > 1:
                raise Usage(f"{word} holds tensors; nothing else can stand beside it")
            return {"inputs": _tensors(path)}
        else:
            texts += lines_of(path.read_text(encoding="utf-8", errors="replace"), word)
    return {"texts": texts}


def lines_of(text: str, where: str) -> list[str]:
    """Lines that hold something.

    Raises:
        Usage: too many bytes, or no text.
    """
    if len(text) > INPUT_BYTES_MAX:
        raise Usage(f"{where} is larger than {INPUT_BYTES_MAX} bytes", hint="run it in parts")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise Usage(f"{where} holds no text", hint="write one text a line")
    return lines


def _tensors(path: Path) -> object:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Usage(
            f"{path} is no JSON: {error}", hint="prsm model show REF lists inputs"
        ) from error
    return document["inputs"] if isinstance(document, dict) and "inputs" in document else document


def _show_plan(document: dict[str, Any]) -> None:
    because, units = document.pop("because"), document.pop("units")
    document.pop("considered")  # the sentences say it
    show_fields(document)
    print()
    for line in because:
        print(f"  {line}")
    print()
    show_table([{**unit, "peers": " ".join(unit["peers"]), "accounts": ""} for unit in units])


def _show_result(job: dict[str, Any], result: dict[str, Any]) -> None:
    outputs = result.pop("outputs", [])
    show_fields({**result, "paid": job.get("paid"), "refunded": job.get("refunded")})
    print()
    show([{**one, "data": f"{(len(one['data']) - 2) // 2} bytes"} for one in outputs])
