"""The data folder of one node: where each file lies, who may read it, and who uses it now.

Knows: paths, modes, the schema version, the lock. Must not know: what is inside the files.
The folder and everything in it is 0700 / 0600; one process at a time holds `run/lock` (flock).

Imports nothing but the standard library and the error classes: the client reads it too.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prsm.node.holder import Holder, read_holder, write_holder
from prsm.protocol.errors import LocalError

SCHEMA_VERSION: Final = 1
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
# sun_path holds 108 bytes with its closing zero (unix(7)).
_SOCKET_PATH_MAX: Final = 107
SYSTEM_HOME: Final = Path("/var/lib/prsm")  # StateDirectory of scripts/deploy/prsm.service


class HomeMissing(LocalError):
    """The data folder was never initialised."""

    reason = "home_missing"


class HomeExists(LocalError):
    """`init` found a node where it should make one."""

    reason = "home_exists"


class HomeLocked(LocalError):
    """Another process uses the data folder."""

    reason = "home_locked"


class HomeUnsafe(LocalError):
    """Others may read the keys."""

    reason = "home_unsafe"


class HomeVersion(LocalError):
    """The data folder was written by another schema version."""

    reason = "unsupported_version"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths of one data folder."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.root / "config.toml"

    @property
    def addresses(self) -> Path:
        """Where peers were found before: the address book."""
        return self.root / "net" / "addresses"

    @property
    def bans(self) -> Path:
        """Which peers are neither dialled nor let in, and until when."""
        return self.root / "net" / "bans.json"

    @property
    def genesis(self) -> Path:
        """The first document of the network this node belongs to."""
        return self.root / "genesis.json"

    @property
    def version(self) -> Path:
        """The schema version of everything below."""
        return self.root / "VERSION"

    @property
    def keys(self) -> Path:
        """The folder of secret keys."""
        return self.root / "keys"

    @property
    def node_key(self) -> Path:
        """32 raw bytes: the seed of the libp2p identity."""
        return self.keys / "node.key"

    @property
    def consensus_key(self) -> Path:
        """32 raw bytes: the seed that signs votes."""
        return self.keys / "consensus.key"

    @property
    def token_key(self) -> Path:
        """The keys that sign tokens of clients."""
        return self.keys / "rpc.jwt"

    @property
    def consensus_keys(self) -> list[Path]:
        """Every seed that may sign votes: a rotated key, and the one that follows it."""
        return sorted(self.keys.glob("consensus*.key"))

    @property
    def operator_key(self) -> Path:
        """Encrypted keystore of the validator's owner."""
        return self.keys / "operator.key"

    @property
    def wallets(self) -> Path:
        """The folder of encrypted payment keys."""
        return self.keys / "wallet"

    def wallet_key(self, name: str) -> Path:
        """Encrypted keystore of the payment key `name`."""
        return self.wallets / f"{name}.key"

    @property
    def data(self) -> Path:
        """Ledger, consensus log, sign guard, jobs."""
        return self.root / "data"

    @property
    def tokens(self) -> Path:
        """What each token of a client may do."""
        return self.data / "tokens.json"

    @property
    def answers(self) -> Path:
        """First answers of calls that named a key, for a day."""
        return self.data / "answers.db"

    @property
    def blocks(self) -> Path:
        """Content-addressed blocks."""
        return self.root / "blocks"

    @property
    def models(self) -> Path:
        """Model files checked out for workers."""
        return self.root / "models"

    @property
    def jobs(self) -> Path:
        """Inputs and results of jobs."""
        return self.root / "jobs"

    @property
    def run(self) -> Path:
        """Files of the running process: lock, cookie, socket, endpoint."""
        return self.root / "run"

    @property
    def lock(self) -> Path:
        """The flock that names its holder."""
        return self.run / "lock"

    @property
    def cookie(self) -> Path:
        """The token of local clients, new at each start."""
        return self.run / ".cookie"

    @property
    def socket(self) -> Path:
        """The unix socket of JSON-RPC."""
        return self.run / "prsm.sock"

    @property
    def endpoint(self) -> Path:
        """Where the running node answers, as JSON."""
        return self.run / "endpoint.json"

    @property
    def logs(self) -> Path:
        """Log files of a detached node."""
        return self.root / "logs"

    @property
    def log(self) -> Path:
        """The log of a detached node."""
        return self.logs / "node.log"

    @property
    def backups(self) -> Path:
        """Encrypted backups."""
        return self.root / "backups"

    def _folders(self) -> tuple[Path, ...]:
        return (
            *(self.root, self.keys, self.wallets, self.data, self.blocks, self.models),
            *(self.jobs, self.run, self.logs, self.backups),
        )

    def create(self) -> None:
        """Make all folders (0700) and the VERSION file; existing folders keep their content.

        Raises:
            HomeExists: the folder already holds a node.
            LocalError: the folder cannot be made.
        """
        if self.version.exists():
            raise HomeExists(
                f"{self.root} already holds a node",
                hint="start it with `prsm start`, or choose another folder with --home DIR",
            )
        try:
            for folder in self._folders():
                folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
                folder.chmod(_FOLDER_MODE)
        except OSError as error:
            raise LocalError(
                f"{self.root} cannot be made: {error.strerror}",
                hint="choose a folder you may write, with --home DIR",
            ) from error
        write_private(self.version, f"{SCHEMA_VERSION}\n".encode())

    def check(self) -> None:
        """Refuse a folder that is absent, of another schema version, or open to others.

        Raises:
            HomeMissing: no node here.
            HomeVersion: written by a newer or an unknown version.
            HomeUnsafe: group or others may enter `keys/`; who needs one says if that is away.
        """
        try:
            text = self.version.read_text(encoding="ascii", errors="replace").strip()
        except OSError as error:
            raise HomeMissing(
                f"{self.root} holds no node",
                hint="make one with `prsm init`, or name its folder with --home DIR",
            ) from error
        if text != str(SCHEMA_VERSION):
            raise HomeVersion(
                f"{self.version} says schema {text[:20]!r}, this version reads {SCHEMA_VERSION}",
                hint="install the version that wrote it, or restore a backup of it",
            )
        mode = stat.S_IMODE(self.keys.stat().st_mode) if self.keys.exists() else 0
        if mode & 0o077:
            raise HomeUnsafe(
                f"{self.keys} has mode {mode:04o}, at most 0700",
                hint=f"chmod -R go= {self.keys}",
            )

    @contextmanager
    def hold(self, work: str = "") -> Iterator[None]:
        """Be the one process that uses this folder, while the block runs.

        Args:
            work: what for, as a person typed it; empty if it is the node.

        Raises:
            HomeLocked: another process holds it; the message names it.
            LocalError: the disk refused: no `run/` there, no right to write, no room, no locks.
        """
        with ExitStack() as held:
            try:
                fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
                held.callback(os.close, fd)
                if is_ours := _flock(fd):
                    write_holder(fd, work)
            except OSError as error:
                raise LocalError(
                    f"{self.lock} cannot be held: {error.strerror}",
                    hint=f"see who owns {self.run}, what disk it is on, and its room",
                ) from error
            if not is_ours:
                raise self.locked_by(read_holder(fd))
            yield

    def holder(self) -> Holder | None:
        """Who holds the lock now; None if nobody does."""
        try:
            fd = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return None if _flock(fd) else read_holder(fd)
        except OSError:  # no such locks there: the file names who held it last
            return None
        finally:
            os.close(fd)

    def locked_by(self, holder: Holder) -> HomeLocked:
        """What to say to whoever wants this folder meanwhile."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(holder.since_s))
        who = holder.pid or "unknown"
        by = f"{who} ({holder.work})" if holder.work else who
        end = "wait until it has ended" if holder.work else "stop it with `prsm stop`"
        return HomeLocked(
            f"{self.root} is in use by process {by}, since {since}",
            hint=f"{end}, or choose another folder with --home DIR",
        )

    def where(self) -> tuple[tuple[str, Path], ...]:
        """Every place a person may look for, by name."""
        return (
            *(("home", self.root), ("config", self.config), ("genesis", self.genesis)),
            *(("keys", self.keys), ("wallets", self.wallets), ("data", self.data)),
            *(("blocks", self.blocks), ("models", self.models), ("jobs", self.jobs)),
            *(("socket", self.socket), ("cookie", self.cookie), ("endpoint", self.endpoint)),
            *(("log", self.log), ("backups", self.backups)),
        )


def default_home(environ: Mapping[str, str]) -> Home:
    """The folder that is meant where nobody names one; `find_home` says by which rule."""
    return find_home(environ)[0]


def find_home(environ: Mapping[str, str], *, system: Path = SYSTEM_HOME) -> tuple[Home, str]:
    """The folder that is meant where nobody names one, and what decided.

    `PRSM_HOME`; else the first of these that holds a node: `~/.prsm`, `prsm` in the data folder of
    the XDG base directories, the system's; else where a new one is made: in `XDG_DATA_HOME` if
    that is set, as the specification says an absolute path, or `~/.prsm`.

    Args:
        environ: of the process.
        system: where a node of the whole machine lies.
    """
    if named := environ.get("PRSM_HOME"):
        return Home(Path(named).expanduser().absolute()), "PRSM_HOME"
    usual, data = Path.home() / ".prsm", environ.get("XDG_DATA_HOME", "")
    is_set = Path(data).is_absolute()
    xdg = (Path(data) if is_set else Path.home() / ".local" / "share") / "prsm"
    for root, rule in (
        (usual, "a node in ~/.prsm"),
        (xdg, "a node in XDG_DATA_HOME" if is_set else "a node in ~/.local/share"),
        (system, f"a node of the system in {system}"),
    ):
        # Not `Path.exists`: a folder of another user is no error here, and not meant.
        if os.path.exists(root / "VERSION"):  # noqa: PTH110 - as above
            return Home(root.absolute()), rule
    if is_set:
        return Home(xdg), "XDG_DATA_HOME"
    return Home(usual.absolute()), "the default"


def write_private(path: Path, content: bytes) -> None:
    """Write a file only its owner may read, whole or not at all, durable on return.

    The name too: a revoked token must not be back after a power cut.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, _FILE_MODE)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """An address of a unix socket that fits sun_path, valid while the block runs.

    A longer path is reached through a descriptor of its folder, `/proc/self/fd/N/name` (Linux).
    """
    if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def _flock(fd: int) -> bool:
    """Take the lock of a file; whether nobody else has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
            raise
        return False
    return True
