"""Backup and restore: no signing state leaves, and nothing unproven becomes a home."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio

from prsm.node.archive import backups
from prsm.node.archive.__main__ import main
from prsm.node.archive.backups import LEDGER, create_backup, restore_backup
from prsm.node.archive.chains import opened_ledger
from prsm.node.archive.replay import BadChain
from prsm.node.callers.audit import AuditLog, Note
from prsm.node.callers.tokens import Token, Tokens
from prsm.node.chain.chain import read_ledger
from prsm.node.chain.signfiles import open_signfiles
from prsm.node.cli.birth import Birth, init_home
from prsm.node.clock import TrioClock
from prsm.node.config import load
from prsm.node.home import Home, HomeExists, HomeVersion, write_private
from prsm.node.keys import WALLET, read_public_keys
from prsm.node.process import read_password
from prsm.protocol.genesis import from_json, to_json
from prsm.storage.backup import BadBackup, open_backup
from prsm.storage.disk import PosixDisk
from prsm.storage.earnings import EarningsFile, Ended
from prsm.storage.errors import Conflict, WrongPassword
from prsm.storage.keystore import Cost, load_key, load_seed
from prsm.storage.signguard import SignGuard
from prsm.storage.tenancy import Tenancy, TenantRow, open_database
from prsm.testnet.chain import Chain
from tests.tools.archives import PASSWORD, fill, make_chain, make_home

SECRET = "another horse"


@pytest.fixture(scope="module")
def chain() -> Chain:
    return make_chain(5)


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a real password is measured in tests/unit/storage/test_keystore.py."""

    class Cheap:
        NORMAL = Cost.DEVELOPMENT

    monkeypatch.setattr(backups, "Cost", Cheap)


@pytest.fixture
async def home(tmp_path: Path, chain: Chain) -> Home:
    """A validator's home that has run: it has blocks, a log and a guard."""
    home = make_home(tmp_path / "home")
    await fill(home, chain)
    SignGuard.create(PosixDisk(), str(home.data / "signguard")).close()
    (home.data / "consensus.wal").write_bytes(b"a log")
    return home


async def make_backup(home: Home, path: Path) -> dict[str, object]:
    return await create_backup(home, path, password=SECRET, is_running=False)


async def restore(
    home: Home, path: Path, *, keys: str | None = None, verify: bool = False
) -> dict[str, object]:
    return await restore_backup(
        home, path, password=SECRET, keys_password=keys, is_rehearsal=verify
    )


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_restored_home_has_the_state_and_the_keys_but_nothing_that_signs(
    home: Home, tmp_path: Path, chain: Chain
) -> None:
    path = tmp_path / "backup"
    made = await make_backup(home, path)
    assert (made["height"], made["parts"]) == (
        5,
        [
            *("config.toml", "genesis.json", "keys/node.key", "keys/operator.key"),
            *("keys/wallet/default.key", "data/ledger.db"),
        ],
    )
    new = Home(tmp_path / "new")
    said = await restore(new, path, keys=PASSWORD)
    new.check()
    assert said["state_root"] == "0x" + chain.ledger.state_root.hex()
    assert said["peer_id"] == read_public_keys(home).peer_id
    assert said["keys_opened"] is True
    assert load_seed(new.node_key) == load_seed(home.node_key)
    guard = (home.data / "signguard").read_bytes()
    assert (new.data / "signguard").read_bytes() != guard
    for name in ("keys/consensus.key", "data/consensus.wal"):
        assert (home.root / name).exists()
        assert not (new.root / name).exists()
    async with opened_ledger(new.root / LEDGER) as store:
        ledger, tip = await read_ledger(store, from_json(new.genesis.read_bytes()))
    assert (tip.height, ledger.state_root) == (5, chain.ledger.state_root)
    modes = {p.stat().st_mode & 0o077 for p in new.root.rglob("*")}
    assert modes == {0}
    assert names_in(tmp_path) == ["backup", "home", "new"]
    assert names_in(home.backups) == []


