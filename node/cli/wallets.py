"""`prsm wallet import | export | passwd | verify`: keys as files, and signatures of messages.

Knows: files and passwords. Must not know: how a key is kept.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

import click
import msgspec

from prsm.node.cli.outputs import OUT_FILE
from prsm.node.cli.passwords import ask_password, given_password, password_options
from prsm.node.cli.session import Session, pass_session
from prsm.node.home import write_private
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import parse_hex
from prsm.protocol.signing import message_statement
from prsm.storage.errors import Conflict

_FILE_BYTES_MAX: Final = 4096


class BadSignatureOfMessage(LocalError):
    """The address did not sign this message."""

    reason = "bad_signature"


class _Exported(msgspec.Struct):
    name: str
    address: str
    key_file: str


@click.command("import")
@click.argument("file", type=click.File("rb", lazy=True))
@click.option("--name", required=True, help="What it is called here.")
@click.option("--file-password-fd", type=int, metavar="N", help="Of the key file, if another.")
@click.option("--file-password-file", metavar="FILE", help="The same, from a file (mode 0600).")
@password_options
@pass_session
def wallet_import(session: Session, /, file: BinaryIO, **given: object) -> None:
    """Take the payment key of FILE, - for standard input, encrypted under a password of its own.

    FILE is what `prsm wallet export` writes, or holds 0x and the 64 hex digits of a secret key.
    """
    text = _text_of(file)
    name = str(given["name"])
    password = _password(given, "password", f"the new key {name!r}", twice=True)
    params: dict[str, object] = {"name": name, "password": password}
    if text.startswith("0x"):
        params["seed"] = text
    else:
        params["key_file"] = text
        other = _given(given, "file_password")
        if other is not None:
            params["file_password"] = other
    session.answer(session.call("wallet_importKey", params))
    session.note(f"open it with: prsm wallet unlock {name}")


@click.command("export")
@click.argument("name")
@click.argument("file", type=OUT_FILE)
@click.option("--file-password-fd", type=int, metavar="N", help="Of the file, if another.")
@click.option("--file-password-file", metavar="FILE", help="The same, from a file (mode 0600).")
@password_options
@pass_session
def wallet_export(session: Session, /, name: str, file: Path, **given: object) -> None:
    """Write the key NAME into the new FILE (mode 0600), encrypted."""
    path = file.absolute()
    if path.exists():
        raise Conflict(f"{path} exists: a key is never overwritten", hint="choose another name")
    params: dict[str, object] = {
        "name": name,
        "password": _password(given, "password", f"the key {name!r}", twice=False),
    }
    other = _given(given, "file_password")
    if other is not None:
        params["file_password"] = other
    made = msgspec.json.decode(session.call("wallet_exportKey", params), type=_Exported)
    write_private(path, made.key_file.encode())
    session.answer_value({"name": name, "address": made.address, "file": str(path)})
    session.note(f"bring it to another node with: prsm wallet import {file} --name {name}")


@click.command("passwd")
@click.argument("name", default="default")
@click.option("--new-password-fd", type=int, metavar="N", help="Read the new one from here.")
@click.option("--new-password-file", metavar="FILE", help="The same, from a file (mode 0600).")
@password_options
@pass_session
def wallet_passwd(session: Session, /, name: str, **given: object) -> None:
    """Encrypt the key NAME under another password."""
    present = _password(given, "password", f"the key {name!r}", twice=False)
    new = _password(given, "new_password", f"the key {name!r} from now on", twice=True)
    params = {"name": name, "password": present, "new_password": new}
    session.answer(session.call("wallet_changePassword", params))
    session.note("a file that keys.password_file names holds the old one: write the new one there")


@click.command("verify")
@click.argument("message")
@click.argument("address")
@click.argument("signature")
@click.option("--hex", "is_hex", is_flag=True, help="The message is bytes in hex.")
@pass_session
def wallet_verify(
    session: Session, message: str, address: str, signature: str, *, is_hex: bool
) -> None:
    """Check that ADDRESS signed MESSAGE. Offline."""
    try:
        raw = bytes.fromhex(message.removeprefix("0x")) if is_hex else message.encode()
        made = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError as error:
        raise click.UsageError(f"no hex: {error}") from error
    account = parse_hex(address, size=32, what="address")
    if not Ed25519Verifier().verify(account, message_statement(account, raw), made):
        raise BadSignatureOfMessage(
            f"{address[:18]}… did not sign this message",
            hint="the message must be the same to the last byte, without a newline at its end",
        )
    session.answer_value({"valid": True, "address": address})


def read_payment_key(file: BinaryIO, password: str) -> bytes:
    """The seed of a key file, or of 0x and 64 hex digits; for who has no node to ask yet.

    Raises:
        BadKey, WrongPassword, Corrupt: it is none, or does not open.
    """
    from prsm.node.keys import parse_seed, read_exported

    text = _text_of(file)
    is_bare = text.startswith("0x")
    return parse_seed(text) if is_bare else read_exported(text.encode(), password=password)


def _text_of(file: BinaryIO) -> str:
    return file.read(_FILE_BYTES_MAX).decode(errors="replace").strip()


def _given(given: Mapping[str, object], name: str) -> str | None:
    fd, file = given[f"{name}_fd"], given[f"{name}_file"]
    return given_password(
        fd if isinstance(fd, int) else None, file if isinstance(file, str) else None
    )


def _password(given: Mapping[str, object], name: str, what: str, *, twice: bool) -> str:
    found = _given(given, name)
    return ask_password(what, twice=twice) if found is None else found
