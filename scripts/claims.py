"""`.venv/bin/python scripts/claims.py`: what documents and messages name, and is not there.

Paths, sections, commands with their options, methods, metrics, keys of the configuration and error
numbers, wherever they are named: in Markdown, in docstrings and comments, in what the program says
to people (`hint=`, help). A figure cannot be looked up here; its command can. Knows: the tables of
the program, the tree on disk. Must not know: what any of it does. A test runs it over the tree.
"""

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

import click
from tidy import ROOT, tracked_files

GENERATED: Final = ("docs/reference/", "docs/dependencies.md")
FOREIGN: Final = ("docs/adr/", "docs/STYLE.md")  # name what others have, or what nobody should
HISTORY: Final = ("CHANGELOG.md",)  # says what was
_FOLDERS: Final = "protocol|consensus|storage|node|testnet|scripts|tests|docs"
_SPAN: Final = re.compile(r"`([^`\n]+)`")
_PATH: Final = re.compile(rf"(?<![\w/.<~@-])((?:{_FOLDERS})/[\w./-]*\w)(?![\w/*{{<(]|\.\w)")
_SECTION: Final = re.compile(r"([\w./-]+\.md)\)?,? (?:section )?\"([^\"\n]+)\"")
_METHOD: Final = re.compile(r"^([a-z]+)_[a-z]+[A-Z]\w*$")
_METRIC: Final = re.compile(r"\bprsm_[a-z0-9_]+[a-z0-9]\b(?![*{.])")
_KEY: Final = re.compile(r"^([a-z]+)\.([a-z][a-z0-9_]*)(?: ?=.*)?$")
_NUMBER: Final = re.compile(r"\bPRSM-(\d{4})\b")
# In a span, at the begin of a line, behind a prompt, a path or a word such as "with:".
_COMMAND: Final = re.compile(
    r"(?:^ *|`|\$ |bin/|&& |\| |: |\b(?:by|run|try|with) )"
    r"(prsm|prsm-testnet) (?=[a-z])(?!\w+ \d)([^`\n]*)"  # `prsm envelope 1` is a label of a key
)
_MADE: Final = 'add_argument(f"--{'  # options made from the fields of something
_ANY: Final = ("--",)
_NO_PATHS: Final = ("node/metrics.txt",)  # in the archive of `prsm debug bundle`
_NO_METRICS: Final = ("prsm_code", "prsm_subscription")  # fields of JSON documents
_NO_KEYS: Final = ("rpc.discover",)  # OpenRPC's name of a method
_SNAKE: Final = re.compile(r"^[a-z][a-z0-9]*(?:_[a-z0-9]+)+$")
_WORDS: Final = re.compile(r"\w+_\w+")
_SCRIPT: Final = re.compile(r"(scripts/[\w/]+\.py)((?: +[^`|#\n]*)?)")
_HANDS_ON: Final = {
    "scripts/bench.py": ("scripts/benchmarks",),
    "scripts/demo.py": ("testnet/cli.py",),
    "scripts/test.py": ("scripts/check.py",),
    # Commands whose words a module of its own reads.
    "sim": ("testnet/sim",),
    "netsim": ("testnet/netsim",),
    "gossip": ("testnet/gossip.py",),
    "fetches": ("testnet/fetches.py",),
}
_END: Final = re.compile(r"\s(?:#|\||&&|;|>|<)|[;:,)`]")
_WORD: Final = re.compile(r"^[a-z][a-z0-9-]*$")
_QUOTES: Final = re.compile(r"[\[\]\"']")
_OPTION: Final = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_FILES: Final = (
    "db",
    "git",
    "json",
    "key",
    "lock",
    "log",
    "md",
    "onnx",
    "py",
    "sh",
    "sock",
    "toml",
)
_SUFFIXES: Final = ("_bucket", "_count", "_sum")

Complaint = tuple[int, str]


class Names(NamedTuple):
    """What there is.

    Attributes:
        commands: words of a command, such as ("prsm", "model", "add") -> its options.
        groups: words of what has commands below it.
        methods: of the RPC.
        metrics: their names.
        keys: of config.toml, such as "net.listen".
        numbers: of errors.
        words: of all programs, scripts and configurations.
    """

    commands: Mapping[tuple[str, ...], frozenset[str]]
    groups: Collection[tuple[str, ...]]
    methods: Collection[str]
    metrics: Collection[str]
    keys: Collection[str]
    numbers: Collection[int]
    words: Collection[str]