@pytest.mark.parametrize("height", [0, 5])
async def test_validator_restored_with_its_key_is_an_observer_at_every_start(
    tmp_path: Path, chain: Chain, height: int
) -> None:
    """The key is brought by hand, also to a backup older than the first block it signed."""
    home, path, new = make_home(tmp_path / "home"), tmp_path / "backup", Home(tmp_path / "new")
    if height:
        await fill(home, chain)
    await make_backup(home, path)
    await restore(new, path)
    new.consensus_key.write_bytes(home.consensus_key.read_bytes())
    for _ in range(2):
        opened = open_signfiles(PosixDisk(), new.data, ledger_height=height)
        opened.files.close()
        assert opened.observer is not None


async def test_verify_says_the_same_and_makes_nothing(home: Home, tmp_path: Path) -> None:
    path, new = tmp_path / "backup", Home(tmp_path / "new")
    await make_backup(home, path)
    said = await restore(new, path, verify=True, keys=PASSWORD)
    assert (said["home"], said["height"], said["keys_opened"]) == (None, 5, True)
    assert not new.root.exists()
    with pytest.raises(WrongPassword, match=r"operator\.key|default\.key"):
        await restore(new, path, verify=True, keys="wrong")
    with pytest.raises(WrongPassword, match="backup does not open"):
        await restore_backup(new, path, password="wrong", keys_password=None, is_rehearsal=True)


async def test_password_made_by_the_machine_goes_along_and_opens_the_keys_anywhere(
    tmp_path: Path,
) -> None:
    """Nobody knows it: with the old folder gone the wallet would be lost with it."""
    home, path, new = Home(tmp_path / "home"), tmp_path / "backup", Home(tmp_path / "new")
    init_home(home, Birth("one", "validator", "local", None, None, {}))
    await make_backup(home, path)
    shutil.rmtree(home.root)
    proven = await restore(new, path, verify=True)
    assert (proven["keys_opened"], proven["home"]) == (True, None)
    said = await restore(new, path)
    assert said["keys_opened"] is True
    assert "password" not in str(said["notes"])
    password = read_password(None, new.root / load(new.config).config.keys.password_file)
    assert password is not None
    load_key(new.wallet_key("default"), password=password, purpose=WALLET, development=True)


async def test_password_of_a_network_with_value_stays_with_its_owner(tmp_path: Path) -> None:
    """Else whoever opens the backup opens the wallet, too, which only its owner's words opened."""
    home, path = make_home(tmp_path / "home"), tmp_path / "backup"
    genesis = msgspec.structs.replace(from_json(home.genesis.read_bytes()), development=False)
    write_private(home.genesis, to_json(genesis))
    write_private(home.keys / "password", b"typed by a person")
    assert "keys/password" not in str((await make_backup(home, path))["parts"])


async def test_keys_of_which_no_password_is_at_hand_are_said_to_be_closed(
    home: Home, tmp_path: Path
) -> None:
    path = tmp_path / "backup"
    write_private(home.keys / "password", b"of other keys")
    await make_backup(home, path)
    said = await restore(Home(tmp_path / "new"), path, verify=True)
    assert said["keys_opened"] is False
    assert "operator.key: not opened" in str(said["notes"])


async def test_a_full_folder_and_an_existing_file_are_left_alone(
    home: Home, tmp_path: Path
) -> None:
    path = tmp_path / "backup"
    await make_backup(home, path)
    with pytest.raises(Conflict, match="exists already"):
        await make_backup(home, path)
    with pytest.raises(HomeExists, match="not empty"):
        await restore(home, path)
    empty = tmp_path / "empty"
    empty.mkdir()
    await restore(Home(empty), path)
    Home(empty).check()


async def test_a_home_that_never_ran_is_backed_up_without_a_ledger(tmp_path: Path) -> None:
    home, new = make_home(tmp_path / "home"), Home(tmp_path / "new")
    made = await make_backup(home, tmp_path / "backup")
    assert made["height"] == 0
    said = await restore(new, tmp_path / "backup")
    assert said["height"] == 0
    assert not (new.root / LEDGER).exists()


