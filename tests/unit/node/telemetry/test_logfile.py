"""Files of the log: put aside when full, never half a line, no harm from a full disk."""

import json
import subprocess
import sys
from pathlib import Path

from prsm.node.telemetry.logfile import RotatingFile


def test_full_files_are_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    file = RotatingFile(path, bytes_max=30, keep=2)
    for number in range(10):
        file.write(f"line {number:04d}\n")  # ten bytes
    file.close()
    found = {one.name: one.read_text().split("\n")[:-1] for one in tmp_path.iterdir()}
    assert found == {
        "node.log": ["line 0009"],
        "node.log.1": ["line 0006", "line 0007", "line 0008"],
        "node.log.2": ["line 0003", "line 0004", "line 0005"],
    }


def test_what_an_earlier_process_wrote_counts(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    path.write_text("x" * 25 + "\n")
    file = RotatingFile(path, bytes_max=30, keep=1)
    assert file.open()
    file.write("a line\n")
    assert path.read_text() == "a line\n"
    assert path.with_name("node.log.1").read_text() == "x" * 25 + "\n"


def test_a_line_longer_than_a_file_is_written_alone(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "node.log", bytes_max=10, keep=3)
    file.write("first\n")
    file.write("a line that is much longer\n")
    file.write("third\n")
    assert [one.read_text() for one in sorted(tmp_path.iterdir())] == [
        *("third\n", "a line that is much longer\n", "first\n")
    ]


def test_without_a_bound_and_with_nothing_kept(tmp_path: Path) -> None:
    endless = RotatingFile(tmp_path / "endless", bytes_max=0, keep=3)
    alone = RotatingFile(tmp_path / "alone", bytes_max=10, keep=0)
    for _ in range(5):
        endless.write("123456\n")
        alone.write("123456\n")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["alone", "endless"]
    assert endless.path.stat().st_size == 35
    assert alone.path.stat().st_size == 7


def test_a_folder_that_refuses_costs_lines_and_it_comes_back(tmp_path: Path) -> None:
    place = tmp_path / "logs"
    place.write_text("a file where the folder should be")
    file = RotatingFile(place / "node.log", bytes_max=100, keep=1)
    assert not file.open()
    file.write("lost\n")
    place.unlink()
    file.write("written\n")
    assert file.path.read_text() == "written\n"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "node.log").symlink_to(tmp_path / "elsewhere")
    assert not RotatingFile(tmp_path / "node.log", bytes_max=0, keep=1).open()
    assert not (tmp_path / "elsewhere").exists()


def test_last_words_of_a_process_land_in_the_newest_file(tmp_path: Path) -> None:
    """Standard error moves on with the file, so a traceback is not lost in a file put aside."""
    path = tmp_path / "node.log"
    program = f"""
import sys
from pathlib import Path
from prsm.node.telemetry.logfile import RotatingFile
file = RotatingFile(Path({str(path)!r}), bytes_max=20, keep=1)
assert file.open() and file.take_stderr()
file.write("first 0123456789\\n")
file.write("second\\n")
print("last words", file=sys.stderr)
"""
    with path.open("ab") as log:
        subprocess.run([sys.executable, "-c", program], stderr=log, check=True)
    assert path.read_text() == "second\nlast words\n"
    other = RotatingFile(tmp_path / "another", bytes_max=0, keep=1)
    assert other.open()
    assert not other.take_stderr()


def test_file_holds_json_whatever_people_would_like_to_see(tmp_path: Path) -> None:
    """Commands look for levels and times in it: in lines for people they would find nothing."""
    path = tmp_path / "node.log"
    program = f"""
from pathlib import Path
from prsm.node.telemetry import logs
from prsm.node.telemetry.logfile import RotatingFile
logs.configure(style="human", file=RotatingFile(Path({str(path)!r}), bytes_max=0, keep=1))
logs.get("test").info("an event")
logs.finish()
"""
    with path.open("ab") as log:
        subprocess.run([sys.executable, "-c", program], stderr=log, check=True)
    assert json.loads(path.read_text())["event"] == "an event"
