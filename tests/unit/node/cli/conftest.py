"""Commands against a served fake node."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.served import Served, serve_node


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_node(tmp_path) as found:
        yield found
