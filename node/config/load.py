"""Reading the configuration: flag > `PRSM_SECTION__KEY` > file > system > profile > default.

`file` is the config.toml of the node's folder, `system` that of the machine.

Unknown keys and wrong types are refused with the nearest name, never ignored; `Loaded.origin`
says where each value came from. What peers must agree on is not here but in the genesis.

Knows: files, variables, flags. Must not know: what any key means (schema).
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin

import msgspec

from prsm.node.config.checks import validate
from prsm.node.config.schema import Config
from prsm.node.config.section import ConfigError, Section
from prsm.node.config.system import WITHOUT, system_file

ENV_PREFIX: Final = "PRSM_"
_CONFIG_BYTES_MAX: Final = 256 * 1024

PROFILES: Final[Mapping[str, Mapping[str, object]]] = MappingProxyType(
    {
        "dev": {"log.level": "debug"},
        "lab": {},
        "validator": {"consensus.validator": True},
        "light": {"executor.enabled": False},
    }
)

# Keys of earlier versions: what each is called now; "" where it is gone.
RETIRED: Final[Mapping[str, str]] = MappingProxyType({"executor.threads": ""})

Origin = Literal["flag", "env", "file", "system", "profile", "default"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration and the origin of each `section.key`.

    Attributes:
        system: the file of the machine, if there is one.
    """

    config: Config
    origin: Mapping[str, Origin]
    system: Path | None = None


class _Layer(NamedTuple):
    """Values of one origin, and what a person is told it is."""

    origin: Origin
    whence: str
    values: Mapping[str, object]


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Loaded:
    """Read, merge and check the configuration.

    Args:
        path: config.toml; None or an absent file means defaults.
        environ: variables `PRSM_SECTION__KEY`, and `PRSM_SYSTEM_CONFIG`, which names another file
            of the machine than /etc/prsm/config.toml, or none; others are left alone. None: there
            is neither.
        flags: `section.key` -> value, from the command line.

    Raises:
        ConfigError: unreadable file, unknown key, wrong type, out of bounds, bad combination.
    """
    system = None if environ is None else system_file(environ)
    layers = [
        _of_machine(system),
        _Layer("file", "in config.toml", {} if path is None else _flat_toml(path, "config.toml")),
        _Layer("env", "from the environment", _read_environ(environ or {})),
        _Layer("flag", "from the command line", dict(flags or {})),
    ]
    for layer in layers:
        for key in layer.values:
            _refuse_unknown(key, layer)
    profile = "lab"
    for layer in layers:
        profile = str(layer.values.get("node.profile", profile))
    merged: dict[str, object] = {}
    origins: dict[str, Origin] = dict.fromkeys(KEYS, "default")
    for layer in [_Layer("profile", "from the profile", PROFILES.get(profile, {})), *layers]:
        for key, value in layer.values.items():
            merged[key] = _convert(key, value, layer)
            origins[key] = layer.origin
    config = msgspec.convert(_nest(merged), Config)
    validate(config)
    return Loaded(config, MappingProxyType(origins), system)


def to_toml(config: Config, *, only: Mapping[str, object] | None = None) -> str:
    """Write a configuration as commented TOML.

    Args:
        config: where the values come from.
        only: if given, these `section.key`s are live lines, all others commented defaults.
    """
    lines = ["# PRSM node. Keys left out have the default shown by `prsm config show`."]
    for section, cls in _SECTIONS.items():
        lines += ["", f"[{section}]"]
        for field in msgspec.structs.fields(cls):
            key = f"{section}.{field.name}"
            value = getattr(getattr(config, section), field.name)
            text = json.dumps(list(value) if isinstance(value, tuple) else value)
            mark = "" if only is None or key in only else "# "
            lines += [f"# {describe(key)}", f"{mark}{field.name} = {text}"]
    return "\n".join(lines) + "\n"


def read_text(key: str, text: str) -> object:
    """The value of a known key from what a person types.

    Raises:
        ConfigError: of another type or out of bounds.
    """
    return _convert(key, text, _Layer("flag", "from the command line", {}))


def nearest_key(key: str) -> str:
    """The key a person most likely means; empty if none is near."""
    return next(iter(difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)), "")


