"""`prsm proof`: the receipt of a job, and its check by a program that trusts nobody.

The check runs `testnet/verify_receipt.py` as a process of its own: it imports nothing of prsm, so
a fault here cannot make a bad receipt look good. It needs no running node.

Knows: that program's arguments. Must not know: receipts.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from prsm.node.cli.failures import Usage
from prsm.node.cli.outputs import OUT_FILE
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.words import Words
from prsm.node.home import write_private
from prsm.node.rpc.reasons import Exit
from prsm.protocol.errors import LocalError

VERIFIER: Final = "prsm.testnet.verify_receipt"


class ProofRefused(LocalError):
    """A receipt that does not hold; the text is what the verifier said."""

    reason = "verification_failed"


proof = Words("proof", help="Show and check receipts.")


@proof.command("show")
@click.argument("job_id")
@click.option("--output", "-o", type=OUT_FILE, metavar="FILE", help="Write it here instead.")
@click.option(
    "--epoch", type=click.IntRange(min=0), default=0, help="Begin with the set of this epoch."
)
@pass_session
def show_proof(session: Session, job_id: str, output: Path | None, epoch: int) -> None:
    """Print the receipt document of a settled job."""
    job_id = session.whole("job_id", job_id)
    raw = session.call("job_getProof", {"job_id": job_id, "epoch": epoch})
    if output is None:
        session.json = True  # it is a document in any case
        session.answer(raw)
        return
    write_private(output, raw + b"\n")
    session.answer_value({"job_id": job_id, "file": str(output)})
    session.note(f"check it with: prsm proof verify {output}")


@proof.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--genesis", type=click.Path(exists=True), help="The network's genesis.json.")
@click.option("--trust", metavar="EPOCH:HASH", help="A validator set you trust, instead.")
@pass_session
def verify(session: Session, file: str, genesis: str | None, trust: str | None) -> None:
    """Check the receipt in FILE against a genesis, by default that of this home. Offline."""
    if genesis and trust:
        raise click.UsageError("--genesis and --trust exclude each other")
    if trust:
        source = ["--trust", trust]
    else:
        path = Path(genesis) if genesis else session.home.genesis
        if not path.is_file():
            raise Usage(f"{path} is no file", hint="name the network's with --genesis FILE")
        source = ["--genesis", str(path)]
    asked = ["--json"] if session.json else []
    command = [sys.executable, "-m", VERIFIER, *source, *asked, file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program, no shell
    if done.returncode:
        said = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or [""]
        if done.returncode == int(Exit.UNVERIFIED):
            raise ProofRefused(said[-1][:300] or "the receipt does not hold")
        raise Usage(said[-1][:300] or f"the verifier ended with {done.returncode}")
    click.echo(done.stdout, nl=False)
    if done.stderr.strip():
        session.note(done.stderr.rstrip())


def verdict_on(file: Path, source: list[str]) -> int:
    """What the verifier ends with for a receipt, 0 if it holds; its words are not shown.

    Args:
        file: the receipt.
        source: `--genesis FILE` or `--trust EPOCH:HASH`.
    """
    command = [sys.executable, "-m", VERIFIER, *source, str(file)]
    return subprocess.run(command, capture_output=True, check=False).returncode  # noqa: S603 - as above
