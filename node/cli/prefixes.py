"""Ids by their first characters, as long as only one thing begins with them.

Knows: which list holds the ids of a parameter. Must not know: commands.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from prsm.node.rpc.client import RpcError
from prsm.protocol.errors import LocalError
from prsm.storage.errors import NotFound

PREFIX_MIN: Final = 4
# parameter -> the method that lists such things, the field of its items, an id's whole length.
FIELDS: Final[Mapping[str, tuple[str, str, int]]] = {
    "job_id": ("job_list", "job_id", 66),
    "plan_id": ("plan_list", "plan_id", 66),
    "peer_id": ("net_getPeers", "peer_id", 52),
    "peer": ("net_getPeers", "peer_id", 52),
    "task_id": ("task_list", "task_id", 0),
    "token_id": ("token_list", "id", 0),
}
Ask = Callable[[str], dict[str, Any]]


class Ambiguous(LocalError):
    """Several things begin with what was typed."""

    reason = "ambiguous_id"


def whole_id(name: str, text: str, ask: Ask) -> str:
    """The id a person means; what names no list, or looks whole, stays as it is.

    Args:
        name: of the parameter.
        text: as typed.
        ask: calls a method without parameters.

    Raises:
        Ambiguous: several ids begin so.
        NotFound: none does.
    """
    if name not in FIELDS:
        return text
    method, field, length = FIELDS[name]
    if length and len(text) >= length:
        return text
    known: list[str] = []
    with contextlib.suppress(RpcError):  # the call itself says what is missing
        known = [str(item[field]) for item in ask(method)["items"]]
    if text in known or not known:
        return text
    found = sorted({one for one in known if _begins(one, text)})
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise Ambiguous(
            f"{len(found)} ids begin with {text[:40]!r}", hint=f"such as {found[0]} or {found[1]}"
        )
    if length and len(text.removeprefix("0x")) >= PREFIX_MIN:
        raise NotFound(f"no {name.removesuffix('_id')} begins with {text[:40]!r}", hint="see ls")
    return text


def _begins(whole: str, text: str) -> bool:
    if len(text.removeprefix("0x")) < PREFIX_MIN and not whole.startswith(f"{text}-"):
        return False
    return whole.startswith(text) or whole.removeprefix("0x").startswith(text)