def describe(key: str) -> str:
    """One line on what a key does, with its unit or danger."""
    metas = [meta for meta in get_args(KEYS[key]) if isinstance(meta, msgspec.Meta)]
    return next((meta.description for meta in reversed(metas) if meta.description), "")


_SECTIONS: Final[dict[str, type[Section]]] = {
    field.name: field.type for field in msgspec.structs.fields(Config)
}
KEYS: Final[dict[str, Any]] = {
    f"{section}.{field.name}": field.type
    for section, cls in _SECTIONS.items()
    for field in msgspec.structs.fields(cls)
}


def _of_machine(path: Path | None) -> _Layer:
    if path is None:
        return _Layer("system", "", {})
    try:
        return _Layer("system", f"in {path}", _flat_toml(path, str(path)))
    except ConfigError as error:
        raise ConfigError(
            error.what, hint="; ".join(filter(None, (error.hint, WITHOUT)))
        ) from error


def _flat_toml(path: Path, name: str) -> dict[str, object]:
    return dict(_flatten(_read_toml(path), name))


def _read_toml(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            raw = file.read(_CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > _CONFIG_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {_CONFIG_BYTES_MAX} bytes")
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is no TOML: {str(error)[:200]}", hint="correct that line"
        ) from error


def _flatten(document: Mapping[str, object], name: str) -> Iterator[tuple[str, object]]:
    for section, content in document.items():
        if not isinstance(content, dict):
            raise ConfigError(
                f"{name} has {section!r} outside a section",
                hint=f"put it under one of {', '.join(f'[{one}]' for one in _SECTIONS)}",
            )
        for key, value in content.items():
            yield f"{section}.{key}", value
        if not content:
            _refuse_section(section, name)


def _read_environ(environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX) and "__" in name:
            section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
            found[f"{section}.{key}"] = text
    return found


def _refuse_section(section: str, name: str) -> None:
    if section not in _SECTIONS:
        near = difflib.get_close_matches(section, _SECTIONS, n=1)
        raise ConfigError(
            f"{name} has the unknown section [{section[:40]}]",
            hint=f"did you mean [{near[0]}]?" if near else f"sections: {', '.join(_SECTIONS)}",
        )


def _refuse_unknown(key: str, layer: _Layer) -> None:
    if key in KEYS:
        return
    section = key.partition(".")[0]
    if key in RETIRED:
        now = RETIRED[key]
        if layer.origin == "file":
            hint = "prsm config migrate" + (f" calls it {now!r}" if now else " leaves it out")
        else:
            hint = f"it is called {now!r}" if now else "leave it out"
        raise ConfigError(f"{key!r} is a key of an earlier version ({layer.whence})", hint=hint)
    near = nearest_key(key)
    known = [name for name in KEYS if name.startswith(f"{section}.")]
    raise ConfigError(
        f"unknown key {key[:80]!r} ({layer.whence})",
        hint=f"did you mean {near!r}?" if near else f"keys: {', '.join(known or _SECTIONS)}",
    )


_AMOUNTS: Final = frozenset(("worker.price", "worker.bond"))


def _convert(key: str, value: object, layer: _Layer) -> object:
    if isinstance(value, str) and layer.origin in {"env", "flag"}:
        value = _from_text(value, KEYS[key])
    if isinstance(value, int) and not isinstance(value, bool) and key in _AMOUNTS:
        value = str(value)  # an amount without quotes means the same
    try:
        return msgspec.convert(value, KEYS[key], strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{key} is {value!r:.80} ({layer.whence}): {error}",
            hint=f"{key}: {describe(key)}",
        ) from error


def _from_text(text: str, annotation: object) -> object:
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    while get_origin(plain) is Annotated:
        plain = get_args(plain)[0]
    if plain is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if plain is int:
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text
    if get_origin(plain) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _nest(flat: Mapping[str, object]) -> dict[str, dict[str, object]]:
    nested: dict[str, dict[str, object]] = {}
    for key, value in flat.items():
        section, _, name = key.partition(".")
        nested.setdefault(section, {})[name] = value
    return nested
