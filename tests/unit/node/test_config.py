"""Configuration: the order of its layers, and that nothing wrong is ignored."""

from pathlib import Path

import pytest

from prsm.node.config import Config, ConfigError, RpcConfig, load, parse_size, to_toml
from prsm.protocol.errors import Unsupported
from prsm.protocol.identity import peer_id_of

ALICE, BOB = peer_id_of(b"a" * 32), peer_id_of(b"b" * 32)


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_load_prefers_flag_to_environment_to_file_to_profile(tmp_path: Path) -> None:
    """Each layer sets one key more than the one above it; `origin` names the winner."""
    path = write(
        tmp_path,
        '[node]\nname = "file"\nprofile = "validator"\n[log]\nlevel = "error"\n'
        '[net]\nlisten = ["/ip4/127.0.0.1/tcp/1"]\n',
    )
    loaded = load(
        path,
        environ={"PRSM_LOG__LEVEL": "debug", "PRSM_NODE__NAME": "env", "PRSM_HOME": "/x"},
        flags={"node.name": "flag"},
    )
    assert loaded.config.node.name == "flag"
    assert loaded.config.log.level == "debug"
    assert loaded.config.net.listen == ("/ip4/127.0.0.1/tcp/1",)
    assert loaded.config.consensus.validator
    assert [
        loaded.origin[key]
        for key in ("node.name", "log.level", "net.listen", "consensus.validator", "rpc.listen")
    ] == ["flag", "env", "file", "profile", "default"]


