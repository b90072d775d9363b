"""libp2p without the libraries behind those of its parts that no node here uses.

`import libp2p` loads QUIC, DNS, ACME, HTTP clients and mDNS: 19 of the 49 MiB it takes, in every
process, though a node speaks TCP, Noise and Yamux to addresses of digits. While it is imported,
those libraries are placeholders; afterwards they can be imported as ever, by others.

Knows names of packages and Python's import system. Must not know libp2p's own modules: all of
those are the real ones. What a placeholder is asked to do fails by its name.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Final, NoReturn

from typing_extensions import override

UNUSED: Final = frozenset(
    ("aioquic", "dns", "httpcore2", "httpx", "httpx2", "requests", "service_identity", "zeroconf")
)


def import_libp2p() -> None:
    """Import libp2p without `UNUSED`; harmless when it, or one of those, is there already."""
    finder = _Placeholders()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("libp2p")
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)


class _Placeholders(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for every name of an unused package."""

    def __init__(self) -> None:
        self.made: list[str] = []

    @override
    def find_spec(
        self,
        fullname: str,
        _path: Sequence[str] | None,
        _target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """A placeholder, or None for the usual finders."""
        if fullname.partition(".")[0] not in UNUSED:
            return None
        self.made.append(fullname)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    @override
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Make the module."""
        return _Absent(spec.name)

    @override
    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is in it."""


class _Absent(types.ModuleType):
    """A module in which every name is a class that cannot be used."""

    @override
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _unusable(f"{self.__name__}.{name}")
        setattr(self, name, found)
        return found


class _Unusable(type):
    """Of such a class: its attributes are others of them, since they are named at import."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _unusable(f"{cls.__name__}.{name}")


def _unusable(name: str) -> type:
    # An exception, because some of them are named in `except`; made but not used at import.
    body: dict[str, object] = {"__init__": _take, "__call__": _refuse}
    return _Unusable(name, (Exception,), body)


def _take(_self: object, *_arguments: object, **_named: object) -> None:
    """Be constructed: libp2p does that to a resolver when it is imported."""


def _refuse(self: object, *_arguments: object, **_named: object) -> NoReturn:
    raise NotImplementedError(f"{type(self).__name__} is not loaded in a node")
