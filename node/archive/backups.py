"""Backups of a home: what leaves it, and the checks before any of it becomes a home again.

A backup carries no signing state: neither consensus log nor sign guard nor consensus key. So a
restored home follows, and with its consensus key brought by hand it is an observer: it gets a
guard that never opens (`node/chain/signlog`). A backup with the guard itself would be a kit for
double signing.

Knows: the files of a home, what proves a state. Must not know: the sealed format.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Final

import trio

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.tree import Tree
from prsm.consensus.pbft.tip import Tip
from prsm.node.archive.books import DATABASES, PLAIN, book_files, book_notes
from prsm.node.archive.chains import opened_ledger
from prsm.node.archive.keycheck import Checked, Secrets, check_keys
from prsm.node.archive.replay import Replay, bad_block, decode_certified
from prsm.node.callers.audit import SEGMENT_BYTES_MAX, Verdict, check_files, segments
from prsm.node.chain.chain import read_ledger
from prsm.node.chain.signfiles import forbid_signing
from prsm.node.chain.sync import encode_certified
from prsm.node.clock import TrioClock
from prsm.node.config import load
from prsm.node.home import SCHEMA_VERSION, Home, HomeExists, HomeVersion, write_private
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.errors import PrsmError
from prsm.protocol.genesis import Genesis, from_json
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import address_text
from prsm.storage.backup import BadBackup, Manifest, Part, open_backup, write_backup
from prsm.storage.database import copy_database
from prsm.storage.disk import PosixDisk
from prsm.storage.errors import NotFound
from prsm.storage.keystore import Cost
from prsm.storage.ledger import LedgerStore
from prsm.storage.wholefile import refused

LEDGER: Final = "data/ledger.db"
NODE_KEY: Final = "keys/node.key"
OPERATOR_KEY: Final = "keys/operator.key"
PASSWORD_FILE: Final = "keys/password"  # noqa: S105 - a name of a file
_GENESIS: Final = "genesis.json"
_CONFIG: Final = "config.toml"
_OWN_WALLET: Final = "keys/wallet/default.key"
_WALLET: Final = re.compile(r"keys/wallet/[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.key")
_AUDIT: Final = re.compile(r"data/audit(-[0-9]{12})?\.log")
_FILES: Final = (
    frozenset((_CONFIG, _GENESIS, NODE_KEY, OPERATOR_KEY, PASSWORD_FILE, LEDGER))
    | PLAIN
    | DATABASES
)
_NEEDED: Final = frozenset((_CONFIG, _GENESIS, NODE_KEY))
_SMALL_BYTES_MAX: Final = 4 * 1024 * 1024  # every part but databases and the audit log
_PAGE_BYTES: Final = 4 * 1024 * 1024


async def create_backup(
    home: Home, path: Path, *, password: str, is_running: bool
) -> dict[str, object]:
    """Seal the files of a home, running or not, into one new file.

    Args:
        home: checked; held by a node, or by the caller.
        path: the new file.
        password: of the backup; it need not be that of the keys.
        is_running: a node holds the home, and its ledger open.

    Raises:
        Conflict: the file exists.
        NotFound: a file no node can do without is not there, or a link to another one leads
            nowhere, such as to keys on a stick that is away.
        LocalError: a file of the home that cannot be read, or a ledger that is damaged.
    """
    genesis = from_json(_read(home.genesis))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(_scratch(home.backups)))
        sources = _files(home)
        if not genesis.development:  # a person chose it: two secrets must not become one
            sources.pop(PASSWORD_FILE, None)
        height, head = 0, bytes(genesis.digest)
        ledger = home.root / LEDGER
        if ledger.exists():
            copy = folder / "ledger.db"
            if not is_running:
                await stack.enter_async_context(opened_ledger(ledger))
            await trio.to_thread.run_sync(copy_database, ledger, copy)
            async with opened_ledger(copy) as store:  # quick_check, heights; moves the log in
                is_whole = (await store.first_height() or 1) == 1
                tip = await store.tip()
            # Without its first blocks nothing in a file can prove its state again; peers can.
            if is_whole:
                height, head = tip or (height, head)
                sources[LEDGER] = copy
        sources |= await book_files(home, folder, is_running=is_running)
        sources |= await trio.to_thread.run_sync(_audit_files, home, folder)
        manifest = Manifest(
            version=1,
            schema=SCHEMA_VERSION,
            made_ms=TrioClock().wall_ms(),
            genesis=genesis.digest,
            height=height,
            head=head,
            parts=tuple(Part(name, _size(source)) for name, source in sources.items()),
        )
        await trio.to_thread.run_sync(_seal, path, manifest, sources, password)
        size = _size(path)
    return {
        "file": str(path),
        "size_bytes": size,
        "network": genesis.name,
        "height": height,
        "head_hash": address_text(head),
        "parts": [part.name for part in manifest.parts],
        "ledger": LEDGER in sources,
    }


async def restore_backup(
    home: Home, path: Path, *, password: str, keys_password: str | None, is_rehearsal: bool
) -> dict[str, object]:
    """Check a backup, and unless it is a rehearsal make it a home: whole or not at all.

    The ledger's blocks are executed again from the genesis, each under its certificate; the state
    in the copy must have the root that comes out. No header names that root yet: that of the last
    block speaks of the state before it, and the next one is not made.

    Args:
        home: absent or an empty folder; unused in a rehearsal.
        path: the backup.
        password: of the backup.
        keys_password: of operator and wallet keys; None opens what the backup's own one opens.
        is_rehearsal: check only; nothing is kept.

    Raises:
        HomeExists: there is something in that folder.
        WrongPassword: of the backup, or of a key.
        BadBackup, BadChain, BadGenesis: its content does not hold.
        HomeVersion, StoreUnavailable: written by another version.
    """
    if not is_rehearsal:
        _require_empty(home.root)
    with _staging(home, is_rehearsal=is_rehearsal) as staged:
        with open_backup(path, password=password) as backup:
            manifest = backup.manifest
            if manifest.schema != SCHEMA_VERSION:
                raise HomeVersion(
                    f"{path} holds a home of schema {manifest.schema}, "
                    f"this version reads {SCHEMA_VERSION}",
                    hint="restore it with the version that made it",
                )
            _require_names(path, manifest)
            plain = dict[str, bytes]()
            for part, content in backup.parts():
                chunks = content
                if part.name in {NODE_KEY, PASSWORD_FILE}:
                    plain[part.name] = b"".join(content)
                    chunks = iter((plain[part.name],))
                    if is_rehearsal:
                        continue  # plain: they never touch a disk for a rehearsal
                _write(staged.root / part.name, chunks)
        secret = plain.get(PASSWORD_FILE)
        kept = None if secret is None else secret.decode(errors="replace").rstrip("\n")
        checked = await _check(staged, manifest, plain[NODE_KEY], Secrets(keys_password, kept))
        if not is_rehearsal:
            forbid_signing(staged.data)
            _become(staged.root, home.root)
    return {"file": str(path), "home": None if is_rehearsal else str(home.root), **checked}


async def _check(
    staged: Home, manifest: Manifest, seed: bytes, secrets: Secrets
) -> dict[str, object]:
    """Everything a backup can be wrong about; what is known of it."""
    genesis = from_json(_read(staged.genesis))
    if genesis.digest != manifest.genesis:
        raise BadBackup("the genesis in the backup is not the one its manifest names")
    if len(seed) != 32:
        raise BadBackup(f"the node key has {len(seed)} bytes, it has 32")
    peer = peer_id_of(Ed25519Signer(seed).public_key)
    keys = check_keys(staged, secrets, development=genesis.development)
    audit = check_files(staged.data)
    books = await book_notes(staged, made_ms=manifest.made_ms, clock=TrioClock())
    root = await _check_ledger(staged.root / LEDGER, genesis, manifest)
    return {
        "network": genesis.name,
        "chain_id": "0x" + genesis.chain_id.hex(),
        "height": manifest.height,
        "head_hash": address_text(manifest.head),
        "state_root": address_text(root),
        "peer_id": peer,
        "keys": keys.public,
        "keys_opened": not keys.closed,
        "audit_lines": audit.root.seq,
        "was_validator": any(v.peer_id == peer for v in genesis.validators),
        "notes": [*_notes(staged, secrets), *_key_notes(keys), *_audit_notes(audit), *books],
    }


async def _check_ledger(path: Path, genesis: Genesis, manifest: Manifest) -> bytes:
    """Execute the copy's blocks anew; the root of its state, which is theirs."""
    if all(part.name != LEDGER for part in manifest.parts):
        if manifest.height:
            raise BadBackup(f"a backup of height {manifest.height} without a ledger")
        return Ledger(genesis, {}, verifier=Ed25519Verifier(), tip=None).state_root
    async with opened_ledger(path) as store:
        if await store.tip() != ((manifest.height, manifest.head) if manifest.height else None):
            raise BadBackup(f"the ledger does not end at height {manifest.height}, as its manifest")
        replay = await _execute(store, genesis, manifest.height)
        state = await store.load_state()
        if Tree(genesis.parameters.tree_bits, state.items()).root != replay.ledger.state_root:
            raise BadBackup(
                f"the state is not what the {manifest.height} blocks make of the genesis",
                hint="take another backup, or sync a new home from peers",
            )
        _, tip = await read_ledger(store, genesis)
        made = replay.tip
        if tip.receipts_root != made.receipts_root:
            raise BadBackup("the ledger's receipts are not what its blocks make of the genesis")
    return replay.ledger.state_root


