"""The receipt of a job, kept and checked without the node that wrote it.

The check is `testnet/verify_receipt.py` as a process of its own: it imports nothing of prsm, so a
fault here cannot make a bad receipt look good.

Knows: that program's arguments. Must not know: what is in a receipt.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from prsm.node import home
from prsm.node.rpc.faults import class_for

_PROGRAM: Final = Path(home.__file__).parents[1] / "testnet" / "verify_receipt.py"
_LIMIT_S: Final = 120.0


class Payment(msgspec.Struct, frozen=True):
    """What an account got, in micro-FTNS."""

    account: str
    micro_ftns: str


class Outvoted(msgspec.Struct, frozen=True):
    """A worker that was wrong in a unit, and unpaid."""

    worker: str
    unit: int


class Checked(msgspec.Struct, frozen=True):
    """What a receipt proves; nothing of it is taken on trust."""

    job: str
    units: int
    rows: int
    payments: tuple[Payment, ...]
    outvoted: tuple[Outvoted, ...] = ()
    by_case: tuple[int, ...] = ()


class Proof:
    """A receipt document; `document` are its bytes as the node wrote them."""

    def __init__(self, document: bytes, *, genesis: Path | None = None) -> None:
        self.document = document
        self._genesis = genesis

    def save(self, path: str | Path) -> Path:
        """Write it to a file only its owner may read, whole or not at all."""
        place = Path(path)
        home.write_private(place, self.document + b"\n")
        return place

    def verify(self, genesis: str | Path | None = None, *, validators: str = "") -> Checked:
        """Check every hash, signature and payment, offline.

        Args:
            genesis: the network's genesis.json; by default that of the client's home.
            validators: `EPOCH:HASH` of a set that is trusted instead.

        Raises:
            RpcError: bad_receipt, with the first thing that does not hold.
            ValueError: nothing to begin the trust with.
        """
        begin = Path(genesis) if genesis is not None else self._genesis
        if validators:
            source = ["--trust", validators]
        elif begin is not None and begin.is_file():
            source = ["--genesis", str(begin)]
        else:
            raise ValueError("nothing to trust: give genesis=FILE or validators='EPOCH:HASH'")
        # The program reads files only; one that is gone with the call keeps it so.
        import tempfile  # noqa: PLC0415 - 5 ms nobody else pays for

        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(self.document)
            file.flush()
            command = [sys.executable, "-I", str(_PROGRAM), *source, "--json", file.name]
            done = subprocess.run(  # noqa: S603 - our own program, no shell
                command, check=False, capture_output=True, timeout=_LIMIT_S
            )
        if done.returncode != 0:
            why = done.stderr.decode(errors="replace").strip()[-300:]
            raise class_for("bad_receipt")(-32034, why, {"reason": "bad_receipt"})
        return msgspec.json.decode(done.stdout, type=Checked)


def proof_from(path: str | Path, *, genesis: Path | None = None) -> Proof:
    """A receipt of a file."""
    return Proof(Path(path).read_bytes().strip(), genesis=genesis)
