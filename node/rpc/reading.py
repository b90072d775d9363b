"""Parameters of a call, from JSON to their struct, with errors that name what is wrong.

Knows: methods, JSON. Must not know: handlers, who calls.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from prsm.node.rpc.errors import BadParams, ParseFailed
from prsm.node.rpc.spec import FORMS, Method, Params, Scope

KEY_FIELD: Final = "idempotency_key"
KEY_CHARS_MAX: Final = 64
JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_UNKNOWN: Final = re.compile(r"unknown field `(.{0,80}?)`", re.DOTALL)
_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_PATTERN: Final = re.compile(r"matching regex '(.*)'$", re.DOTALL)
_PATH: Final = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)

_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_CHARS_MAX)]


class ParamsReader:
    """Reads the parameters of all methods of a table."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._decoders = {name: msgspec.json.Decoder(m.params) for name, m in methods.items()}
        self._members = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._key = msgspec.json.Decoder(_Key)

    def read(self, method: Method, raw: bytes) -> tuple[Params, str]:
        """The struct of a call's parameters, and its idempotency key.

        Args:
            method: what is called.
            raw: an object, an array in declared order, null or nothing.

        Returns:
            The parameters; the key, empty without one. Only methods that change something take it.

        Raises:
            BadParams: one is unknown, missing, of another type or out of bounds; the text names it.
            ParseFailed: no JSON.
        """
        body, key = raw.lstrip(), ""
        if not body or body == b"null":
            body = b"{}"
        elif body[:1] == b"[":
            body = _by_name(method, body)
        elif method.scope is not Scope.READ and KEY_FIELD.encode() in body:
            body, key = self._take_key(method, body)
        try:
            return self._decoders[method.name].decode(body), key
        except msgspec.ValidationError as error:
            raise _bad_params(method, body, str(error)) from error
        except JSON_ERRORS as error:
            raise parse_failed(error) from error

    def convert(self, method: Method, pairs: Mapping[str, str]) -> Params:
        """The struct of parameters that came as texts, such as those of a query.

        Raises:
            BadParams: as `read`.
        """
        try:
            return msgspec.convert(dict(pairs), method.params, strict=False)
        except msgspec.ValidationError as error:
            raise _bad_params(method, b"{}", str(error)) from error

    def _take_key(self, method: Method, body: bytes) -> tuple[bytes, str]:
        try:
            members = self._members.decode(body)
        except JSON_ERRORS:
            return body, ""  # told of where the parameters are decoded
        given = members.pop(KEY_FIELD, None)
        if given is None:
            return body, ""
        try:
            return msgspec.json.encode(members), self._key.decode(given)
        except msgspec.ValidationError as error:
            raise BadParams(
                f"{method.name}: {KEY_FIELD} is no text of 1 to {KEY_CHARS_MAX} characters",
                hint="any word that no other call of yours has, such as a UUID",
                field=KEY_FIELD,
            ) from error


def parse_failed(error: Exception) -> ParseFailed:
    """The typed error for what the JSON decoder said."""
    return ParseFailed(f"no JSON: {str(error)[:120] or type(error).__name__}")


def _by_name(method: Method, raw: bytes) -> bytes:
    """Turn an array of parameters into an object, in declared order."""
    fields = method.params.__struct_fields__
    try:
        items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except JSON_ERRORS as error:
        raise parse_failed(error) from error
    if len(items) > len(fields):
        raise BadParams(
            f"{method.name} takes at most {len(fields)} parameters, {len(items)} given",
            hint=f"in this order: {', '.join(fields) or 'none'}",
        )
    pairs = [
        b'"%s":%s' % (name.encode(), bytes(item)) for name, item in zip(fields, items, strict=False)
    ]
    return b"{" + b",".join(pairs) + b"}"


def _bad_params(method: Method, body: bytes, text: str) -> BadParams:
    """Name the parameter, and the nearest one if it is a slip of the pen."""
    fields = method.params.__struct_fields__
    path = _PATH.search(text)
    where = path[1] if path else ""
    unknown = _UNKNOWN.search(text)
    if unknown:
        near = difflib.get_close_matches(unknown[1], fields, n=1, cutoff=0.5)
        return BadParams(
            f"{method.name} has no parameter {unknown[1]!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(fields)}",
            field=unknown[1],
        )
    missing = _MISSING.search(text)
    if missing:
        return BadParams(
            f"{method.name} needs {missing[1]!r}",
            hint=f"it takes: {', '.join(fields)}",
            field=missing[1],
        )
    if not body.startswith(b"{"):
        return BadParams(f"{method.name}: params is no object and no array")
    return BadParams(
        f"{method.name}: {where or 'params'}: {_plainly(text.partition(' - at ')[0])}",
        hint=f"it takes: {', '.join(fields)}",
        field=where,
    )


def _plainly(text: str) -> str:
    """Say what a pattern means instead of showing it."""
    pattern = _PATTERN.search(text)
    meaning = FORMS.get(pattern[1].replace("\\\\", "\\")) if pattern else None
    return f"not {meaning}" if meaning else text