async def _execute(store: LedgerStore, genesis: Genesis, last: int) -> Replay:
    ledger = Ledger(genesis, {}, verifier=Ed25519Verifier(), tip=None)
    tip = Tip.genesis(genesis, state_root=ledger.state_root, receipts_root=ledger.receipts_root)
    replay = Replay(ledger, tip)
    while (height := ledger.height + 1) <= last:
        page = await store.blocks(height, last, bytes_max=_PAGE_BYTES)
        if not page:
            raise bad_block(height, "it is not in the ledger")
        for kept in page:
            raw = encode_certified(kept.block, kept.certificate)
            item = decode_certified(raw, kept.height)
            made, outcome = replay.judge(item)
            if made != kept:
                raise bad_block(kept.height, "the ledger names other receipts or another hash")
            replay.commit(item, outcome)
    return replay


def _notes(staged: Home, secrets: Secrets) -> Iterator[str]:
    try:
        config = load(staged.config).config
    except PrsmError as error:
        yield f"config.toml is not accepted by this version: {error.what}"
        return
    named, own = config.keys.password_file, PASSWORD_FILE if secrets.kept is not None else ""
    if named not in {"", own} and not (staged.root / Path(named).expanduser()).exists():
        yield f"keys.password_file names {named}, which is not here: " + (
            f"prsm config set keys.password_file {own}"
            if own
            else "bring it, or prsm start --set keys.password_file= --unlock"
        )
    if config.consensus.validator:
        yield "no consensus key is in a backup: this node follows until you bring it by hand"


