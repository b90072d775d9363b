"""What mutmut's operators would change in a package: one small change each, in one function.

Knows mutmut's operators, libcst's trees and Python's code objects; nothing of tests. Decorators are
hidden from mutmut, which passes over whatever has one: here only the code of a function is
exchanged, so a property is like any other function. Code outside functions is not mutated, nor are
the words of an assertion or an error.
"""

import ast
import difflib
import importlib
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Final, Protocol

import libcst as cst
from libcst import matchers
from libcst.metadata import MetadataWrapper, PositionProvider
from typing_extensions import override

ROOT: Final = Path(__file__).resolve().parent.parent
MUTMUT: Final = "mutmut==3.8.1"
_SHA256: Final = "e424d72c0557b6a52a721d9b71e2d18eb9590af746db0bbad50b71e8d4d8ed78"
_FOLDER: Final = ROOT / ".mutmut"  # its screens and their libraries are not needed: no dependencies


class _Mutation(Protocol):
    original_node: cst.CSTNode
    mutated_node: cst.CSTNode
    contained_by_top_level_function: cst.CSTNode | None


class _Operators(Protocol):
    def create_mutations(
        self, filename: str, code: str
    ) -> tuple[cst.Module, list[_Mutation], set[str], set[str]]: ...


@dataclass(frozen=True)
class Place:
    """A function of a file: its qualified name, and which of that name, in order of lines."""

    path: str
    function: str
    number: int


@dataclass(frozen=True)
class Planted:
    """A mutant ready to run."""

    place: Place
    code: CodeType
    change: str  # the line that is new, or the one that is gone


@dataclass(frozen=True)
class Mutant:
    """A change of one node; `lines` are those of the statement it is in."""

    source: "Source"
    place: Place
    lines: range
    before: cst.CSTNode
    after: cst.CSTNode

    def plant(self) -> Planted | None:
        """Compile it; None if Python makes the same code of it (a default value, say)."""
        text = self.source.tree.visit(_Exchange(self.before, self.after))
        assert isinstance(text, cst.Module)
        code = dict(functions(self.place.path, text.code))[self.place]
        if _meaning(code) == _meaning(self.source.codes[self.place]):
            return None
        return Planted(self.place, code, change_of(self.source.text, text.code))


class Source:
    """A file of the package: its text without decorators, its tree and its code."""

    def __init__(self, path: Path) -> None:
        self.path = str(path.relative_to(ROOT))
        self.text = without_decorators(path.read_text())
        self._module, self._mutations, _, _ = _operators().create_mutations(self.path, self.text)

    @property
    def tree(self) -> cst.Module:
        """The nodes of it are those the mutants name."""
        return self._module

    @cached_property
    def codes(self) -> dict[Place, CodeType]:
        """The code of each function as it is."""
        return dict(functions(self.path, self.text))

    def mutants(self) -> Iterator[Mutant]:
        """All changes inside functions, from above."""
        spans = statements(self.text)
        wrapper = MetadataWrapper(self._module, unsafe_skip_copy=True)
        positions = wrapper.resolve(PositionProvider)
        places = dict(_named(self.path, self._module))
        words = set(_words(self._module))
        for mutation in self._mutations:
            place = places.get(mutation.contained_by_top_level_function)
            position = positions.get(mutation.original_node)
            if place is None or position is None or mutation.original_node in words:
                continue
            line = position.start.line
            lines = min((span for span in spans if line in span), key=len)
            yield Mutant(self, place, lines, mutation.original_node, mutation.mutated_node)


def functions(path: str, text: str) -> Iterator[tuple[Place, CodeType]]:
    """Each function of a module or of its classes, with its code."""
    seen: defaultdict[str, int] = defaultdict(int)
    module = compile(text, path, "exec", dont_inherit=True)
    pending = [module]
    while pending:
        outer = pending.pop(0)
        for code in outer.co_consts:
            if not isinstance(code, CodeType):
                continue
            if code.co_flags & 1:  # CO_OPTIMIZED: a function; the body of a class is none
                yield Place(path, code.co_qualname, seen[code.co_qualname]), code
                seen[code.co_qualname] += 1
            else:
                pending.append(code)


