"""`unsafe-resume`: an observer's home signs again from a height on, and from no lower one."""

import json
from pathlib import Path

import pytest

from prsm.node.archive.__main__ import main
from prsm.node.archive.resume import ResumeRefused, resume_signing
from prsm.node.chain.signfiles import forbid_signing, open_signfiles
from prsm.node.home import Home
from prsm.storage.disk import PosixDisk
from prsm.storage.errors import NotFound
from prsm.testnet.chain import Chain
from tests.tools.archives import fill, make_chain, make_home


@pytest.fixture(scope="module")
def chain() -> Chain:
    return make_chain(3)


@pytest.fixture
async def home(tmp_path: Path, chain: Chain) -> Home:
    """A restored validator's home of height 3 with its key brought by hand."""
    home = make_home(tmp_path / "home")
    await fill(home, chain)
    forbid_signing(home.data)
    return home


def observer(home: Home, height: int = 3) -> str | None:
    opened = open_signfiles(PosixDisk(), home.data, ledger_height=height)
    opened.files.close()
    return opened.observer


async def test_observer_may_sign_again_and_the_act_is_written_down(home: Home) -> None:
    assert observer(home)
    said = await resume_signing(home, 9)
    assert observer(home) is None
    (path,) = home.data.glob("unsafe-resume-*.json")
    assert said["audit"] == str(path)
    audit = json.loads(path.read_bytes())
    assert path.stat().st_mode & 0o077 == 0
    assert (audit["first_height"], audit["ledger_height"]) == (9, 3)
    assert "no slot is readable" in str(audit["observer_because"])
    kept = sorted(str(path) for path in home.data.glob("*.kept-1"))
    assert said["kept"] == kept
    assert len(kept) == 2


@pytest.mark.parametrize("height", [1, 3])
async def test_height_that_the_home_has_settled_is_refused(home: Home, height: int) -> None:
    with pytest.raises(ResumeRefused, match=f"{height} is not above"):
        await resume_signing(home, height)
    assert observer(home)
    assert not list(home.data.glob("unsafe-resume-*"))


async def test_second_time_needs_a_height_above_the_first_and_keeps_both(home: Home) -> None:
    """The low mark of the first time is settled."""
    await resume_signing(home, 9)
    with pytest.raises(ResumeRefused):
        await resume_signing(home, 8)
    await resume_signing(home, 10)
    assert len(list(home.data.glob("unsafe-resume-*.json"))) == 2


async def test_home_without_consensus_key_is_refused(home: Home) -> None:
    home.consensus_key.unlink()
    with pytest.raises(NotFound, match="signs nothing anyway"):
        await resume_signing(home, 9)


def test_program_answers_with_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_home(tmp_path / "home")
    assert main(["--home", str(home.root), "resume", "--height", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["first_height"] == 5
    assert main(["--home", str(home.root), "resume", "--height", "4"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["data"]["reason"] == "resume_refused"
    for words in (["resume"], ["export"]):
        with pytest.raises(SystemExit):
            main(["--home", str(home.root), *words])
