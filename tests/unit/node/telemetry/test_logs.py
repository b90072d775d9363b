"""Log lines: readable by people and programs, and free of secrets."""

import base64
import io
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typing_extensions import override

from prsm.node.telemetry import logs
from prsm.node.telemetry.logfile import RotatingFile
from prsm.node.telemetry.repeats import ALIKE_MAX


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


def test_tokens_are_blanked_wherever_they_stand() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, style="json")
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhYmNkZWYifQ.c2lnbmF0dXJlLWhlcmU"
    logs.get("web").info(f"asked with Authorization: Bearer {'ab' * 32}", url=f"/x?t={token}")
    logging.getLogger("library").error("got %s", token)
    text = stream.getvalue()
    assert token not in text
    assert "ab" * 32 not in text
    assert text.count(logs.SECRET_MARK) == 3


def test_what_repeats_is_written_a_few_times_and_counted() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, style="json")
    log = logs.get("net")
    for _ in range(40):
        log.warning("dial failed", peer="A")
    log.warning("another line")
    logs.finish()
    found = lines(stream)
    assert [line["event"] for line in found] == [
        *(ALIKE_MAX * ["dial failed"]),
        "another line",
        "dial failed",
    ]
    assert found[-1]["repeated"] == 40 - ALIKE_MAX
    assert (found[-1]["room"], found[-1]["level"]) == ("net", "warning")


def test_who_listens_hears_what_is_written_and_no_secret() -> None:
    heard: list[dict[str, Any]] = []
    logs.configure(stream=io.StringIO(), style="json")
    with logs.listening(lambda event: heard.append(dict(event))):
        logs.get("net").info("said", password="hunter2", height=7)
        logs.get("net").debug("not written")
    logs.get("net").info("nobody listens")
    assert [(one["event"], one["height"], one["password"]) for one in heard] == [
        ("said", 7, logs.SECRET_MARK)
    ]


def test_a_file_gets_json_while_a_person_reads_text(tmp_path: Path) -> None:
    stream = io.StringIO()
    file = RotatingFile(tmp_path / "logs" / "node.log", bytes_max=0, keep=1)
    logs.configure(stream=stream, style="human", file=file)
    logs.get("net").info("connected", height=7)
    file.close()
    (line,) = [json.loads(text) for text in file.path.read_text().splitlines()]
    assert (line["event"], line["height"], line["room"]) == ("connected", 7, "net")
    assert stream.getvalue().endswith("connected  height=7\n")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