def _operators() -> _Operators:
    """Mutmut's, fetched once."""
    if not (_FOLDER / f"{MUTMUT.replace('==', '-')}.dist-info").exists():
        with tempfile.TemporaryDirectory() as folder:
            wanted = Path(folder) / "requirements.txt"
            wanted.write_text(f"{MUTMUT} --hash=sha256:{_SHA256}\n")
            command = ["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
            target = ["--target", str(_FOLDER), "--requirement", str(wanted)]
            subprocess.run([sys.executable, *command, *target], check=True)
    if str(_FOLDER) not in sys.path:
        sys.path.append(str(_FOLDER))
    return importlib.import_module("mutmut.mutation.file_mutation")


def without_decorators(text: str) -> str:
    """The same lines, those of functions' decorators empty."""
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                assert decorator.end_lineno is not None
                for number in range(decorator.lineno, decorator.end_lineno + 1):
                    lines[number - 1] = "\n"
    return "".join(lines)


def statements(text: str) -> list[range]:
    """The lines of each statement; of one with a body, those before the body."""
    spans = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            body = getattr(node, "body", None) or getattr(node, "cases", None)
            first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
            if body:
                inner = body[0]
                begin = inner.pattern.lineno if isinstance(inner, ast.match_case) else inner.lineno
                spans.append(range(first, max(begin, first + 1)))
            else:
                assert not isinstance(node, ast.match_case)
                spans.append(range(first, (node.end_lineno or first) + 1))
    return spans


def _named(path: str, module: cst.Module) -> Iterator[tuple[cst.CSTNode | None, Place]]:
    seen: defaultdict[str, int] = defaultdict(int)
    for node in module.body:
        inner = node.body.body if isinstance(node, cst.ClassDef) else (node,)
        outer = f"{node.name.value}." if isinstance(node, cst.ClassDef) else ""
        for each in inner:
            if isinstance(each, cst.FunctionDef):
                name = outer + each.name.value
                yield each, Place(path, name, seen[name])
                seen[name] += 1


def _words(module: cst.Module) -> Iterator[cst.CSTNode]:
    """Texts a person reads after a crash or a refusal; no rule is in them."""
    for statement in matchers.findall(module, matchers.Assert() | matchers.Raise()):
        spoken = statement.msg if isinstance(statement, cst.Assert) else statement
        if spoken is not None:
            yield from matchers.findall(spoken, matchers.SimpleString())


class _Exchange(cst.CSTTransformer):
    """Put another node in the place of one."""

    def __init__(self, before: cst.CSTNode, after: cst.CSTNode) -> None:
        super().__init__()
        self._before = before
        self._after = after

    @override
    def on_visit(self, node: cst.CSTNode) -> bool:
        return node is not self._before

    @override
    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> cst.CSTNode:  # type: ignore[override] # nothing is removed
        return self._after if original_node is self._before else updated_node


def _meaning(code: CodeType) -> tuple[object, ...]:
    """Of a code object, without its lines."""
    consts = tuple(
        _meaning(each) if isinstance(each, CodeType) else (type(each), each)
        for each in code.co_consts
    )
    return (code.co_code, consts, code.co_names, code.co_varnames, code.co_exceptiontable)


def change_of(before: str, after: str) -> str:
    """The line that is new, or the one that is gone."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0))[3:]
    new = [line[1:].strip() for line in lines if line.startswith("+")]
    gone = [line[1:].strip() for line in lines if line.startswith("-")]
    text = " ".join(new)  # a bracket alone says nothing
    return text if any(map(str.isalnum, text)) else "without: " + " ".join(gone)
