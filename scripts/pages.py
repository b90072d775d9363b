"""The pages of docs/reference and the files of scripts/deploy that are written from tables.

Knows: the tables of methods, errors, configuration, metrics and alerts, and the tree of commands.
Must not know: how any of it works. `scripts/reference.py` writes them; a test compares them.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import observability

from prsm.node.cli.main import prsm
from prsm.node.config.load import KEYS, describe
from prsm.node.config.schema import Config
from prsm.node.rpc.methods.subscriptions import TOPICS
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.openrpc import document
from prsm.node.rpc.reasons import REGISTRY
from prsm.node.telemetry.metrictable import METRICS, PROCESS
from prsm.node.version import VERSION

_ROOT: Final = Path(__file__).resolve().parent.parent
_WRITTEN: Final = "<!-- written by scripts/reference.py -->\n"
_Schema = Mapping[str, Any]


def pages() -> dict[Path, str]:
    """Every file that is written, by its path from the root of the repository."""
    folder = Path("docs/reference")
    return {
        folder / "README.md": _index(),
        folder / "cli.md": cli(),
        folder / "rpc.md": rpc(),
        folder / "errors.md": errors(),
        folder / "config.md": configuration(),
        folder / "metrics.md": metrics(),
        Path("docs/adr/README.md"): decisions(),
        Path("scripts/deploy/alerts.yaml"): observability.alerts_yaml(),
        Path("scripts/deploy/grafana.json"): observability.grafana_json(),
    }


def _index() -> str:
    return _WRITTEN + (
        "# Reference\n\nWritten from the program's own tables, so it cannot say anything else than "
        "the program does.\n\n"
        "- [modules.md](modules.md): every module in a sentence\n"
        "- [cli.md](cli.md): every command with its options\n"
        "- [rpc.md](rpc.md): every method with parameters, results and scope; every topic\n"
        "- [errors.md](errors.md): every error with what to do\n"
        "- [config.md](config.md): every key of config.toml\n"
        "- [metrics.md](metrics.md): every metric of `/metrics`; "
        "[runbooks](../runbooks/README.md) for the alerts\n"
    )


def decisions() -> str:
    """Every decision by its number and title, from the first line of its page."""
    lines = [
        _WRITTEN + "# Decisions",
        "",
        "Each says what was known, what was decided, what follows",
    ]
    lines[-1] += " and what was rejected. A later one supersedes; none is edited but the tables of"
    lines += ["[0004](0004-dependencies.md) and [0016](0016-written-by-hand.md).", ""]
    for page in sorted((_ROOT / "docs" / "adr").glob("0*.md")):
        number, _, title = page.read_text().partition("\n")[0].removeprefix("# ").partition(". ")
        lines.append(f"- [{number}]({page.name}) {title}")
    return "\n".join(lines) + "\n"


# -- commands


def cli() -> str:
    """Every command, in the order of its name."""
    lines = [_WRITTEN + "# Commands", "", "The same text as `prsm COMMAND --help`, for reading."]
    lines += ["", "Options of every command, before it or behind it:", ""]
    lines += [*_options(prsm), ""]
    for words, command in _commands(prsm, ()):
        lines += [f"## prsm {' '.join(words)}", "", *_command(words, command), ""]
    return "\n".join(lines)


def _commands(
    group: click.Group, above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        assert command is not None, name
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from _commands(command, (*above, name))
            if not command.invoke_without_command:
                continue
        yield (*above, name), command


def _command(words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    with click.Context(command, info_name=" ".join(("prsm", *words))) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        text = (command.help or command.short_help or "").replace("\b\n", "")
    yield f"`prsm {' '.join(words)} {usage}`".replace(" `", "`")
    if text:
        yield ""
        yield " ".join(text.split("\f")[0].split())
    if options := list(_options(command)):
        yield ""
        yield from options


def _options(command: click.Command) -> Iterator[str]:
    for option in command.params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        value = "" if option.is_flag else f" {_metavar(option)}"
        help_text = " ".join((option.help or "").split())
        yield f"- {names}{value}" + (f": {help_text}" if help_text else "")


def _metavar(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.metavar or option.type.name.upper()


# -- methods


def rpc() -> str:
    """Every method by namespace, and the topics of subscriptions."""
    described: Any = document(METHODS, version=VERSION)
    schemas: _Schema = described["components"]["schemas"]
    lines = [_WRITTEN + "# Methods", "", f"{len(METHODS)} methods. How calls are made, doors and"]
    lines[-1] += " limits: [rpc](../spec/rpc.md). `prsm rpc call METHOD key=value` calls any."
    entries = sorted(described["methods"], key=lambda entry: entry["name"])
    for namespace, rows in groupby(entries, lambda entry: str(entry["name"]).partition("_")[0]):
        lines += ["", f"## {namespace}_", ""]
        for entry in rows:
            lines += _method(entry, schemas)
    lines += ["", "## Topics", "", "| topic | scope | row |", "|---|---|---|"]
    for topic in TOPICS.values():
        fields = ", ".join(topic.row.__struct_fields__)
        lines.append(f"| `{topic.name}` | {topic.scope} | {fields} |")
    return "\n".join(lines) + "\n"


def _method(entry: _Schema, schemas: _Schema) -> Iterator[str]:
    yield f"### {entry['name']}"
    yield ""
    marks = [f"scope `{entry['x-scope']}`", f"deadline {entry['x-deadline-ms']} ms"]
    marks += [f"`GET {entry['x-path']}`"] if "x-path" in entry else []
    marks += [f"`{entry['x-command']}`"] if "x-command" in entry else []
    yield f"{entry['summary']} ({', '.join(marks)})"
    yield ""
    for param in entry["params"]:
        about = param.get("description") or param["schema"].get("description", "")
        need = "" if param["required"] else ", optional"
        tail = f": {about}" if about else ""
        yield f"- `{param['name']}` {_type(param['schema'])}{need}{tail}"
    if entry["params"]:
        yield ""
    yield f"Answers {_result(entry['result']['schema'], schemas)}."
    yield ""


def _result(schema: _Schema, schemas: _Schema) -> str:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if not name:
        return _type(schema)
    fields = schemas[name].get("properties", {})
    inner = ", ".join(f"`{field}` {_type(inside)}" for field, inside in fields.items())
    return f"{name}: {inner}" if inner else name


def _type(schema: _Schema) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return "\\|".join(json.dumps(one) for one in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    return {"object": "document", "string": "text"}.get(kind, str(kind))


# -- tables


def errors() -> str:
    """Every error of the registry, by number."""
    lines = [_WRITTEN + "# Errors", "", "What `prsm explain NUMBER` says. Exit codes: "]
    lines[-1] += "[rpc](../spec/rpc.md), the last section."
    for entry in sorted(REGISTRY.values(), key=lambda entry: entry.number):
        again = ", worth trying again" if entry.retryable else ""
        lines += [
            "",
            f"## {entry.prsm_code} `{entry.reason}`",
            "",
            f"{entry.title} (code {entry.code}, exit {int(entry.exit_code)}{again})",
            "",
            f"- Why: {entry.why}",
            f"- Do: {entry.fix}",
        ]
    return "\n".join(lines) + "\n"


def configuration() -> str:
    """Every key by section, with its default."""
    lines = [_WRITTEN + "# Configuration", "", "Order: flag, then `PRSM_SECTION__KEY`, then"]
    lines[-1] += (
        " `config.toml`, then `/etc/prsm/config.toml` (or the file that `PRSM_SYSTEM_CONFIG` names;"
        " empty: none), then profile, then default; `prsm config show --origin`."
    )
    defaults = Config()
    for section, keys in groupby(KEYS, lambda key: key.partition(".")[0]):
        about = (type(getattr(defaults, section)).__doc__ or "").split("\n")[0]
        lines += ["", f"## {about}", "", "| key | default | what it does |", "|---|---|---|"]
        for key in keys:
            value = getattr(getattr(defaults, section), key.partition(".")[2])
            text = msgspec.json.encode(value).decode()
            lines.append(f"| `{key}` | `{text}` | {_cell(describe(key))} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every metric of the table."""
    lines = [_WRITTEN + "# Metrics", "", "`GET /metrics`, open to programs of the same machine,"]
    lines[-1] += " else for a token that may read."
    lines += ["", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for row in METRICS:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind.value} | {labels} | {row.help} |")
    lines += ["", f"And of the process: {', '.join(f'`{name}`' for name in PROCESS)}."]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
