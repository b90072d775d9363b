"""The script `prsm-testnet`: what is a document, and what is not."""

import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from prsm.node.telemetry import logs
from prsm.testnet import cli


@pytest.fixture
def kept_logging() -> Iterator[None]:
    """The log of the test's process as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("kept_logging")
def test_log_lines_of_nodes_in_this_process_are_no_part_of_the_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some trials open a node's parts themselves, which warn (`rejoin`: a log that is gone)."""

    def fake_run(_arguments: list[str]) -> int:
        logs.get("signlog").error("observer")
        sys.stdout.write('{"seconds": 1}\n')
        return 0

    monkeypatch.setattr(cli, "run", fake_run)
    with pytest.raises(SystemExit) as ended:
        cli.entry()
    logs.finish()
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert said.out == '{"seconds": 1}\n'
    assert "observer" in said.err
