"""Log lines: readable by people and programs, and free of secrets."""

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from typing_extensions import override

from prsm.node import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave structlog and the root logger as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_carry_time_level_event_and_fields() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get("net", peer="12D3").info("connected", height=7)
    logs.get("net").debug("not written")
    (line,) = lines(stream)
    assert list(line)[:3] == ["ts", "level", "event"]
    assert line["ts"].endswith("Z")
    assert (line["room"], line["peer"], line["height"]) == ("net", "12D3", 7)


def test_secrets_are_blanked_by_name_and_by_bytes() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, style="json")
    secret = bytes(range(100, 132))
    logs.secrets.guard(secret)
    log = logs.get("wallet")
    log.info("opened", password="hunter2", nested={"api_token": "abc"}, tokens=12)
    log.info(" ".join(["seed", secret.hex()]), b64=base64.b64encode(secret).decode(), raw=secret)
    log.info("in a list", items=[secret, repr(secret)])
    text = stream.getvalue()
    assert "hunter2" not in text
    assert '"abc"' not in text
    assert secret.hex() not in text
    assert base64.b64encode(secret).decode() not in text
    assert repr(secret)[2:-1] not in text.replace("\\\\", "\\")
    assert lines(stream)[0]["tokens"] == 12


def test_lines_of_libraries_pass_through_the_same_door() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, style="json")
    logging.getLogger("hypercorn.error").warning("dial %s failed", "x")
    logging.getLogger("hypercorn.error").info("noise")
    logging.getLogger("bad").error("%d", "no number")
    first, second = lines(stream)
    assert (first["event"], first["room"], first["level"]) == (
        "dial x failed",
        "hypercorn",
        "warning",
    )
    assert "unreadable" in second["event"]


def test_human_lines_keep_control_characters_of_peers_out() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, style="human")
    logs.get("net").warning("agent", agent="\x1b[2Jevil\nline")
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1
    assert "WARN net" in stream.getvalue()


def test_an_exception_is_text_and_long_values_are_cut() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, style="json")
    try:
        int("boom")
    except ValueError:
        logs.get("x").exception("failed", value="v" * 10_000)
    (line,) = lines(stream)
    assert "ValueError: invalid literal" in line["exception"]
    assert len(line["value"]) < 5000


def test_stream_that_refuses_costs_lines_and_nothing_else() -> None:
    """A full disk under the log file ended the daemon that wanted to say so; it comes back."""

    class Full(io.StringIO):
        is_full = True

        @override
        def write(self, text: str) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return super().write(text)

        @override
        def flush(self) -> None:
            if self.is_full:
                raise OSError(28, "No space left on device")

    stream = Full()
    logs.configure(stream=stream, style="json")
    logs.get("driver").error("the disk is full")
    logging.getLogger("library").error("so it is")
    assert stream.getvalue() == ""
    stream.is_full = False
    logs.get("driver").info("room again")
    (line,) = lines(stream)
    assert line["event"] == "room again"
