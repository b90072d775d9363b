"""What an old chain holds is read as it was written, or its genesis is refused."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

import msgspec

import prsm.consensus.ledger
from prsm.protocol.codec import Record
from prsm.protocol.genesis import GENESIS_VERSION, Parameters
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.payloads import PAYLOADS

SHAPES: Final = {3: "3bebffefd491ea9cf12ae225c41a8bb36c73d8838bfeed573d5fc9c40c2b1c15"}


def state_records() -> Iterator[type[Record]]:
    """Every record of the ledger's modules: the state holds them, and they hold each other."""
    package = prsm.consensus.ledger
    for found in iter_modules(package.__path__, f"{package.__name__}."):
        for value in vars(import_module(found.name)).values():
            is_record = isinstance(value, type) and issubclass(value, Record)
            if is_record and value.__module__ == found.name:
                yield value


def shape_of(record: type[Record]) -> str:
    """Its fields with their types and bounds, in order; defaults are not written anywhere."""
    shape = msgspec.inspect.type_info(record)
    assert isinstance(shape, msgspec.inspect.StructType)
    return f"{record.__name__} {[(each.name, each.type) for each in shape.fields]}"


def test_changed_shape_of_what_a_chain_holds_raises_the_version() -> None:
    """Or a home of before opens, and its node ends its votes at the first old record."""
    records: set[type[Record]] = {
        *state_records(),
        *(cls for _, cls in PAYLOADS.items()),
        Parameters,
    }
    shapes = "\n".join(sorted(map(shape_of, records)))
    digest = sha256(shapes.encode()).hex()
    assert SHAPES.get(GENESIS_VERSION) == digest, (
        "a record of state or chain has another shape: raise GENESIS_VERSION and note its digest; "
        "if a record is only new, or a class has moved, note the digest under the same version"
    )
