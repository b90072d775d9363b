"""Receipts checked by a program that trusts nobody, as a process of its own.

Knows: that program's arguments. Must not know: receipts.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from prsm.protocol.errors import LocalError

VERIFIER: Final = "prsm.testnet.verify_receipt"
_SECONDS: Final = 60


class NoGenesis(LocalError):
    """There is no genesis to check a receipt against."""

    reason = "not_found"


def verify(document: object, genesis: Path) -> dict[str, object]:
    """Check a receipt document against a network's genesis.

    Returns:
        `{valid, says}`: the program's verdict and its own words.

    Raises:
        NoGenesis: `genesis` is no file.
    """
    if not genesis.is_file():
        raise NoGenesis(f"{genesis} is no file", hint="start the server with --home of a node")
    with TemporaryDirectory(prefix="prsm-receipt-") as folder:
        path = Path(folder) / "receipt.json"
        path.write_bytes(msgspec.json.encode(document))
        command = (sys.executable, "-m", VERIFIER, "--genesis", str(genesis), "--json", str(path))
        done = subprocess.run(  # noqa: S603 - our own program, no shell
            command, check=False, capture_output=True, text=True, timeout=_SECONDS
        )
    words = done.stdout.strip() or done.stderr.strip()
    try:
        says: object = json.loads(words)
    except ValueError:
        says = words[-1000:]
    return {"valid": done.returncode == 0, "says": says}
