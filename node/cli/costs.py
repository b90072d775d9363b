"""What a command would cost, said before anything is signed: `--dry-run` and `--max-price`.

Knows: amounts, the estimate of fees. Must not know: how a price comes about.
"""

from typing import Final

import click

from prsm.node.cli.session import Session
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import format_ftns, parse_ftns

DRY_RUN: Final = click.Option(
    ["--dry-run"], is_flag=True, help="Say what it costs; sign and lock nothing."
)
MAX_PRICE: Final = click.Option(["--max-price"], metavar="FTNS", help="Refuse to lock more.")
dry_run_option: Final = click.option(
    "--dry-run", is_flag=True, help="Say what it costs; sign and lock nothing."
)
max_price_option: Final = click.option(
    "--max-price", metavar="FTNS", help="Refuse to lock more than this."
)


class OverCap(LocalError):
    """More than the person allowed; nothing was locked."""

    reason = "price_over_cap"


def refuse_above(amount: int, max_price: object) -> None:
    """Hold an amount in micro-FTNS against what was typed for `--max-price`.

    Raises:
        OverCap: it is more.
    """
    if max_price is None:
        return
    limit = parse_ftns(str(max_price))
    if amount > limit:
        raise OverCap(
            f"it locks {format_ftns(amount)} FTNS, at most {format_ftns(limit)}",
            hint="give more with --max-price, or ask for less",
        )


def answer_cost(
    session: Session, what: str, amount: int, *, kind: str = "", payload: Record | None = None
) -> None:
    """Answer a dry run: the amount, the fee where it can be told, and both together.

    Args:
        session: where to answer.
        what: would be done.
        amount: micro-FTNS paid, locked or bonded.
        kind: of the transaction.
        payload: of it; None where the node makes it.
    """
    fee: int | None = None
    if payload is not None:
        asked = {"kind": kind, "payload": "0x" + encode(payload).hex()}
        fee = int(session.ask("chain_estimateFee", asked)["fee"])
    cost = None if fee is None else str(amount + fee)
    document = {"dry_run": True, "what": what, "amount": str(amount), "cost": cost}
    session.answer_value({**document, "fee": None if fee is None else str(fee)})
