"""`prsm dataset build`: a table of one's own as a dataset's file, made by a program of its own.

No daemon is needed. Knows: the program's name and words. Must not know: how a table is read; the
libraries it is read with are never imported here.
"""

from pathlib import Path
from typing import Final

import click

from prsm.node.cli.building import run_program
from prsm.node.cli.session import Session, pass_session

_PROGRAM: Final = "prsm.node.worker.tables"


@click.command("build")
@click.argument("table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File to write [default: *.slices]")
@click.option("--label", help="Column or array of the labels [default: label]")
@click.option("--input", help="The model's input that the columns make up [default: x]")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Leave it out (repeat it).")
@click.option("--slice-rows", type=click.IntRange(1), help="Rows of one slice [default: 256]")
@pass_session
def dataset_build(
    session: Session, /, *, table: Path, out: Path | None, drop: tuple[str, ...], **named: object
) -> None:
    """Write TABLE (.csv, .tsv or .npz) as labelled rows that models are evaluated on.

    Of a text table, the first line names the columns; one holds the labels (whole numbers, or
    words, which are numbered in alphabetical order), the others are numbers and become one input of
    32-bit floats. Of an .npz file, each array is an input of its name.
    """
    target = (out or table.with_suffix(".slices")).expanduser().absolute()
    words = [str(table), "--out", str(target)]
    for name, value in named.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += [word for column in drop for word in ("--drop", column)]
    session.answer_value(run_program(session, _PROGRAM, words))
    session.note(f"register it with: prsm dataset add {target} --name NAME")
