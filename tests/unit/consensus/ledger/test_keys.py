"""The first letter of a key says what its record is: no two kinds share one."""

from importlib import import_module
from pkgutil import iter_modules

from prsm.consensus import ledger


def test_every_letter_of_the_state_is_of_one_kind() -> None:
    """Constants of one byte are letters of keys; a module that imports one has its name."""
    names: dict[bytes, set[str]] = {}
    for found in iter_modules(ledger.__path__):
        module = import_module(f"prsm.consensus.ledger.{found.name}")
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, bytes) and len(value) == 1:
                names.setdefault(value, set()).add(name)
    shared = {letter: each for letter, each in names.items() if len(each) > 1}
    assert not shared
    assert len(names) > 30