def names() -> Names:
    """The names of the program as it is installed."""
    from prsm.node.cli.main import prsm  # noqa: PLC0415 - only here the program is needed
    from prsm.node.config.load import KEYS  # noqa: PLC0415 - as above
    from prsm.node.rpc.methods.table import METHODS  # noqa: PLC0415 - as above
    from prsm.node.rpc.reasons import REGISTRY  # noqa: PLC0415 - as above
    from prsm.node.telemetry.metrictable import METRICS, PROCESS  # noqa: PLC0415 - as above
    from prsm.testnet.cli import main as testnet  # noqa: PLC0415 - as above

    commands: dict[tuple[str, ...], frozenset[str]] = {}
    groups: set[tuple[str, ...]] = set()
    _walk(("prsm",), prsm, frozenset(_options(prsm)), (commands, groups))
    for above in (("prsm-testnet",), ("prsm", "testnet")):
        _walk(above, testnet, frozenset(), (commands, groups))
    commands["prsm", "demo"] = commands["prsm-testnet", "demo"]
    return Names(
        commands,
        groups,
        frozenset(METHODS),
        frozenset({row.name for row in METRICS} | set(PROCESS)),
        frozenset(KEYS),
        frozenset(entry.number for entry in REGISTRY.values()),
        _words(),
    )


def _words() -> frozenset[str]:
    sources = (path for path in tracked_files() if path.endswith((".py", ".toml", ".yaml", ".tsx")))
    texts = ((ROOT / path).read_text() for path in sources if not path.startswith("tests/unit"))
    return frozenset(chain.from_iterable(map(_WORDS.findall, texts)))


_Tree = tuple[dict[tuple[str, ...], frozenset[str]], set[tuple[str, ...]]]


def _walk(
    words: tuple[str, ...], command: click.Command, above: frozenset[str], tree: _Tree
) -> None:
    """Put a command and all below it into a tree of commands and groups."""
    tree[0][words] = above | frozenset(_options(command))
    if words[-1] in _HANDS_ON:
        source = _source(words[-1])
        tree[0][words] |= frozenset((*_OPTION.findall(source), *(_ANY if _MADE in source else ())))
    if isinstance(command, click.Group):
        tree[1].add(words)
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, name
            _walk((*words, name), below, above, tree)


def _options(command: click.Command) -> Iterator[str]:
    yield "--help"
    for option in command.params:
        if isinstance(option, click.Option):
            yield from (*option.opts, *option.secondary_opts)


# -- checks; each is about one line


def unknown_paths(line: str, _names: Names) -> Iterator[str]:
    """A path of the repository that is not there; modules may be named without their ending."""
    for found in _PATH.finditer(line):
        path = found[1].rstrip(".")
        if path not in _NO_PATHS and not _exists(path):
            yield f"{path} is not there"


@cache
def _exists(path: str) -> bool:
    """Also a module without its ending, one with a name of it behind, a decision by its number.

    What npm installs may not be there yet.
    """
    if path.endswith("/node_modules") or any((ROOT / one).exists() for one in (path, f"{path}.py")):
        return True
    if path.startswith("docs/adr/"):
        return any(ROOT.glob(f"{path}-*.md"))
    module, _, name = path.rpartition(".")
    source = ROOT / f"{module}.py"
    return source.exists() and re.search(rf"\b{name}\b", source.read_text()) is not None


def unknown_sections(line: str, _names: Names) -> Iterator[str]:
    """`docs/spec/work.md, "Receipt"`: the page has that heading."""
    for found in _SECTION.finditer(line):
        page = found[1].rpartition("/")[2]
        headings = _headings(page)
        if headings and not any(_is_in(found[2], heading) for heading in headings):
            yield f"{page} has no section {found[2]!r}"


def _is_in(wanted: str, heading: str) -> bool:
    return wanted.casefold() in heading.casefold()


@cache
def _headings(page: str) -> tuple[str, ...]:
    """Headings, and the bold words at the begin of a paragraph, of the one page of that name."""
    found = [
        path for path in tracked_files() if path.startswith("docs/") and path.endswith(f"/{page}")
    ]
    if len(found) != 1:
        return ()
    text = (ROOT / found[0]).read_text()
    return tuple(re.findall(r"^(?:#+ |[-*\d. ]*\*\*)(.+?)(?:\*\*.*)?$", text, re.MULTILINE))


def unknown_methods(line: str, known: Names) -> Iterator[str]:
    """A name such as `job_getResult` that no method has."""
    spaces = {name.partition("_")[0] for name in known.methods}
    for span in _SPAN.findall(line):
        found = _METHOD.match(span)
        if found and found[1] in spaces and span not in known.methods:
            yield f"no method {span}"


def unknown_metrics(line: str, known: Names) -> Iterator[str]:
    """A name such as `prsm_height` that no metric has."""
    for found in _METRIC.findall(line):
        names = {found, *(found.removesuffix(suffix) for suffix in _SUFFIXES)}
        if not names & {*known.metrics, *_NO_METRICS}:
            yield f"no metric {found}"