LIES = [
    ("UPDATE state SET value=x'00' WHERE key=(SELECT max(key) FROM state)", "the state"),
    ("DELETE FROM state WHERE key=(SELECT min(key) FROM state)", "the state"),
    ("INSERT INTO state VALUES(x'ffff', x'00')", "the state"),
    ("UPDATE block SET certificate=(SELECT certificate FROM block WHERE height=1)", "block 2"),
    ("UPDATE block SET receipts=x'90' WHERE height=3", "block 3"),
    ("UPDATE block SET body=(SELECT body FROM block WHERE height=2) WHERE height=4", "block 4"),
    ("DELETE FROM tx WHERE height=5; DELETE FROM block WHERE height=5", "the state"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("lie", "what"), LIES)
async def test_a_ledger_that_lies_never_becomes_a_home(
    home: Home, tmp_path: Path, lie: str, what: str
) -> None:
    """Whoever knows the password seals a changed ledger; replay finds every change."""
    with closing(sqlite3.connect(home.root / LEDGER)) as connection:
        connection.executescript(lie)
    path, new = tmp_path / "backup", Home(tmp_path / "new")
    await make_backup(home, path)
    with pytest.raises((BadBackup, BadChain), match=what):
        await restore(new, path)
    assert not new.root.exists()


async def test_another_schema_and_other_files_are_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer, strange = tmp_path / "newer", tmp_path / "strange"
    with monkeypatch.context() as patch:
        patch.setattr(backups, "SCHEMA_VERSION", 2)
        await make_backup(home, newer)
    with pytest.raises(HomeVersion, match="schema 2"):
        await restore(Home(tmp_path / "new"), newer, verify=True)
    whole = backups._files(home)
    (tmp_path / "outside").write_bytes(b"x")
    for name in ("keys/consensus.key", "data/signguard", "../outside"):
        files = {**whole, name: home.root / name}
        monkeypatch.setattr(backups, "_files", lambda _home, files=files: dict(files))
        await make_backup(home, strange)
        with pytest.raises(BadBackup, match=f"files of a home.*{name}"):
            await restore(Home(tmp_path / "new"), strange)
        strange.unlink()


def test_the_program_backs_up_and_restores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_home(tmp_path / "home")

    def run(root: Path, *words: str) -> tuple[int, dict[str, object]]:
        reader, writer = os.pipe()
        os.write(writer, SECRET.encode() + b"\n")
        os.close(writer)
        code = main(["--home", str(root), *words, "--password-fd", str(reader)])
        document = json.loads(capsys.readouterr().out)
        assert isinstance(document, dict)
        return code, document

    path = str(tmp_path / "backup")
    assert run(home.root, "backup", path)[0] == 0
    assert run(tmp_path / "new", "restore", path)[0] == 0
    code, document = run(tmp_path / "new", "restore", path)
    assert code == 2
    assert "error" in document
    with home.hold():  # a node runs: the copy is taken beside it
        assert run(home.root, "backup", path + "2")[0] == 0
    with open_backup(Path(path), password=SECRET) as backup:
        assert backup.manifest.height == 0


async def test_pruned_ledger_stays_out_of_a_backup(home: Home, tmp_path: Path) -> None:
    """Nothing in a file could prove its state again: the restored home begins at height 0."""
    async with opened_ledger(home.data / "ledger.db") as store:
        assert await store.prune(2, count_max=9) == 1
    path = tmp_path / "backup"
    made = await make_backup(home, path)
    assert (made["ledger"], made["height"]) == (False, 0)
    restored = Home(tmp_path / "restored")
    shown = await restore(restored, path)
    assert shown["height"] == 0
    assert not (restored.data / "ledger.db").exists()
    assert open_signfiles(PosixDisk(), restored.data, ledger_height=0).observer is not None


async def test_audit_log_goes_with_its_home(home: Home, tmp_path: Path) -> None:
    """All segments, the open one up to its last whole line; a broken one is said, not refused."""
    audit = await AuditLog.open(home.data, TrioClock())
    for _ in range(3):
        await audit.write(Note("call", "cookie"), {})
    (home.data / "audit.log").rename(home.data / "audit-000000000001.log")
    await audit.write(Note("call", "cookie"), {})
    with (home.data / "audit.log").open("ab") as file:
        file.write(b'{"seq":5')  # a node is writing it
    made = await make_backup(home, tmp_path / "backup")
    parts = made["parts"]
    assert isinstance(parts, list)
    assert parts[-2:] == ["data/audit-000000000001.log", "data/audit.log"]
    new = Home(tmp_path / "new")
    assert (await restore(new, tmp_path / "backup"))["audit_lines"] == 4
    again = await AuditLog.open(new.data, TrioClock())
    assert again.root == audit.root
    (home.data / "audit-000000000001.log").write_bytes(b"{}\n")
    await make_backup(home, tmp_path / "broken")
    said = await restore(new, tmp_path / "broken", verify=True)
    assert any("broken at line 1" in str(note) for note in notes_of(said))


async def keep_books(home: Home) -> Tokens:
    """A token with a secret, one of a public key, one of it taken back; a tenant; a unit's pay."""
    tokens = Tokens.open(home.keys / "rpc.jwt", home.data / "tokens.json", TrioClock())
    for name, public_key in (("ci", ""), ("lab", "0x" + "ab" * 32), ("gone", "0x" + "cd" * 32)):
        made, _ = await tokens.add(
            Token(id="", name=name, scopes=("read",), created_ms=0, public_key=public_key)
        )
        if name == "gone":
            await tokens.revoke(made.id)
    database = await open_database(home.data / "tenancy.db")
    await Tenancy(database).put_tenant(TenantRow("physics", 3, 2, 1, made_ms=5))
    await database.close()
    earned = await EarningsFile.open(home.data / "earnings.db")
    await earned.put(Ended(bytes(32), 0, bytes(36), b"", "infer", 1, 9, 9, 0, True, 4, 5))
    await earned.close()
    return tokens


async def test_books_go_with_their_home_and_nothing_that_lets_anybody_in(
    home: Home, tmp_path: Path
) -> None:
    """The signing key stays behind: a secret is worth nothing in the restored home."""
    tokens = await keep_books(home)
    key = (home.keys / "rpc.jwt").read_bytes().split()[1]
    made = await make_backup(home, tmp_path / "backup")
    parts = made["parts"]
    assert isinstance(parts, list)
    assert parts[-3:] == ["data/tokens.json", "data/earnings.db", "data/tenancy.db"]
    new = Home(tmp_path / "new")
    said = await restore(new, tmp_path / "backup")
    told = " ".join(map(str, notes_of(said)))
    assert "1 tokens with a secret have ended" in told
    assert "1 tokens of public keys may call again, as of 20" in told
    for path in new.root.rglob("*"):
        assert path.is_dir() or key not in path.read_bytes()
    again = Tokens.open(new.keys / "rpc.jwt", new.data / "tokens.json", TrioClock())
    states = {one.name: again.why_dead(one) for one in again.listed()}
    assert states == {"ci": "rotated", "lab": "", "gone": "revoked"}
    assert again.of_key("0x" + "ab" * 32) == tokens.of_key("0x" + "ab" * 32)
    database = await open_database(new.data / "tenancy.db")
    assert [row.name for row in await Tenancy(database).tenants()] == ["physics"]
    await database.close()
    earned = await EarningsFile.open(new.data / "earnings.db")
    assert (await earned.sums()).paid == 9
    await earned.close()


async def test_books_that_cannot_be_read_are_left_out_and_said(home: Home, tmp_path: Path) -> None:
    """Ledger and keys come back all the same, and the restored node starts."""
    (home.data / "tokens.json").write_bytes(b'{"tokens": [')
    await make_backup(home, tmp_path / "backup")
    new = Home(tmp_path / "new")
    said = await restore(new, tmp_path / "backup")
    assert any("tokens.json is left out" in str(note) for note in notes_of(said))
    assert not (new.data / "tokens.json").exists()


def notes_of(said: dict[str, object]) -> list[object]:
    notes = said["notes"]
    assert isinstance(notes, list)
    return notes


async def _note_three(home: Home) -> None:
    audit = await AuditLog.open(home.data, TrioClock())
    for _ in range(3):
        await audit.write(Note("call", "cookie"), {})


def test_the_program_follows_the_audit_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole: its length and root; a line changed: an error that names it, and exit 6."""
    home = make_home(tmp_path / "home")
    trio.run(_note_three, home)
    words = ["--home", str(home.root), "audit"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["last"] == 3
    log = home.data / "audit.log"
    log.write_bytes(log.read_bytes().replace(b'"seq":2', b'"seq":9'))
    assert main(words) == 6
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["data"]["reason"] == "integrity_failed"
    assert "line 2" in error["message"]
