"""Manifests as text: TOML read into tables, all that is wrong said at once, and written again.

Knows: what belongs together in a network. Must not know: how one is made or broken. Each error is
one line, with the nearest name that exists.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from prsm.protocol.errors import LocalError
from prsm.testnet.faults import Kind, Lie
from prsm.testnet.tables import (
    ANY,
    BoundSpec,
    FaultSpec,
    LinkSpec,
    LoadSpec,
    Manifest,
    Name,
    NodeSpec,
    Table,
)

_MANIFEST_BYTES_MAX: Final = 1024 * 1024


class BadManifest(LocalError):
    """A manifest that no network can be made of; `lines` has each error."""

    reason = "config_invalid"

    def __init__(self, lines: Sequence[str], *, source: str) -> None:
        super().__init__(f"{source}: " + "\n".join(lines), hint="see docs/testing.md, Testnet")
        self.lines = tuple(lines)


def read(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        BadManifest: unreadable, no TOML, or anything in it is wrong; names each error.
    """
    try:
        raw = path.read_bytes()[: _MANIFEST_BYTES_MAX + 1]
    except OSError as error:
        raise BadManifest([f"cannot be read: {error.strerror}"], source=str(path)) from error
    if len(raw) > _MANIFEST_BYTES_MAX:
        raise BadManifest([f"more than {_MANIFEST_BYTES_MAX} bytes"], source=str(path))
    try:
        return parse(raw.decode(), source=path.name)
    except UnicodeDecodeError as error:
        raise BadManifest([f"no text: {error.reason}"], source=str(path)) from error


