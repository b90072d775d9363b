"""Files that programs write: current, written, or refused with the command to type."""

from pathlib import Path

import pytest
from generated import formatted, keep

COMMAND = "python make.py"


def test_a_file_that_differs_is_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "page.md"
    keep(path, "one", command=COMMAND, only_check=False)
    keep(path, "one", command=COMMAND, only_check=True)
    keep(path, "two", command=COMMAND, only_check=False)
    assert path.read_text() == "two"
    assert capsys.readouterr().out.split("\n")[:3] == [
        *("page.md written", "page.md is current", "page.md written")
    ]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_check_writes_nothing(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "page.md"
    if before:
        path.write_text(before)
    with pytest.raises(SystemExit, match=f"page.md is not current: try {COMMAND}"):
        keep(path, "new", command=COMMAND, only_check=True)
    assert (path.read_text() if before else path.exists()) == (before or False)


def test_text_is_formatted_as_the_repository_does() -> None:
    assert formatted(Path("x.py"), "a = 'b'\n") == 'a = "b"\n'
