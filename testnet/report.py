"""What a person sees of the demo: steps and a progress bar while it works, then one page.

Steps go to standard error, the page to standard output. Knows: text. Must not know: nodes.
"""

import json
import time
from typing import Final, TextIO

import msgspec

from prsm.protocol.ids import format_ftns

_BAR: Final = 28


class Screen:
    """Standard error while the demo works; silent unless it is a terminal or asked to speak."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._is_terminal = stream.isatty()
        self._began = time.monotonic()
        self._has_bar = False

    def step(self, what: str) -> None:
        """Say what begins now."""
        self.note(f"{time.monotonic() - self._began:6.1f} s  {what}")

    def note(self, text: str) -> None:
        """Say something beside the steps."""
        if self._quiet:
            return
        if self._has_bar:
            self._stream.write("\n")
            self._has_bar = False
        self._stream.write(text + "\n")
        self._stream.flush()

    def progress(self, done: int, total: int, state: str) -> None:
        """Draw the bar of the job, on a terminal."""
        if self._quiet or not self._is_terminal or not total:
            return
        filled = _BAR * done // total
        bar = "=" * filled + " " * (_BAR - filled)
        self._stream.write(f"\r          [{bar}] {done}/{total} rows, {state}   ")
        self._stream.flush()
        self._has_bar = True


def plain(document: dict[str, object], *, as_json: bool) -> str:
    """A document as one line of JSON, or a line for each of its parts."""
    if as_json:
        return msgspec.json.encode(document).decode()
    lines = []
    for name, value in document.items():
        if isinstance(value, list):
            rows = [row if isinstance(row, dict) else {name: row} for row in value]
            lines += ["  ".join(f"{k}={v}" for k, v in row.items()) for row in rows]
        elif isinstance(value, dict):
            for key, item in value.items():
                inner = {f"{key} {k}": v for k, v in item.items()} if isinstance(item, dict) else {}
                lines += [f"{k}: {v}" for k, v in (inner or {key: item}).items()]
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)


def page(document: dict[str, object]) -> str:
    """The demo's document as a person reads it."""
    shown = json.loads(json.dumps(document))
    model, job, liar = shown["model"], shown["job"], shown["liar"]
    ledger, receipt, escrow = shown["ledger"], shown["receipt"], shown["escrow"]
    size = model["bytes"] / 1e6
    paid = ", ".join(
        f"{row['node']} {format_ftns(int(row['micro_ftns']))}" for row in shown["payments"]
    )
    equal = "bit-equal to" if job["bit_equal"] else "NOT EQUAL to"
    lines = [
        ("model", f"{model['name']}, {size:.1f} MB in {model['stages']} stages, {model['cid']}"),
        ("job", (f"{job['rows']} rows in {job['micro_batches']} micro-batches over "
                f"{len(job['peers'])} peers, {equal} one machine")),
        ("question", job["question"]),
        ("answer", job["answer"]),
        ("liar", _liar(liar)),
        ("paid", (f"{paid} FTNS; {format_ftns(int(escrow['refunded']))} of "
                 f"{format_ftns(int(escrow['locked']))} FTNS went back")),
        ("ledger", (f"height {ledger['height']}, {ledger['nodes']} nodes, "
                   f"{'one state' if ledger['same_state_root'] else 'DIFFERENT STATES'} "
                   f"{ledger['state_root'][:18]}…, supply "
                   f"{'conserved' if ledger['supply_conserved'] else 'NOT CONSERVED'}")),
        ("receipt", (f"{receipt['path']} "
                    f"{'verified' if receipt['verified'] else 'NOT VERIFIED'}; again with:")),
        ("", f"scripts/verify_receipt.py --trust {receipt['trust']} {receipt['path']}"),
        ("seconds", f"{shown['seconds']['total']} after installation"),
    ]  # fmt: skip
    return "\n".join(f"{name:9} {text}" for name, text in lines)


def _liar(liar: dict[str, object]) -> str:
    if liar["node"] is None:
        return "NOBODY LIED, YET SOMEBODY WAS OUTVOTED" if liar["outvoted"] else "nobody lied"
    blocks = liar["blocks"]
    assert isinstance(blocks, list)
    caught = "outvoted" if liar["caught"] else "NOT CAUGHT"
    unpaid = "BUT PAID" if liar["paid"] else "not paid"
    return f"{liar['node']} {caught}, {unpaid}; evidence in block {', '.join(map(str, blocks))}"
