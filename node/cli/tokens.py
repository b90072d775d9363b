"""`prsm token` and `prsm dashboard`: tokens for others, and the page of this node.

A token's text is shown once. With `--out` it goes into a file of mode 0600 and is not shown.

Knows: the methods it calls. Must not know: how a token is made or checked.
"""

import re
import select
import sys
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from prsm.node.cli.from_spec import make_group
from prsm.node.cli.outputs import OUT_FILE
from prsm.node.cli.render import show
from prsm.node.cli.session import Session, pass_session
from prsm.node.home import write_private
from prsm.protocol.ids import parse_ftns

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_SCOPES: Final = ("read", "write", "sign", "admin")
_ROLES: Final = ("admin", "operator", "user", "observer")


@click.command("new")
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), help="A named set of scopes.")
@click.option("--scope", "scopes", metavar="S,S", help=f"Some of {','.join(_SCOPES)}.")
@click.option("--ttl", default="30d", metavar="TIME", help="Such as 12h, 30d, never.")
@click.option("--tenant", help="Whose work it sees; left out: everybody's.")
@click.option("--method", "methods", multiple=True, metavar="PATTERN", help="Only job_* (repeat).")
@click.option("--spend-limit", metavar="FTNS", help="What it may spend in all.")
@click.option("--daily-cap", metavar="FTNS", help="What it may spend in a day.")
@click.option("--public-key", metavar="0x…", help="Of signed requests, instead of a secret.")
@click.option("--out", type=OUT_FILE, help="Write it here, 0600.")
@pass_session
def token_new(session: Session, /, name: str, **options: Any) -> None:  # noqa: ANN401 - click's options
    """Make a token called NAME; its text is shown this once."""
    params: dict[str, object] = {"name": name, "ttl_s": read_ttl(options["ttl"])}
    if options["scopes"] is not None:
        params["scopes"] = _read_scopes(options["scopes"])
    for key in ("role", "tenant", "public_key"):
        if options[key] is not None:
            params[key] = options[key]
    if options["methods"]:
        params["methods"] = list(options["methods"])
    for key in ("spend_limit", "daily_cap"):
        if options[key] is not None:
            params[key] = str(parse_ftns(options[key]))
    raw, out = session.call("token_create", params), options["out"]
    if out is None:
        session.answer(raw)
        session.note("keep it now: it is not shown again. Use it with PRSM_TOKEN or --token-file")
        return
    made = msgspec.json.decode(raw, type=dict[str, Any])
    write_private(out.absolute(), str(made.pop("token")).encode() + b"\n")
    session.answer_value({**made, "file": str(out.absolute())})
    session.note(f"use it with: prsm --token-file {out} status")


@click.command("login")
@click.option("--out", type=OUT_FILE, help="Write it here, 0600.")
@pass_session
def token_login(session: Session, *, out: Path | None) -> None:
    """Get a token by logging in at the provider this node trusts ([login] of its config.toml)."""
    begun = msgspec.json.decode(session.post("/login/device", {}), type=dict[str, Any])
    click.echo(f"open {begun['url']} and type {begun['user_code']}", err=True)
    if begun["url_complete"]:
        click.echo(f"or open {begun['url_complete']}", err=True)
    while True:
        select.select((), (), (), begun["interval_s"])
        raw = session.post("/login/device/poll", {"id": begun["id"]})
        found = msgspec.json.decode(raw, type=dict[str, Any])
        if found["state"] == "done":
            break
        begun["interval_s"] = found["interval_s"]
    if out is None:
        session.answer(raw)
        return
    write_private(out.absolute(), str(found.pop("token")).encode() + b"\n")
    session.answer_value({**found, "file": str(out.absolute())})
    session.note(f"use it with: prsm --token-file {out} status")


@click.command("rotate")
@click.option("--grace", default="0s", metavar="TIME", help="Old tokens count for so long.")
@pass_session
def token_rotate(session: Session, grace: str) -> None:
    """Sign tokens with a new key; every token made so far ends, at once or after --grace."""
    seconds = read_ttl(grace)
    if seconds is None:
        raise click.UsageError("--grace needs an end, such as 1d")
    session.confirm(f"end every token made so far, {f'in {grace}' if seconds else 'now'}?")
    session.answer(session.call("token_rotateKey", {"grace_s": seconds}))


@click.command("dashboard")
@click.option("--open/--no-open", "opens", default=None, help="Open a browser, or only say where.")
@pass_session
def dashboard(session: Session, *, opens: bool | None) -> None:
    """The address of this node's page; it lets one browser in, once, within a minute."""
    raw = session.call("token_createLogin")
    session.answer(raw, lambda login: show({"url": login["url"], "expires": login["expires"]}))
    if opens or (opens is None and sys.stdout.isatty() and not session.json):
        click.launch(msgspec.json.decode(raw, type=dict[str, Any])["url"])


def read_ttl(text: str) -> int | None:
    """Seconds of a time such as `90s`, `12h`, `30d`; None for `never`.

    Raises:
        click.UsageError: no such time.
    """
    if text == "never":
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhdwy])", text)
    if match is None:
        raise click.UsageError(f"{text[:40]!r} is no time such as 12h, 30d or never")
    return int(match[1]) * _UNITS_S[match[2]]


def _read_scopes(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    strange = [word for word in words if word not in _SCOPES]
    if strange or not words:
        raise click.UsageError(f"--scope takes some of {', '.join(_SCOPES)}, not {text[:40]!r}")
    return words


token = make_group(
    "token",
    "Who else may call this node, and what they may do.",
    (token_new, token_login, token_rotate),
)