def parse(text: str, *, source: str = "manifest") -> Manifest:
    """Check the text of a manifest.

    Raises:
        BadManifest: names each error.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadManifest([f"no TOML: {error}"], source=source) from error
    check = _Check()
    check.table(document, Manifest, "")
    if not check.lines:
        manifest = msgspec.convert(document, Manifest)
        check.whole(manifest)
        if not check.lines:
            return manifest
    raise BadManifest(check.lines, source=source)


def to_toml(manifest: Manifest) -> str:
    """Write a manifest so that `parse` reads the same; what is default is left out."""
    lines = [f"name = {_text(manifest.name)}"]
    lines += [f"seed = {manifest.seed}"] if manifest.seed else []
    lines += _section("load", manifest.load)
    lines += _section("bounds", manifest.bounds)
    for name, spec in manifest.nodes.items():
        lines += _section(f"nodes.{name}", spec, is_kept=True)
    for link in manifest.links:
        lines += _section("links", link, is_list=True)
    for fault in manifest.faults:
        lines += _section("faults", fault, is_list=True)
    return "\n".join(lines) + "\n"


def _section(
    title: str, table: Table, *, is_list: bool = False, is_kept: bool = False
) -> list[str]:
    rows = []
    for each in msgspec.structs.fields(table):
        value = getattr(table, each.name)
        if each.default is msgspec.NODEFAULT or value != each.default:
            rows.append(f"{each.name} = {_text(msgspec.to_builtins(value))}")
    if not (rows or is_list or is_kept):
        return []
    return ["", f"[[{title}]]" if is_list else f"[{title}]", *rows]


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()  # strings, numbers, booleans and arrays are alike


# What a key means on these kinds; on others it would do nothing and is refused.
_ONLY: Final[Mapping[str, frozenset[Kind]]] = {
    "groups": frozenset((Kind.SPLIT, Kind.FLAP)),
    "period_s": frozenset((Kind.FLAP,)),
    "skew_ms": frozenset((Kind.CLOCK,)),
    "lie": frozenset((Kind.BYZANTINE,)),
    "delay_ms": frozenset((Kind.LOSS, Kind.SLOW)),
    "jitter_ms": frozenset((Kind.LOSS, Kind.SLOW)),
    "loss": frozenset((Kind.LOSS, Kind.SLOW)),
    "kbytes_per_s": frozenset((Kind.LOSS, Kind.SLOW)),
}
_NEED_NODES: Final = frozenset(
    (Kind.KILL, Kind.PAUSE, Kind.ISOLATE, Kind.SILENCE, Kind.CUT, Kind.CLOCK, Kind.DISK_FULL,
     Kind.FLOOD, Kind.BYZANTINE, Kind.UPGRADE)
)  # fmt: skip
_NESTED: Final[Mapping[str, type[Table]]] = {
    "load": LoadSpec, "bounds": BoundSpec, "nodes": NodeSpec, "links": LinkSpec,
    "faults": FaultSpec,
}  # fmt: skip


@dataclass(slots=True)
class _Check:
    """Collects what is wrong."""

    lines: list[str] = field(default_factory=list)

    def table(self, document: Mapping[str, object], cls: type[Table], where: str) -> None:
        """Keys that do not exist, that are missing, and values of the wrong form."""
        known = {each.name: each for each in msgspec.structs.fields(cls)}
        for key, value in document.items():
            if key not in known:
                self._add(where, f"no key {key!r}{nearest(key, known)}")
            elif cls is Manifest and key in _NESTED:
                self._nested(key, value)
            else:
                self._value(f"{where}{key}", value, known[key].type)
        for name, each in known.items():
            if each.required and name not in document:
                self._add(where, f"{name} is missing")

    def _nested(self, key: str, value: object) -> None:
        cls = _NESTED[key]
        if key in {"links", "faults"}:
            if not isinstance(value, list):
                self._add("", f"{key} is written as [[{key}]]")
                return
            rows = [(f"{key}[{number}].", row) for number, row in enumerate(value, 1)]
        elif key == "nodes" and isinstance(value, dict):
            for name in value:
                self._value(f"nodes.{name}", name, Name)
            rows = [(f"nodes.{name}.", row) for name, row in value.items()]
        else:
            rows = [(f"{key}.", value)]
        for where, row in rows:
            if isinstance(row, dict):
                self.table(row, cls, where)
            else:
                self._add("", f"{where.rstrip('.')} is no table")
        if key in {"nodes", "links", "faults"} and not self.lines:
            self._value(key, value, _type_of(key))

    def _value(self, where: str, value: object, kind: object) -> None:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            words = [word for word in _words(kind) if isinstance(word, str)]
            if isinstance(value, str) and words:
                near = nearest(value, words) or f"; one of {', '.join(words)}"
                self.lines.append(f"{where} is {value!r}{near}")
            else:
                said = str(error)
                self.lines.append(f"{where}: {said[:1].lower()}{said[1:]}, found {value!r}"[:200])

    def _add(self, where: str, what: str) -> None:
        self.lines.append(f"{where.rstrip('.')}: {what}" if where else what)

    def whole(self, manifest: Manifest) -> None:
        """What only shows when the parts are put together."""
        specs = manifest.nodes
        voters = manifest.voters
        if not voters:
            self._add("nodes", "nobody votes; give one the role validator")
        lying = [name for name, spec in specs.items() if spec.lies]
        lying += [n for f in manifest.faults if f.kind is Kind.BYZANTINE for n in f.nodes]
        for name in lying:
            if name in specs and not specs[name].is_validator:
                self._add(f"nodes.{name}", "it does not vote, so it cannot lie in agreement")
        if len(set(lying)) > (len(voters) - 1) // 3:
            self._add(
                "nodes",
                f"{len(set(lying))} of {len(voters)} validators lie, agreement outlives "
                f"{(len(voters) - 1) // 3}",
            )
        workers = sum(spec.runs_models for spec in specs.values())
        if manifest.load.jobs and workers < 4:
            self._add("load.jobs", f"{workers} nodes run models; who asks and three that work: 4")
        regions = {spec.region for spec in specs.values()}
        for number, link in enumerate(manifest.links, 1):
            for name in link.between:
                self._known(f"links[{number}].between", name, [*specs, *sorted(regions), ANY])
        for number, fault in enumerate(manifest.faults, 1):
            self._fault(f"faults[{number}]", fault, specs)

    def _fault(self, where: str, fault: FaultSpec, specs: Mapping[str, NodeSpec]) -> None:
        for name in (*fault.nodes, *(name for group in fault.groups for name in group)):
            self._known(where, name, specs)
        grouped = [name for group in fault.groups for name in group]
        for name in sorted({name for name in grouped if grouped.count(name) > 1}):
            self._add(where, f"{name} is in two groups")
        if fault.kind in _ONLY["groups"] and not fault.groups:
            self._add(where, f"{fault.kind.value} needs groups")
        if fault.kind in _NEED_NODES and not fault.nodes:
            self._add(where, f"{fault.kind.value} needs nodes")
        defaults = {each.name: each.default for each in msgspec.structs.fields(FaultSpec)}
        for key, kinds in _ONLY.items():
            if fault.kind not in kinds and getattr(fault, key) != defaults[key]:
                told = ", ".join(sorted(kind.value for kind in kinds))
                self._add(where, f"{key} does nothing on {fault.kind.value}, only on {told}")

    def _known(self, where: str, name: str, names: Iterable[str]) -> None:
        known = list(names)
        if name not in known:
            self._add(where, f"no {name!r}{nearest(name, known) or '; ' + ', '.join(known[:8])}")


def _type_of(key: str) -> object:
    return next(each.type for each in msgspec.structs.fields(Manifest) if each.name == key)


def _words(kind: Any) -> Iterable[object]:  # noqa: ANN401 - a type expression has no narrower type
    """The words an enumeration or a literal takes, inside of optional and annotated types too."""
    if isinstance(kind, type) and issubclass(kind, (Kind, Lie)):
        return [member.value for member in kind]
    parts = get_args(kind)
    if any(isinstance(part, str) for part in parts):
        return parts
    return [word for part in parts for word in _words(part)]


def nearest(name: str, known: Iterable[str]) -> str:
    """`; nearest: 'x'` for a name nobody knows, empty if nothing is like it."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; nearest: {found[0]!r}" if found else ""
