"""The data folder: modes, versions, the lock that names its holder."""

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import prsm
from prsm.node.home import (
    Home,
    HomeExists,
    HomeLocked,
    HomeMissing,
    HomeUnsafe,
    HomeVersion,
    default_home,
    find_home,
    socket_address,
    write_private,
)
from prsm.protocol.errors import LocalError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_create_makes_private_folders_whatever_the_umask(tmp_path: Path) -> None:
    home = Home(tmp_path / "new" / "home")
    old = os.umask(0)
    try:
        home.create()
    finally:
        os.umask(old)
    for folder in (home.root, home.keys, home.wallets, home.run, home.data):
        assert mode(folder) == 0o700
    assert mode(home.version) == 0o600
    home.check()
    with pytest.raises(HomeExists, match="already holds"):
        home.create()


def test_check_refuses_absent_newer_and_open_homes(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(HomeMissing) as missing:
        home.check()
    assert "prsm init" in missing.value.hint
    home.create()
    home.version.write_text("999\n", encoding="ascii")
    with pytest.raises(HomeVersion, match="999"):
        home.check()
    home.version.write_text("1\n", encoding="ascii")
    home.keys.chmod(0o750)
    with pytest.raises(HomeUnsafe, match="0750"):
        home.check()


def test_hold_names_the_process_that_holds_it(tmp_path: Path) -> None:
    """A second process must not get the folder, and must learn who has it."""
    home = Home(tmp_path / "home")
    home.create()
    assert home.holder() is None
    with home.hold():
        holder = home.holder()
        assert holder is not None
        assert holder.pid == os.getpid()
        with pytest.raises(HomeLocked) as caught, home.hold():
            pytest.fail("held twice")
        assert str(os.getpid()) in caught.value.what
        assert "since 20" in caught.value.what
        assert "prsm stop" in caught.value.hint
    assert home.holder() is None
    with home.hold():
        pass


def test_folder_that_cannot_be_held_says_which_file_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """run/ leads into a folder that a start of the machine empties, or has no such locks."""
    home = Home(tmp_path / "home")
    home.create()
    home.run.rmdir()
    with pytest.raises(LocalError, match="run/lock cannot be held: No such file"), home.hold():
        pytest.fail("held")
    home.run.mkdir()
    with home.hold():
        pass

    def refuse(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    count = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(LocalError, match="run/lock cannot be held: No locks"), home.hold():
        pytest.fail("held")
    assert home.holder() is None  # what the file says is of who held it last: no process to end
    assert len(list(Path("/proc/self/fd").iterdir())) == count


def test_hold_is_released_when_the_holder_dies(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    script = (
        "import os, sys; from pathlib import Path; from prsm.node.home import Home\n"
        "with Home(Path(sys.argv[1])).hold(): os._exit(9)"
    )
    environ = os.environ | {"PYTHONPATH": str(Path(prsm.__file__).parents[1])}
    command = [sys.executable, "-c", script, str(home.root)]
    done = subprocess.run(command, check=False, env=environ)
    assert done.returncode == 9
    with home.hold():
        pass


def test_write_private_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert mode(path) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_write_private_is_durable_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name too: after a power cut a token that was revoked must not be back."""
    synced: list[tuple[bool, bool]] = []  # is it the folder, and is the new file under its name
    real = os.fsync

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_folder, (tmp_path / "tokens").read_bytes() == b"two"))
        real(descriptor)

    write_private(tmp_path / "tokens", b"one")
    monkeypatch.setattr(os, "fsync", fsync)
    write_private(tmp_path / "tokens", b"two")
    assert synced == [(False, False), (True, True)]


def test_write_private_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_private(tmp_path / "tokens", b"one")

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_private(tmp_path / "tokens", b"two")
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]
    assert (tmp_path / "tokens").read_bytes() == b"one"


def test_socket_address_reaches_a_path_longer_than_sun_path(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    path = deep / "prsm.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with socket_address(path) as address:
            server.bind(address)
        server.listen(1)
        with socket_address(path) as address:
            client.connect(address)
    assert path.is_socket()
    with socket_address(Path("/short/x.sock")) as address:
        assert address == "/short/x.sock"


def test_home_that_is_meant_goes_by_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable, then nodes that are there in their order, then where a new one is made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    usual, data, system = tmp_path / ".prsm", tmp_path / "data", tmp_path / "system"
    xdg, local = {"XDG_DATA_HOME": str(data)}, tmp_path / ".local/share/prsm"

    def meant(environ: dict[str, str]) -> tuple[Path, str]:
        home, rule = find_home(environ, system=system)
        return home.root, rule

    assert meant({}) == meant({"XDG_DATA_HOME": "relative"}) == (usual, "the default")
    assert meant(xdg) == (data / "prsm", "XDG_DATA_HOME")
    Home(system).create()
    assert meant({}) == (system, f"a node of the system in {system}")
    Home(data / "prsm").create()
    assert meant(xdg) == (data / "prsm", "a node in XDG_DATA_HOME")
    assert meant({})[0] == system
    Home(local).create()
    assert meant({}) == (local, "a node in ~/.local/share")
    Home(usual).create()
    assert meant({}) == meant(xdg) == (usual, "a node in ~/.prsm")
    assert meant({"PRSM_HOME": str(data), **xdg}) == (data, "PRSM_HOME")
    assert default_home({"PRSM_HOME": str(data)}).root == data


def test_folder_of_another_user_is_not_meant_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an unprivileged user sees a system node: its folder may not be entered."""
    monkeypatch.setenv("HOME", str(tmp_path))
    real = os.stat

    def closed(path: object, *args: object, **named: object) -> os.stat_result:
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **named)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(os, "stat", closed)
    assert find_home({}, system=tmp_path / "closed")[0].root == tmp_path / ".prsm"


def test_where_lists_absolute_places(tmp_path: Path) -> None:
    places = dict(Home(tmp_path).where())
    assert places["config"] == tmp_path / "config.toml"
    assert all(path.is_absolute() for path in places.values())
