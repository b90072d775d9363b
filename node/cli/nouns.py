"""The noun groups: generated commands, and the few that ask for passwords or confirmation.

Knows: which noun has what by hand. Must not know: how a command is generated.
"""

from pathlib import Path
from typing import TextIO

import click
import msgspec

from prsm.node.cli.archive import audit_self, chain_export, chain_import
from prsm.node.cli.cars import storage_cid, storage_export, storage_import
from prsm.node.cli.costs import (
    DRY_RUN,
    MAX_PRICE,
    answer_cost,
    dry_run_option,
    refuse_above,
)
from prsm.node.cli.from_spec import make_command, make_group, parse_values
from prsm.node.cli.models import asking, make_long
from prsm.node.cli.outputs import OUT_FILE
from prsm.node.cli.passwords import ask_password, given_password, password_options
from prsm.node.cli.session import Session, pass_session
from prsm.node.cli.shards import storage_join, storage_split
from prsm.node.cli.tables import dataset_build
from prsm.node.cli.wallets import wallet_export, wallet_import, wallet_passwd, wallet_verify
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Method
from prsm.protocol.ids import format_ftns, parse_ftns, parse_hex
from prsm.protocol.jsontext import UNREADABLE
from prsm.protocol.transactions.payloads import Transfer


@click.command("new")
@click.argument("name")
@password_options
@pass_session
def wallet_new(
    session: Session, name: str, password_fd: int | None, password_file: str | None
) -> None:
    """Make a payment key called NAME, encrypted under a password."""
    password = given_password(password_fd, password_file)
    if password is None:
        password = ask_password(f"the new key {name!r}", twice=True)
    params = {"name": name, "password": password}
    session.answer(session.call("wallet_createKey", params))
    session.note(f"open it with: prsm wallet unlock {name}")


@click.command("unlock")
@click.argument("name", default="default")
@click.option("--ttl", type=click.IntRange(1, 86_400), default=300, help="Seconds it stays open.")
@password_options
@pass_session
def wallet_unlock(
    session: Session, name: str, ttl: int, password_fd: int | None, password_file: str | None
) -> None:
    """Open a payment key for a while."""
    password = given_password(password_fd, password_file)
    if password is None:
        password = ask_password(f"the key {name!r}")
    params = {"name": name, "password": password, "ttl_s": ttl}
    session.answer(session.call("wallet_unlock", params))


@click.command("send")
@click.argument("to")
@click.argument("amount")
@click.option("--from", "name", default="default", help="Name of the key that pays.")
@dry_run_option
@pass_session
def wallet_send(session: Session, /, to: str, amount: str, name: str, *, dry_run: bool) -> None:
    """Pay AMOUNT FTNS, such as 3.25, to the account TO."""
    micro = parse_ftns(amount)
    whom = parse_hex(to, size=32, what="account")  # before anything is asked
    if dry_run:
        payload = Transfer(asset=0, to=whom, amount=micro, memo=b"")
        answer_cost(session, f"pay {to}", micro, kind="Transfer", payload=payload)
        return
    session.confirm(f"pay {format_ftns(micro)} FTNS to {to}?")
    params = {"to": to, "amount": str(micro), "name": name}
    raw = session.call("wallet_transfer", params)
    session.answer(raw)
    session.note_written(raw)


@click.command("submit")
@click.argument("kind")
@click.argument("values", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option(
    "--payload", type=click.File(lazy=True), help="JSON document of the payload; - for stdin."
)
@click.option("--from", "name", default="default", help="Name of the key that signs.")
@pass_session
def wallet_submit(
    session: Session, kind: str, values: tuple[str, ...], payload: TextIO | None, name: str
) -> None:
    """Sign and send a transaction of any KIND, such as Hold, Claim or Stake.

    Its payload is the document of --payload, with each FIELD=VALUE put over it; a VALUE that is
    JSON is taken as JSON. docs/spec/ledger.md names the fields, and so does the refusal of a
    payload that lacks some.
    """
    document = _document(payload) | parse_values(values)
    session.confirm(f"sign a {kind} with the key {name!r}?")
    raw = session.call("wallet_submit", {"kind": kind, "payload": document, "name": name})
    session.answer(raw)
    session.note_written(raw)


def offer_deal(session: Session, method: Method, given: dict[str, object]) -> None:
    """Lock a price for each round, after its sum was held against what was allowed."""
    amount = int(str(given["price"])) * int(str(given["rounds"]))
    refuse_above(amount, given.pop("max_price", None))
    if given.pop("dry_run", False):
        answer_cost(session, f"keep a file for {given['rounds']} rounds", amount)
        return
    asking("lock {price} micro-FTNS for each of {rounds} rounds for {holder}?")(
        session, method, given
    )


def _document(payload: TextIO | None) -> dict[str, object]:
    if payload is None:
        return {}
    try:
        return msgspec.json.decode(payload.read(), type=dict[str, object])
    except UNREADABLE as error:
        raise click.UsageError(f"--payload is no JSON object: {error}") from error


@click.command("new-key")
@click.argument("file", type=OUT_FILE)
@pass_session
def net_new_key(session: Session, file: Path) -> None:
    """Make a key of a private network in FILE; all its nodes get the same one."""
    from prsm.node.keys import make_network_key

    make_network_key(file)
    session.answer_value({"file": str(file.absolute())})
    session.note(f'on each node: net.psk_file = "{file.absolute()}" in config.toml; keep it secret')


wallet = make_group(
    "wallet",
    "Keys, balances, payments.",
    (
        *(wallet_new, wallet_unlock, wallet_send, wallet_submit),
        *(wallet_import, wallet_export, wallet_passwd, wallet_verify),
    ),
)
worker = make_group("worker", "What this node does for others, and what it is paid.")
tenant = make_group("tenant", "Who shares this node, and within which limits.")
audit = make_group("audit", "Who told this node what.", (audit_self,))


quote = make_command(METHODS["infer_quote"])
serve = make_group("serve", "Small requests to warm workers, and their tabs.")
dataset = make_group("dataset", "Labelled rows that models are evaluated on.", (dataset_build,))
chain = make_group("chain", "Blocks, transactions, validators.", (chain_export, chain_import))
governance = make_group("governance", "Parameters, proposals, votes.")
net = make_group("net", "Peers.", (net_new_key,))
storage = make_group(
    "storage",
    "Blocks on disk.",
    (
        *(storage_cid, storage_export, storage_import, storage_split, storage_join),
        make_long("storage_scrub", "storage_startScrub"),
        make_command(
            METHODS["storage_offerDeal"],
            run=offer_deal,
            extra=(DRY_RUN, MAX_PRICE),
        ),
    ),
)
