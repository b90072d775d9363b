"""The picture of docs/ARCHITECTURE.md: floors and rooms, with weights, drawn from the imports.

Knows: import statements, the layers and homes of pyproject.toml. Must not know: what any
module does. Uses the standard library alone and imports nothing of prsm, so it runs before
installation. A weight is a number of import statements. `scripts/reference.py` writes what is
returned here; a test compares.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

_FROM: Final = re.compile(r"^ *from ([\w.]+) import (\([^)]*\)|[^\n]*)", re.MULTILINE)
_IMPORT: Final = re.compile(r"^ *import ([\w.]+)", re.MULTILINE)
_COMMENT: Final = re.compile(r"#[^\n]*")
_NUMBERS: Final = re.compile(r"\d[\d,]*")
_TOP: Final = "node (top)"
_GROUND: Final = "node (ground)"
_HEAVY: Final = 4  # uses named in a row of the table; the rest is counted


class Room(NamedTuple):
    """One folder, or the modules that lie beside the folders of their floor.

    Attributes:
        modules: how many.
        lines: of all of them.
        uses: room -> import statements that lead there.
        foreign: libraries imported here that are not the standard library's.
    """

    modules: int
    lines: int
    uses: Counter[str]
    foreign: frozenset[str]


def rooms(root: Path, modules: Iterable[str], project: str) -> dict[str, Room]:
    """Every room of the tree, floors from below, rooms of the node from above.

    Args:
        root: of the repository.
        modules: paths of the package's modules.
        project: text of pyproject.toml.
    """
    named = list(modules)
    known = {path.removesuffix(".py") for path in named}
    contracts = tomllib.loads(project)["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one.get("containers") == ["prsm.node"])
    order = list(_layers(layers))
    (homes,) = (
        one["forbidden_modules"] for one in contracts if one.get("source_modules") == ["prsm"]
    )
    found: dict[str, Room] = {}
    for path in named:
        name = _room(path.removesuffix(".py"), order)
        text = (root / path).read_text()
        before = found.get(name, Room(0, 0, Counter(), frozenset()))
        targets = list(_imports(text))
        uses = Counter(_room(one, order) for one in _own(targets, known))
        del uses[name]
        foreign = {one.partition(".")[0] for one, _ in targets} & {*homes, "trio", "msgspec"}
        found[name] = Room(
            before.modules + 1,
            before.lines + text.count("\n"),
            before.uses + uses,
            before.foreign | foreign,
        )
    return dict(sorted(found.items(), key=lambda item: _place(item[0], order)))


def _layers(layers: Iterable[str]) -> Iterator[str]:
    for layer in layers:
        yield from (name.strip(" ()") for name in layer.split("|"))


def _room(module: str, order: list[str]) -> str:
    """The room of a path such as node/rpc/wire, without its ending."""
    floor, _, rest = module.partition("/")
    first, inner, _ = rest.partition("/")
    if inner:
        return f"{floor}/{first}"
    if floor != "node":
        return floor
    above = first in order and order.index(first) < order.index("web")
    return _TOP if above else _GROUND


def _place(room: str, order: list[str]) -> tuple[int, int, str]:
    """Floors from above, rooms of the node as contract 3 orders them."""
    floor, _, name = room.partition("/")
    floors = ["testnet", "node", "consensus", "storage", "protocol"]
    if room == _TOP:
        return 1, order.index("daemon"), room
    if room == _GROUND:
        return 1, len(order), room
    inside = order.index(name) if floor == "node" and name in order else 0
    return floors.index(floor), inside, room


def _imports(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each import statement as a module and the names taken from it.

    Read by pattern: parsing the tree takes ten times as long, and this runs in the gate.
    """
    for found in _FROM.finditer(text):
        names = _COMMENT.sub("", found[2]).strip("()").split(",")
        yield found[1], tuple(name.split(" as ")[0].strip() for name in names)
    for found in _IMPORT.finditer(text):
        yield found[1], ()


def _own(targets: Iterable[tuple[str, tuple[str, ...]]], known: set[str]) -> Iterator[str]:
    """The modules of this package that import statements lead to."""
    for module, names in targets:
        if not module.startswith("prsm."):
            continue
        path = module.removeprefix("prsm.").replace(".", "/")
        inner = {f"{path}/{name}" for name in names} & known
        yield from inner or ({path} & known or {f"{path}/__init__"})


# -- drawing


def picture(found: Mapping[str, Room]) -> str:
    """The floors, and the rooms of the node, as Markdown."""
    between = ("", "The rooms of the node; an arrow that others imply is left out:", "")
    return "\n".join((*_floors(found), *between, *_node(found), ""))


def table(found: Mapping[str, Room]) -> str:
    """A row for each room: how large, what it uses most, the foreign libraries it touches."""
    head = [
        "| room | modules | lines | uses (import statements) | libraries |",
        "|---|---|---|---|---|",
    ]
    return "\n".join((*head, *(_row(name, room) for name, room in found.items()), ""))


def _floors(found: Mapping[str, Room]) -> Iterator[str]:
    uses: Counter[tuple[str, str]] = Counter()
    sizes: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for name, room in found.items():
        floor = _floor(name)
        sizes[floor] += room.lines
        modules[floor] += room.modules
        for target, weight in room.uses.items():
            uses[floor, _floor(target)] += weight
    yield "```mermaid"
    yield "flowchart TD"
    for floor, lines in sizes.items():
        yield f'    {floor}["{floor}<br>{modules[floor]} modules, {lines:,} lines"]'
    for (above, below), weight in sorted(uses.items()):
        if above != below:
            yield f"    {above} -- {weight} --> {below}"
    yield "```"


def _node(found: Mapping[str, Room]) -> Iterator[str]:
    inner = {name: room for name, room in found.items() if _floor(name) == "node"}
    below = {name: set(room.uses) & inner.keys() for name, room in inner.items()}
    yield "```mermaid"
    yield "flowchart TD"
    for name, room in inner.items():
        yield f'    {_key(name)}["{name.removeprefix("node/")}<br>{room.lines:,}"]'
    for name in inner:
        for target in sorted(_needed(name, below)):
            yield f"    {_key(name)} -- {inner[name].uses[target]} --> {_key(target)}"
    yield "```"


def _needed(name: str, below: Mapping[str, set[str]]) -> set[str]:
    """Rooms below `name` that no other of them leads to: the transitive reduction."""
    reached = set(chain.from_iterable(_reach(one, below) for one in below[name]))
    return below[name] - reached


def _reach(name: str, below: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(below[name])
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += below[one]
    return found


def _row(name: str, room: Room) -> str:
    most = [f"{target} {weight}" for target, weight in room.uses.most_common(_HEAVY)]
    rest = len(room.uses) - len(most)
    uses = ", ".join([*most, *([f"{rest} more"] if rest > 0 else [])])
    libraries = ", ".join(sorted(room.foreign))
    return f"| `{name}` | {room.modules} | {room.lines:,} | {uses} | {libraries} |"


def _floor(room: str) -> str:
    return room.partition("/")[0].partition(" ")[0]


def _key(room: str) -> str:
    return room.removeprefix("node/").replace(" (", "_").rstrip(")")


def shape(text: str) -> list[str]:
    """What of a picture must be current: rooms, arrows and libraries, without the figures."""
    lines = []
    for line in text.splitlines():
        cells = line.split(" | ")
        kept = [cells[0], cells[-1]] if line.startswith("| `") else [line]
        lines.append(_NUMBERS.sub("", " | ".join(kept)))
    return lines
