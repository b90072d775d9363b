"""Measure what starting costs: commands, the Python client, the standalone check of a receipt.

Run: python scripts/bench.py starts

Each is a process of its own, in turns with a bare interpreter and with the library it stands on,
click or msgspec; the least of so many counts, since other programs only add. Then the
size of what the node serves a browser. Knows processes. Must not know what the commands do.
"""

import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from prsm.protocol.genesis import Parameters, to_json
from prsm.testnet import verify_receipt
from prsm.testnet.chain import Chain, small_genesis
from prsm.testnet.jobs import Work, document_of, lock_of, open_job, settle_by, unit_of
from prsm.testnet.launch import create

ROOT: Final = Path(__file__).resolve().parents[2]
SCRIPT: Final = ROOT / "testnet" / "verify_receipt.py"
BUNDLE: Final = ROOT / "node" / "web" / "static"
TURNS: Final = 9
EPOCHS: Final = 2  # between trust and settlement
Row = tuple[str, float, str]

BARE: Final = "python -c pass"
CLICK: Final = "import click"
MSGSPEC: Final = "import msgspec"
FIRST_CALL: Final = "import sys; from prsm.client import Client; Client(sys.argv[1]).rpc.ping()"
LIMITS: Final[Mapping[str, str]] = {
    "prsm --help": CLICK,
    "prsm status": CLICK,
    "import prsm.client": MSGSPEC,
    "from prsm.client import Client": MSGSPEC,
    "from prsm.client import AsyncClient": MSGSPEC,
    "its first call": MSGSPEC,
    "whole check of a receipt": BARE,
}


def measure_all() -> list[Row]:
    """Start all of them in turns, beside a network of one node."""
    with tempfile.TemporaryDirectory(prefix="prsm-starts-") as text:
        folder = Path(text)
        check = make_receipt(folder)
        network = create(folder / "net", 1)
        try:
            network.start()
            home = str(network.nodes[0].home.root)
            least = measure_starts(home, check)
        finally:
            network.stop()
        inside = measure_check(folder)
    rows: list[Row] = [(name, ms, "ms CPU") for name, ms in least.items()]
    beyond = least["whole check of a receipt"] - least[BARE]
    rows += [
        ("check of a receipt after interpreter start", beyond, "ms CPU"),
        ("check of a receipt in a running process", inside, "ms"),
        ("dashboard, script and style, gzipped", bundle_kb(), "kB"),
    ]
    return rows


def measure_starts(home: str, check: list[str]) -> dict[str, float]:
    """CPU milliseconds of each process, the least of several turns."""
    prsm = ["-m", "prsm.node.cli.main", "--home", home]
    commands = {
        BARE: ["-I", "-c", "pass"],
        CLICK: ["-c", "import click"],
        MSGSPEC: ["-c", "import msgspec"],
        "prsm --help": [*prsm, "--help"],
        "prsm status": [*prsm, "status"],
        "import prsm.client": ["-c", "import prsm.client"],
        "from prsm.client import Client": ["-c", "from prsm.client import Client"],
        "from prsm.client import AsyncClient": ["-c", "from prsm.client import AsyncClient"],
        "its first call": ["-c", FIRST_CALL, home],
        "whole check of a receipt": ["-I", *check],
    }
    least = dict.fromkeys(commands, float("inf"))
    for _ in range(TURNS):
        for name, words in commands.items():
            least[name] = min(least[name], cpu_ms(words))
    return least


def cpu_ms(words: list[str]) -> float:
    """Processor milliseconds of one process.

    Raises:
        subprocess.CalledProcessError: it did not do its work.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    paths = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, *words], env=paths, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def make_receipt(folder: Path) -> list[str]:
    """A job of two units, settled two epochs after the genesis; words that check its receipt."""
    chain = Chain(small_genesis(parameters=Parameters(tree_bits=8, epoch_ms=1_000, stake_min=1)))
    lock = lock_of("checked", unit_of(0, stages=2), unit_of(1, stages=2))
    open_job(chain, lock)
    settle_by(chain, lock, Work(65), Work(66), Work(67))
    while chain.ledger.epoch.number < EPOCHS:
        chain.add()
    settle_by(chain, lock, Work(65), Work(66), Work(67), unit=1)
    genesis, receipt = folder / "genesis.json", folder / "receipt.json"
    genesis.write_bytes(to_json(chain.genesis))
    receipt.write_text(json.dumps(document_of(chain, lock)))
    return [str(SCRIPT), "--genesis", str(genesis), str(receipt)]


def measure_check(folder: Path) -> float:
    """Milliseconds of the same check where everything is loaded; the least of several."""
    times = []
    for _ in range(TURNS):
        began = time.perf_counter()
        check = verify_receipt.Check(str(folder / "receipt.json"))
        summary = check.run(*verify_receipt.trust_genesis(str(folder / "genesis.json")))
        times.append(1000 * (time.perf_counter() - began))
        assert summary["verified"] is True
    return min(times)


def bundle_kb() -> float:
    """Kilobytes a browser loads, as `scripts/dashboard.py --check` counts them."""
    packed = [
        gzip.compress((BUNDLE / name).read_bytes(), mtime=0) for name in ("app.js", "app.css")
    ]
    return sum(map(len, packed)) / 1000
