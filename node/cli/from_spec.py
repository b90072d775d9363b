"""Commands made from the method table: words, arguments, options and help, without a copy.

Knows: `Method` and click. Must not know: any particular method.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import click
import msgspec
from msgspec import inspect

from prsm.node.cli.session import Session
from prsm.node.cli.words import Words, override
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import FORMS, Method, Scope
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import format_ftns, parse_ftns
from prsm.protocol.jsontext import UNREADABLE

_MICRO: Final = "micro-FTNS"  # of amounts in calls; people type FTNS
# Files are named as the person sees them; the node, of the same machine, wants them absolute.
_PATHS: Final = frozenset(
    ("path", "tokenizer", "chat_template", "card", "out", "samples", "adapter")
)


def make_group(noun: str, summary: str, extra: Sequence[click.Command] = ()) -> click.Group:
    """All commands of one noun: those of the table, and those written by hand, which win."""
    group = Words(noun, help=summary)
    for method in METHODS.values():
        if method.words[:1] == (noun,):
            group.add_command(make_command(method))
    for command in extra:
        group.add_command(command)
    return group


_WRITING: Final = (Scope.WRITE, Scope.SIGN)

# What a command does with the parameters it was given.
Run = Callable[[Session, Method, dict[str, object]], None]


def _answer(session: Session, method: Method, given: dict[str, object]) -> None:
    raw = session.call(method.name, given)
    session.answer(raw)
    if method.scope in _WRITING:
        session.note_written(raw)


def make_command(
    method: Method,
    *,
    run: Run = _answer,
    extra: Sequence[click.Parameter] = (),
    without: Sequence[str] = (),
) -> click.Command:
    """The command of one method.

    Args:
        method: its parameters are those of the command.
        run: what it does with them; else it calls the method and shows the answer.
        extra: options of the command alone; `run` is given them too.
        without: parameters a person never gives.
    """
    fields = msgspec.structs.fields(method.params)
    params = [_parameter(method, field) for field in fields if field.name not in without]

    @click.pass_obj
    def call(session: Session, /, **given: object) -> None:
        values = {name: _value(name, one) for name, one in given.items() if one not in (None, ())}
        session.timeout_s = max(session.timeout_s, method.deadline_ms / 1000)
        for name in method.positional:
            if isinstance(values.get(name), str):
                values[name] = session.whole(name, str(values[name]))
        run(session, method, values)

    help_text = f"{method.summary}\n\nCalls {method.name}."
    return click.Command(method.words[-1], params=[*params, *extra], callback=call, help=help_text)


def parse_values(words: Sequence[str]) -> dict[str, object]:
    """Read `name=value` words; a value that is JSON is taken as JSON, all else as text.

    Raises:
        click.UsageError: a word without `=`.
    """
    values: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{word[:60]!r} is no name=value")
        try:
            values[name] = msgspec.json.decode(text)
        except UNREADABLE:
            values[name] = text
    return values


def typed_values(method: Method, words: Sequence[str]) -> dict[str, object]:
    """As `parse_values`, but a field that is text stays text: `amount=5` means "5"."""
    values = parse_values(words)
    texts = dict(word.partition("=")[::2] for word in words)
    for field in msgspec.structs.fields(method.params):
        if field.name in values and _plain(field.type) is str:
            values[field.name] = texts[field.name]
    return values


def _parameter(method: Method, field: msgspec.structs.FieldInfo) -> click.Parameter:
    kind = _click_type(field.type)
    # Optional positions are left out of the call, so that the node's own defaults hold.
    if field.name in method.positional:
        return click.Argument([field.name], type=kind, required=field.required)
    name = f"--{field.name.replace('_', '-')}"
    help_text = _description(field.type)
    if kind is click.BOOL:
        return click.Option([f"{name}/--no-{name[2:]}"], default=None, help=help_text)
    if kind is click.STRING and _is_texts(field.type):
        return click.Option([name], type=kind, multiple=True, help=f"{help_text} (repeat it)")
    default = field.default
    if isinstance(kind, _Ftns) and default and isinstance(default, str):
        default = format_ftns(int(default))
    shown = "" if field.required else f" [default: {_shown(default)}]"
    return click.Option([name], type=kind, required=field.required, help=help_text + shown)


def _click_type(annotation: object) -> "click.ParamType[Any]":
    match _bare(inspect.type_info(_without_none(annotation))):
        case inspect.IntType():
            return click.INT
        case inspect.BoolType():
            return click.BOOL
        case inspect.LiteralType(values=values):
            return click.Choice([str(value) for value in values])
        case inspect.VarTupleType(item_type=item) if isinstance(_bare(item), inspect.IntType):
            return _Numbers()
        case inspect.StrType(pattern=str(pattern)) if FORMS.get(pattern, "").startswith(_MICRO):
            return _Ftns()
        case _:
            return click.STRING


def _is_texts(annotation: object) -> bool:
    match _bare(inspect.type_info(_without_none(annotation))):
        case inspect.VarTupleType(item_type=item):
            return isinstance(_bare(item), inspect.StrType)
        case _:
            return False


def _bare(info: inspect.Type) -> inspect.Type:
    while isinstance(info, inspect.Metadata):
        info = info.type
    return info


class _Numbers(click.ParamType[list[int]]):
    """A comma-separated list of whole numbers."""

    name = "N,N,…"

    @override
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """Read `1,3`."""
        if isinstance(value, list):
            return value
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is no list of whole numbers such as 1,3", param, ctx)


class _Ftns(click.ParamType[str]):
    """An amount in FTNS, as people write it; the call takes whole micro-FTNS."""

    name = "FTNS"

    @override
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Read `0.25`."""
        try:
            return str(parse_ftns(str(value)))
        except PrsmError as error:
            self.fail(error.what, param, ctx)


def _value(name: str, value: object) -> object:
    if name in _PATHS and isinstance(value, str):
        return str(Path(value).expanduser().absolute())
    if name in _PATHS and isinstance(value, list | tuple):
        return [_value(name, one) for one in value]
    return value


def _description(annotation: object) -> str:
    for meta in reversed(getattr(annotation, "__metadata__", ())):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return meta.description.replace(_MICRO, "FTNS")
    return ""


def _without_none(annotation: object) -> object:
    inner = annotation
    while get_origin(inner) is Annotated:
        inner = get_args(inner)[0]
    members = [one for one in get_args(inner) if one is not type(None)]
    is_optional = type(None) in get_args(inner)
    return members[0] if is_optional and len(members) == 1 else annotation


def _plain(annotation: object) -> object:
    inner = _without_none(annotation)
    while get_origin(inner) is Annotated:
        inner = get_args(inner)[0]
    return inner


def _shown(default: object) -> str:
    match default:
        case None | "":
            return "none"
        case Mapping():
            return "{}"
        case tuple():
            return ",".join(str(one) for one in default)
        case _:
            return str(default)
