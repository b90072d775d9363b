"""Numbers and the schema that brought them."""

import pytest

from prsm.protocol.messages.net import SCHEMA_VERSION
from prsm.protocol.messages.table import BROUGHT_BY, MESSAGES, since

# What commit 9f2be66, the last program of schema 1, knows. Nothing is ever added here.
FIRST = frozenset(
    (
        *(1, 2, 3, *range(20, 30), *range(40, 44), 45, 46, 47, *range(50, 55)),
        *(*range(70, 81), 90, 91, 92, *range(100, 105), *range(110, 115)),
        *(120, 121, 122, 130, 131, 132),
    )
)


@pytest.mark.parametrize(
    ("number", "schema"),
    [
        (1, 1),
        (90, 1),
        (92, 1),
        (93, 2),
        (99, 2),
        (100, 1),
        (132, 1),
        (139, 3),
        (140, 2),
        (149, 2),
        (150, 3),
    ],
)
def test_number_tells_its_schema(number: int, schema: int) -> None:
    assert since(number) == schema


def test_no_number_is_newer_than_this_program() -> None:
    assert max(BROUGHT_BY) <= SCHEMA_VERSION
    assert all(since(number) <= SCHEMA_VERSION for number, _ in MESSAGES.items())


def test_every_number_an_old_program_does_not_know_is_of_a_later_schema() -> None:
    """A new number without a schema would be sent to programs that end the connection for it."""
    for number, cls in MESSAGES.items():
        assert (since(number) == 1) == (number in FIRST), cls.__name__
