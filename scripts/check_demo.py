"""`python3 scripts/check_demo.py FILE`: does the demo's document say that everything held?

FILE is what `scripts/demo.py --json` printed. Knows the document's keys and what a default run must
have reached; imports nothing of prsm, so that a fault there cannot excuse itself.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROWS_MIN: Final = 200  # rows of text that go through the model
KEYS: Final = {
    "model": {"cid", "bytes", "stages"},
    "job": {"rows", "peers", "bit_equal", "answer"},
    "liar": {"node", "caught", "paid"},
    "ledger": {"height", "same_state_root", "supply_conserved", "nodes"},
    "receipt": {"path", "genesis", "verified"},
    "seconds": {"install", "total"},
}
TRUE: Final = (
    ("job", "bit_equal"),
    ("liar", "caught"),
    ("ledger", "same_state_root"),
    ("ledger", "supply_conserved"),
    ("receipt", "verified"),
)
POSITIVE: Final = (
    ("model", "bytes"),
    ("model", "stages"),
    ("ledger", "height"),
    ("ledger", "nodes"),
    ("seconds", "total"),
)


def complaints(document: object) -> Iterator[str]:
    """Everything the document lacks or says wrong."""
    if not isinstance(document, dict):
        yield "no JSON object"
        return
    missing = list(_missing(document))
    yield from missing
    if missing:
        return
    for part, key in TRUE:
        if document[part][key] is not True:
            yield f"{part}.{key} is {document[part][key]!r}, not true"
    for part, key in POSITIVE:
        value = document[part][key]
        if not isinstance(value, int | float) or value <= 0:
            yield f"{part}.{key} is {document[part][key]!r}, not positive"
    yield from _wrong_job(document)
    yield from _wrong_payments(document)


def _missing(document: dict[str, object]) -> Iterator[str]:
    for part, keys in KEYS.items():
        value = document.get(part)
        if not isinstance(value, dict):
            yield f"no object {part}"
        else:
            yield from (f"no {part}.{key}" for key in sorted(keys - value.keys()))
    payments = document.get("payments")
    if not isinstance(payments, list) or not payments:
        yield "no list of payments"
    elif not all(
        isinstance(row, dict) and {"node", "micro_ftns"} <= row.keys() for row in payments
    ):
        yield "a payment without node and micro_ftns"


def _wrong_job(document: dict[str, dict[str, object]]) -> Iterator[str]:
    rows, answer = document["job"]["rows"], document["job"]["answer"]
    if not isinstance(rows, int) or rows < ROWS_MIN:
        yield f"job.rows is {rows!r}, at least {ROWS_MIN}"
    if not answer or not document["job"]["peers"]:
        yield "job without an answer or without peers"
    if document["liar"]["paid"] not in (False, 0, "0"):
        yield f"liar.paid is {document['liar']['paid']!r}, not false"
    if not Path(str(document["receipt"]["path"])).is_file():
        yield f"receipt.path is {document['receipt']['path']!r}, no file"


def _wrong_payments(document: dict[str, list[dict[str, object]]]) -> Iterator[str]:
    for row in document["payments"]:
        if not str(row["micro_ftns"]).isdecimal():
            yield f"payment of {row['micro_ftns']!r}, not an integer of micro-FTNS"
    if not any(str(row["micro_ftns"]).strip("0") for row in document["payments"]):
        yield "nobody was paid"


def main() -> None:
    """Print what is wrong; exit 1 if anything is."""
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/check_demo.py FILE")
    try:
        found = list(complaints(json.loads(Path(sys.argv[1]).read_text())))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {sys.argv[1]} holds no document: {error}")
    if found:
        sys.exit("the demo's document is wrong:\n" + "\n".join(found))
    print("the demo's document holds")


if __name__ == "__main__":
    main()