def unknown_keys(line: str, known: Names) -> Iterator[str]:
    """A key such as `net.listen` that the configuration does not have."""
    sections = {key.partition(".")[0] for key in known.keys}
    for span in _SPAN.findall(line):
        found = _KEY.match(span)
        if not found or found[1] not in sections or found[2] in _FILES:
            continue
        key = f"{found[1]}.{found[2]}"
        if key not in known.keys and key not in _NO_KEYS:
            yield f"no key {key}"


def unknown_numbers(line: str, known: Names) -> Iterator[str]:
    """PRSM-1234 that no error has."""
    for number in _NUMBER.findall(line):
        if int(number) not in known.numbers:
            yield f"no error PRSM-{number}"


def unknown_commands(line: str, known: Names) -> Iterator[str]:
    """`prsm model frobnicate`, or an option that the command does not take."""
    for found in _COMMAND.finditer(line):
        text = _END.split(found[2], maxsplit=1)[0]
        words: tuple[str, ...] = (found[1],)
        for word in _QUOTES.sub(" ", text).split():
            if words not in known.groups or word.startswith("-") or not _WORD.match(word):
                break
            if (*words, word) not in known.commands:
                yield f"no command {' '.join((*words, word))}"
                return
            words = (*words, word)
        options = known.commands[words]
        for option in _OPTION.findall(text) if words[1:] else ():
            if option not in options and not options.issuperset(_ANY):
                yield f"{' '.join(words)} has no option {option}"


def unknown_scripts(line: str, _names: Names) -> Iterator[str]:
    """`scripts/x.py --option`: its source has that option."""
    for found in _SCRIPT.finditer(line):
        path = ROOT / found[1]
        if not path.exists():
            continue  # unknown_paths says it
        source = _source(found[1])
        for option in _OPTION.findall(_END.split(found[2], maxsplit=1)[0]):
            if option not in source and _MADE not in source:
                yield f"{found[1]} has no option {option}"


@cache
def _source(path: str) -> str:
    """A script's text, with that of the programs it hands its arguments to."""
    named = (*((path,) if path.endswith(".py") else ()), *_HANDS_ON.get(path, ()))
    files = [ROOT / one for one in named]
    texts = (one.rglob("*.py") if one.is_dir() else (one,) for one in files)
    return "".join(file.read_text() for each in texts for file in each)


def unknown_words(line: str, known: Names) -> Iterator[str]:
    """A word with underscores, such as a field or the reason of an error, that no program has."""
    for span in _SPAN.findall(line):
        if _SNAKE.match(span) and not span.startswith("test_") and span not in known.words:
            yield f"{span} stands in no program"


_Check = Callable[[str, Names], Iterator[str]]
CHECKS: Final[tuple[_Check, ...]] = (
    unknown_paths,
    unknown_sections,
    unknown_methods,
    unknown_metrics,
    unknown_keys,
    unknown_numbers,
    unknown_commands,
    unknown_scripts,
    unknown_words,
)
# In Python a name may be made up of parts, or be one that a test invents.
SOURCE_CHECKS: Final[tuple[_Check, ...]] = (unknown_paths, unknown_sections, unknown_commands)


# -- the tree


def complaints(path: str, text: str, known: Names) -> Iterator[Complaint]:
    """All that one file names and that is not there."""
    checks = SOURCE_CHECKS if path.endswith(".py") else CHECKS
    if path.startswith(FOREIGN):
        checks = tuple(check for check in checks if check is not unknown_words)
    for number, line in _joined(text):
        for check in checks:
            for what in check(line, known):
                yield number, what


def _joined(text: str) -> Iterator[Complaint]:
    """Lines of a document with their numbers; one that ends in a backslash goes on."""
    begin, held = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        begin = begin if held else number
        held += line
        if held.endswith("\\"):
            held = held[:-1]
            continue
        yield begin, held
        held = ""


def is_read(path: str) -> bool:
    """Documents that are written by people, and the package and its scripts."""
    if path.startswith((*GENERATED, *HISTORY, "tests/", "scripts/claims.py")):
        return False
    return path.endswith((".md", ".py", ".ipynb", ".toml", ".yaml", ".service", ".ts", ".tsx"))


def all_complaints() -> list[str]:
    """What the whole tree names and that is not there, as `path:line: what`."""
    known = names()
    return [
        f"{path}:{line}: {what}"
        for path in filter(is_read, tracked_files())
        for line, what in complaints(path, (ROOT / path).read_text(), known)
    ]


def main() -> None:
    """Print every complaint; exit 1 if there is one."""
    found = all_complaints()
    print("\n".join(found) if found else "claims: all names are there")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
