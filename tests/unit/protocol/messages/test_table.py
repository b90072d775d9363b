"""Numbers and the schema that brought them."""

import pytest

from prsm.protocol.messages.net import SCHEMA_VERSION
from prsm.protocol.messages.table import BROUGHT_BY, MESSAGES, since


@pytest.mark.parametrize(
    ("number", "schema"),
    [(1, 1), (90, 1), (92, 1), (93, 2), (99, 2), (100, 1), (139, 1), (140, 2), (149, 2), (150, 1)],
)
def test_number_tells_its_schema(number: int, schema: int) -> None:
    assert since(number) == schema


def test_no_number_is_newer_than_this_program() -> None:
    assert max(BROUGHT_BY) <= SCHEMA_VERSION
    assert all(since(number) <= SCHEMA_VERSION for number, _ in MESSAGES.items())