def test_load_gives_defaults_when_there_is_no_file(tmp_path: Path) -> None:
    loaded = load(tmp_path / "absent.toml")
    assert loaded.config == Config()
    assert set(loaded.origin.values()) == {"default"}
    assert loaded.config.net.bootstrap == ()
    assert loaded.config.storage.quota_bytes == 50 * 2**30


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("[net]\nlsten = []", "'net.lsten'", "'net.listen'"),
        ("[storge]\nquota = '1B'", "'storge.quota'", "'storage.quota'"),
        ("[netz]\n", "[netz]", "[net]"),
        ("name = 'x'", "'name' outside a section", "[node]"),
        ("[rpc]\nunix = 'yes'", "rpc.unix is 'yes'", "prsm.sock"),
        ("[executor]\nsandbox = 0", "executor.sandbox is 0", "degraded"),
        ('[executor]\nsandbox = "off"', "executor.sandbox is 'off'", "degraded"),
        ("[executor]\nsandbox = 'lax'", "executor.sandbox is 'lax'", "strict"[:0]),
        ("[storage]\nquota = '4 GB'", "storage.quota is '4 GB'", "blocks"),
        ("[worker]\nprice = -1", "worker.price is '-1'", "micro-FTNS"),
        ("[worker]\nprice = 0.5", "worker.price is 0.5", "micro-FTNS"),
        ("[jobs]\ncheck_percent = 101", "jobs.check_percent is 101", "run again here"),
        ("[worker]\nbond = '1 FTNS'", "worker.bond is '1 FTNS'", "micro-FTNS"),
        ("[rpc]\nlisten = '0.0.0.0:8480'", "not a loopback", "127.0.0.1"),
        ("[rpc]\nlisten = '192.0.2.1:8480'", "not a loopback", "ssh -L"),
        (
            "[rpc]\nlisten = '192.0.2.1:8480'\ntls_cert = 'c'\ntls_key = 'k'\njwt = false",
            "and tokens",
            "jwt",
        ),
        ("[alerts]\nnotify = ['page']", "no absolute path", "/usr/local/bin/page"),
        ("[alerts]\nleast = 'most'", "alerts.least is 'most'", "severity"),
        ("[rpc]\ntls_cert = 'c'", "is empty", "both"),
        (
            "[rpc]\nlisten = '0.0.0.0:1'\ntls_cert = 'c'\ntls_key = 'k'",
            "rpc.hosts is empty",
            "node.example",
        ),
        ("[rpc]\nallow_from = ['10.0.0.1/8']", "no network", "10.0.0.0/8"),
        ("[rpc]\nlisten = '127.0.0.1:99999'", "at most 65535", "8480"),
        ("[net]\nbootstrap = ['/ip4/127.0.0.1/tcp/1']", "without the peer's id", "/p2p/"),
        (
            f"[net]\nbootstrap = ['/dns4/a b/tcp/1/p2p/{ALICE}']",
            "no address by a name",
            "/dns4/NAME",
        ),
        ("[net]\nvia = ['/ip4/1.2.3.4/tcp/1/p2p/x']", "'x' is no peer id", "12D3Koo"),
        ("[net]\nannounce = ['/ip4/0.0.0.0/tcp/1']", "nobody can be dialled", "203.0.113.7"),
        ("[net]\nannounce = ['/ip4/1.2.3.4/tcp/0']", "nobody can be dialled", "203.0.113.7"),
        ("[net]\nannounce = ['nonsense']", "net.announce: 'nonsense'", "/ip4/"),
        ("[net]\noutbound = 9\nmax_peers = 8", "net.outbound is 9", "net.max_peers = 9"),
        ("[net]\nmdns = true\noutbound = 0", "net.mdns is true", "net.outbound = 8"),
        ("[net]\noutbound = -1", "net.outbound is -1", "links chosen"),
        ("[net]\ntrusted = ['bob']", "net.trusted: 'bob'", "12D3Koo"),
        (
            f"[net]\ntrusted = ['{ALICE}']\nbootstrap = ['/ip4/127.0.0.1/tcp/1/p2p/{BOB}']",
            "whose peer is not in net.trusted",
            "take it out of net.bootstrap",
        ),
        ("[net]\nupload = '100KiB'", "net.upload is 102400 bytes", "1MiB"),
        ("[storage]\npeer_upload = '1KiB'", "storage.peer_upload is 1024 bytes", "1MiB"),
        ("[net]\ndownload = '1'", "net.download is 1 bytes", "no limit"),
        ("[net]\nlisten = ['127.0.0.1:1']", "no multiaddress", "/ip4/"),
        ("[node]\nprofile = 'light'\n[consensus]\nvalidator = true", "validator", "profile"),
        ("[node\n", "no TOML", "line"),
    ],
)
def test_load_refuses_and_says_what_to_type(
    tmp_path: Path, text: str, what: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.reason == "config_invalid"


@pytest.mark.parametrize(
    ("name", "text", "ok"),
    [
        ("PRSM_RPC__UNIX", "false", True),
        ("PRSM_RPC__UNIX", "maybe", False),
        ("PRSM_EXECUTOR__SANDBOX", "degraded", True),
        ("PRSM_EXECUTOR__SANDBOX", "lax", False),
        ("PRSM_NET__LISTEN", "/ip4/127.0.0.1/tcp/1,/ip4/127.0.0.1/tcp/2", True),
        ("PRSM_NET__LITSEN", "x", False),
    ],
)
def test_environment_is_read_by_the_type_of_its_key(name: str, text: str, ok: bool) -> None:
    if ok:
        assert load(None, environ={name: text}).origin
        return
    with pytest.raises(ConfigError):
        load(None, environ={name: text})


def test_load_refuses_a_file_that_is_no_text_or_too_large(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe[node]")
    with pytest.raises(ConfigError, match="no TOML"):
        load(path)
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(ConfigError, match="larger"):
        load(path)


def test_to_toml_round_trips_and_comments_what_is_default(tmp_path: Path) -> None:
    config = load(None, flags={"node.name": "lab-1", "rpc.listen": "127.0.0.1:9000"}).config
    assert load(write(tmp_path, to_toml(config))).config == config
    sparse = write(tmp_path, to_toml(config, only={"node.name": "lab-1"}))
    assert load(sparse).config.node.name == "lab-1"
    assert load(sparse).config.rpc == RpcConfig()


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("10B", 10), ("4KiB", 4096), ("2GiB", 2**31), ("1TiB", 2**40)]
)
def test_parse_size_reads_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1 GiB", "1GB", "999999999999TiB", "1.5GiB", "x"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_size(text)


def test_dht_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="dials whatever a stranger names") as refused:
        load(write(tmp_path, "[net]\ndht = true"))
    assert "net.dht = false" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("users = ['ada']", "login.users has 'ada'"),
        ("users = ['ada=king']", "login.users has"),
        ("users = ['ada=user', 'ada=admin']", "twice"),
        ("issuer = 'http://login.example'\nclient_id = 'n'\nusers = ['a=user']", "clear text"),
        ("issuer = 'https://login.example'\nusers = ['a=user']", "client_id"),
        ("issuer = 'https://login.example'\nclient_id = 'n'", "is empty"),
        ("issuer = 'https://[x'\nclient_id = 'n'\nusers = ['a=user']", "clear text"),
        ("claim = 'E-Mail'", "login.claim"),
    ],
)
def test_logins_that_would_let_the_wrong_people_in_are_refused(
    tmp_path: Path, text: str, what: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[login]\n{text}\n")
    with pytest.raises(ConfigError, match=what):
        load(path)
