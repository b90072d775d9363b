"""Configuration: the order of its layers, and that nothing wrong is ignored."""

from pathlib import Path

import pytest

from prsm.node.config import Config, ConfigError, RpcConfig, load, parse_size, system, to_toml
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


def of_machine(folder: Path, text: str) -> dict[str, str]:
    """An environment that names a file of the machine."""
    path = folder / "system.toml"
    path.write_text(text, encoding="utf-8")
    return {"PRSM_SYSTEM_CONFIG": str(path)}


def test_file_of_the_machine_stands_between_the_nodes_own_and_the_profile(tmp_path: Path) -> None:
    path = write(tmp_path, '[log]\nlevel = "error"\n')
    environ = of_machine(
        tmp_path,
        '[node]\nprofile = "light"\nname = "lab"\n[log]\nlevel = "debug"\nkeep = 9\n'
        "[executor]\nenabled = true\n",
    )
    loaded = load(path, environ={**environ, "PRSM_NODE__NAME": "mine"})
    assert (loaded.config.node.profile, loaded.config.node.name) == ("light", "mine")
    assert (loaded.config.log.level, loaded.config.log.keep) == ("error", 9)
    assert loaded.config.executor.enabled  # the profile would not
    keys = ("node.name", "log.level", "log.keep", "executor.enabled", "rpc.listen")
    assert [loaded.origin[key] for key in keys] == ["env", "file", "system", "system", "default"]
    assert str(loaded.system) == environ["PRSM_SYSTEM_CONFIG"]


def test_machine_without_a_file_and_an_empty_variable_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody names one, /etc is looked at; here a folder of the test in its place."""
    monkeypatch.setattr(system, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    assert load(None, environ={}).system is None
    (tmp_path / "etc").mkdir()
    write(tmp_path / "etc", "[log]\nkeep = 9\n")
    assert load(None, environ={}).origin["log.keep"] == "system"
    for environ in ({"PRSM_SYSTEM_CONFIG": ""}, None):
        loaded = load(None, environ=environ)
        assert (loaded.system, loaded.origin["log.keep"]) == (None, "default")


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("[log", "system.toml is no TOML: ", "PRSM_SYSTEM_CONFIG="),
        ("level = 1", "system.toml has 'level' outside a section", "PRSM_SYSTEM_CONFIG="),
        ("[lgo]", "system.toml has the unknown section [lgo]", "did you mean [log]?"),
        ('[log]\nlevl = "debug"', "'log.levl' (in {})", "did you mean 'log.level'?"),
        ('[log]\nlevel = "loud"', "log.level is 'loud' (in {})", "log.level: "),
        ("[executor]\nthreads = 2", "earlier version (in {})", "leave it out"),
    ],
)
def test_file_of_the_machine_that_is_wrong_is_named(
    tmp_path: Path, text: str, what: str, hint: str
) -> None:
    environ = of_machine(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(None, environ=environ)
    assert what.format(environ["PRSM_SYSTEM_CONFIG"]) in caught.value.what
    assert hint in caught.value.hint
    assert "\n" not in caught.value.what


def test_file_of_the_machine_that_cannot_be_read_is_no_absent_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which PRSM_SYSTEM_CONFIG names, is not there"):
        load(None, environ={"PRSM_SYSTEM_CONFIG": str(tmp_path / "none.toml")})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory") as caught:
        load(None, environ={"PRSM_SYSTEM_CONFIG": str(tmp_path)})
    assert "PRSM_SYSTEM_CONFIG=" in caught.value.hint
    beneath = write(tmp_path, "") / "config.toml"  # as of a folder that others may not look into
    with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
        load(None, environ={"PRSM_SYSTEM_CONFIG": str(beneath)})


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