def _key_notes(keys: Checked) -> Iterator[str]:
    if keys.closed:
        yield (
            f"{', '.join(keys.closed)}: not opened, so not shown to sign; give their password "
            "with --keys-password-file"
        )


def _files(home: Home) -> dict[str, Path]:
    wallets = [f"keys/wallet/{path.name}" for path in sorted(home.wallets.glob("*.key"))]
    names = [
        _CONFIG,
        _GENESIS,
        NODE_KEY,
        OPERATOR_KEY,
        PASSWORD_FILE,
        *filter(_WALLET.fullmatch, wallets),
    ]
    found = {name: home.root / name for name in names if (home.root / name).exists()}
    keys = {OPERATOR_KEY, *wallets}.intersection(names)
    led = {name for name in keys if (home.root / name).is_symlink()}
    if missing := {*_NEEDED, _OWN_WALLET, *led}.difference(found):
        raise NotFound(
            f"{home.root / min(missing)} is not there: without it no backup is whole",
            hint="bring the stick or the disk that it lies on; see: prsm doctor",
        )
    return found


def _audit_files(home: Home, folder: Path) -> dict[str, Path]:
    """The audit log; its open segment as it is now, since a running node goes on writing it."""
    found = {f"data/{path.name}": path for path in segments(home.data) if path.exists()}
    for name in [name for name in found if name.endswith("/audit.log")]:
        copy = folder / "audit.log"
        with refused(found[name]):
            raw = found[name].read_bytes()
        copy.write_bytes(raw[: raw.rfind(b"\n") + 1])
        found[name] = copy
    return found


