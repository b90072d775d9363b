"""`prsm token` and `prsm dashboard`: what is sent, what is shown, what stays out of sight."""

import json
import stat
from pathlib import Path

import click
import pytest

from prsm.node.cli.session import Session
from prsm.node.cli.tokens import read_ttl
from prsm.node.rpc.methods.tokens import CreateTokenParams, Login, NewToken, RotateParams
from tests.tools.served import Served

MADE = NewToken(id="tk-1", token="aa.bb.cc", name="ci", scopes=("read",), tenant="", expires=None)


def test_every_option_reaches_the_node(served: Served) -> None:
    done = served.run(
        *("token", "new", "ci", "--scope", "read, sign", "--ttl", "12h", "--tenant", "lab"),
        *("--method", "job_*", "--method", "model_list", "--spend-limit", "2.5"),
        *("--daily-cap", "1", "--public-key", "0x" + "ab" * 32),
    )
    assert done.exit_code == 0, done.stderr
    assert served.node.calls[-1][1] == CreateTokenParams(
        "ci",
        scopes=("read", "sign"),
        ttl_s=12 * 3600,
        tenant="lab",
        methods=("job_*", "model_list"),
        spend_limit="2500000",
        daily_cap="1000000",
        public_key="0x" + "ab" * 32,
    )


def test_a_token_written_into_a_file_is_not_shown(served: Served, tmp_path: Path) -> None:
    served.node.answers["token_create"] = MADE
    out = tmp_path / "ci.token"
    done = served.run("token", "new", "ci", "--role", "observer", "--out", str(out), "--json")
    assert done.exit_code == 0
    assert "aa.bb.cc" not in done.stdout + done.stderr
    assert json.loads(done.stdout)["file"] == str(out)
    assert out.read_text() == "aa.bb.cc\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    shown = served.run("token", "new", "ci", "--role", "observer")
    assert "aa.bb.cc" in shown.stdout


def test_a_login_waits_for_its_person(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again as the node says, until done; the code is shown, the token is not."""
    begun = {"id": "i", "user_code": "WDJB", "url": "http://p/go", "url_complete": "http://p/go?c"}
    answers = [
        {**begun, "interval_s": 1, "expires": "2026-01-01"},
        {"state": "pending", "interval_s": 0},
        {"state": "done", "interval_s": 0, "name": "login ada", "token": "aa.bb.cc"},
    ]
    asked: list[tuple[str, object]] = []

    def post(_session: Session, path: str, value: object) -> bytes:
        asked.append((path, value))
        return json.dumps(answers.pop(0)).encode()

    monkeypatch.setattr(Session, "post", post)
    monkeypatch.setattr("prsm.node.cli.tokens.select.select", lambda *_waits: None)
    out = tmp_path / "ada.token"
    done = served.run("token", "login", "--out", str(out), "--json")
    assert done.exit_code == 0, done.stderr
    assert asked == [
        ("/login/device", {}),
        *[("/login/device/poll", {"id": "i"})] * 2,
    ]
    assert "WDJB" in done.stderr
    assert "aa.bb.cc" not in done.stdout + done.stderr
    assert json.loads(done.stdout)["name"] == "login ada"
    assert out.read_text() == "aa.bb.cc\n"


def test_a_login_where_nobody_vouches_says_what_to_set(served: Served) -> None:
    done = served.run("token", "login")
    assert done.exit_code != 0
    assert "no page" in done.stderr


def test_rotation_asks_first(served: Served) -> None:
    assert served.run("token", "rotate").exit_code == 2
    assert not served.node.calls
    assert served.run("token", "rotate", "--grace", "1d", "--yes").exit_code == 0
    assert served.node.calls[-1][1] == RotateParams(grace_s=86_400)
    assert served.run("token", "rotate", "--grace", "never", "--yes").exit_code == 2


def test_the_dashboard_is_named_and_opened_if_asked(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:1/#login=x"
    served.node.answers["token_createLogin"] = Login(code="x", url=url, expires="2026-01-01")
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", opened.append)
    assert url in served.run("dashboard").stdout
    assert opened == []  # no terminal
    assert served.run("dashboard", "--open").exit_code == 0
    assert opened == [url]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("2w", 1_209_600), ("never", None)]
)
def test_times(text: str, seconds: int | None) -> None:
    assert read_ttl(text) == seconds
    with pytest.raises(click.UsageError):
        read_ttl(f"{text}x")


def test_words_that_are_no_scopes_are_refused(served: Served) -> None:
    for bad in ("", "all", "read,king"):
        assert served.run("token", "new", "n", "--scope", bad).exit_code == 2
    assert not served.node.calls
