"""Numbers of the wire: each means one class, for ever."""

import pytest

from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import WireError
from prsm.protocol.ids import UInt
from prsm.protocol.messages.table import MESSAGES
from prsm.protocol.registry import Registry


class Ping(Record, frozen=True):
    """A record with a number."""

    count: UInt


class Pong(Record, frozen=True):
    """A record of the same shape."""

    count: UInt


@pytest.fixture
def registry() -> Registry[Record]:
    table: Registry[Record] = Registry("message")
    table.add(2, Pong)
    table.add(1, Ping)
    return table


def test_registry_finds_classes_and_numbers(registry: Registry[Record]) -> None:
    assert registry.number(Ping) == 1
    assert registry.number(Pong) == 2
    assert registry.items() == [(1, Ping), (2, Pong)]


def test_registry_decodes_by_number(registry: Registry[Record]) -> None:
    raw = encode(Ping(5))
    assert registry.decode(1, raw, size_max=10) == Ping(5)
    assert registry.decode(2, raw, size_max=10) == Pong(5)


def test_registry_refuses_an_unknown_number(registry: Registry[Record]) -> None:
    with pytest.raises(WireError, match="message 3 is unknown"):
        registry.decode(3, encode(Ping(5)), size_max=10)


def test_registry_refuses_bytes_over_the_bound(registry: Registry[Record]) -> None:
    with pytest.raises(WireError, match="at most 1"):
        registry.decode(1, encode(Ping(5)), size_max=1)


def test_registry_add_refuses_a_taken_number(registry: Registry[Record]) -> None:
    with pytest.raises(AssertionError, match="message 1 is taken"):
        registry.add(1, type("Other", (Record,), {}))


def test_registry_add_refuses_a_second_number_of_a_class(registry: Registry[Record]) -> None:
    with pytest.raises(AssertionError, match="Ping has a number"):
        registry.add(3, Ping)


def test_messages_are_frozen_and_numbered_within_their_ranges() -> None:
    """The ranges of the table: consensus 1-19 up to generating sessions 170-179."""
    for number, cls in MESSAGES.items():
        assert 1 <= number <= 179
        assert cls.__struct_config__.frozen, cls.__name__
        assert cls.__struct_config__.array_like, cls.__name__
        assert cls.__struct_config__.forbid_unknown_fields, cls.__name__