def _audit_notes(audit: Verdict) -> Iterator[str]:
    if audit.broken_at:
        yield f"the audit log is broken at line {audit.broken_at}: {audit.why}"


def _seal(path: Path, manifest: Manifest, sources: dict[str, Path], password: str) -> None:
    with ExitStack() as stack:
        files = []
        for source in sources.values():
            with refused(source):
                files.append(stack.enter_context(source.open("rb")))
        write_backup(path, manifest, files, password=password, cost=Cost.NORMAL)


def _require_names(path: Path, manifest: Manifest) -> None:
    """Only files of a home, each once: a name never leads out of the folder."""
    names = [part.name for part in manifest.parts]
    strange = [
        n for n in names if n not in _FILES and not _WALLET.fullmatch(n) and not _AUDIT.fullmatch(n)
    ]
    large = [p.name for p in manifest.parts if p.size > _bytes_max(p.name)]
    missing = _NEEDED - set(names)
    if strange or large or missing or len(set(names)) != len(names):
        raise BadBackup(
            f"{path} does not hold the files of a home: "
            f"{sorted({*strange, *large, *missing})[:3] or 'a name twice'}"
        )


def _bytes_max(name: str) -> int:
    if name == LEDGER or name in DATABASES:
        return 2**63
    return SEGMENT_BYTES_MAX if _AUDIT.fullmatch(name) else _SMALL_BYTES_MAX


def _require_empty(root: Path) -> None:
    if root.is_symlink() or (root.exists() and (not root.is_dir() or any(root.iterdir()))):
        raise HomeExists(
            f"{root} is not empty", hint="choose another folder with --home DIR, or --verify"
        )


@contextmanager
def _staging(home: Home, *, is_rehearsal: bool) -> Iterator[Home]:
    """A folder that becomes the home when all is well, and is gone when anything is not."""
    if is_rehearsal:
        with _scratch(None) as folder:
            staged = Home(Path(folder) / "home")
            staged.create()
            yield staged
        return
    with refused(home.root):
        home.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _scratch(home.root.parent) as folder:
        staged = Home(Path(folder) / "home")
        staged.create()
        yield staged


def _become(staged: Path, root: Path) -> None:
    with refused(root):
        staged.replace(root)  # takes the place of an empty folder
    PosixDisk().sync_folder(str(root))


def _scratch(parent: Path | None) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=".prsm-", dir=parent)


def _write(path: Path, chunks: Iterator[bytes]) -> None:
    if path.suffix != ".db":
        write_private(path, b"".join(chunks))
        return
    with refused(path), path.open("xb") as file:
        path.chmod(0o600)
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> bytes:
    with refused(path):
        return path.read_bytes()


def _size(path: Path) -> int:
    with refused(path):
        return path.stat().st_size
