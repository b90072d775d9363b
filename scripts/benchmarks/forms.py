"""`python scripts/benchmarks/forms.py DIR [DIR ...]`: what smaller weights cost, model by model.

A DIR is what `prsm model build` wrote. Each form is made and measured by the worker program in a
sealed child, on the samples beside the model, as `prsm model quantise` does; fp32 stands beside it
in the same child. Then an adapter of rank 8 beside every product, where the graph takes one.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import trio
from safetensors.numpy import save

from prsm.node.inference.compression import Wish, compress
from prsm.node.inference.pool import Pool
from prsm.node.worker import golden, lora, measure, session
from prsm.node.worker.optimise import pin
from prsm.node.worker.pipe import Array
from prsm.protocol.limits import MIB
from prsm.protocol.messages.forms import Form, Samples
from prsm.protocol.messages.pipe import ModelRefused

_RANK: Final = 8
_KINDS: Final = {".slices": Samples.SLICES, ".txt": Samples.TEXTS}


def main(folders: list[Path]) -> None:
    """Measure all models and print the table."""
    heads = ("model, form", "MB", "of fp32", "batch, CPU ms", "of fp32", "row, CPU ms", "of fp32")
    print(f"| {' | '.join((*heads, 'rows touch', 'on the samples'))} |")
    print("|" + "---|" * (len(heads) + 2))
    trio.run(_measure_all, folders)
    for folder in folders:
        for row in _adapter(folder):
            print(row)


async def _measure_all(folders: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        pool = Pool(jobs_dir=Path(scratch) / "jobs", memory_bytes_max=4096 * MIB)
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            for folder in folders:
                for form in Form:
                    print(await _row(pool, folder, form, Path(scratch)), flush=True)
            nursery.cancel_scope.cancel()


async def _row(pool: Pool, folder: Path, form: Form, scratch: Path) -> str:
    tokenizer, samples = _beside(folder)
    kind = _KINDS[samples.suffix]
    wish = Wish(folder / "model.onnx", form, tokenizer, samples, kind, is_measured=True)
    done = await compress(pool, wish, folder=scratch, is_wanted=False)
    pairs = (
        (done.base_bytes, done.found_bytes, 1e6),
        (done.base_cpu_us, done.found_cpu_us, 1e3),
        (done.base_row_cpu_us, done.found_row_cpu_us, 1e3),
    )
    cells = [f"{found / unit:.3g} | {found / base:.2f}" for base, found, unit in pairs]
    figures = "; ".join(
        f"{one.name} {one.found / 1e6:.4f}"
        + (f" (fp32 {one.base / 1e6:.4f})" if one.base != 1_000_000 else "")
        for one in done.figures
    )
    touching = "yes" if done.rows_touch else "no"
    name = f"{folder.name} {form.name.lower()}"
    return f"| {name} | {' | '.join(cells)} | {touching} | {figures} |"


def _adapter(folder: Path) -> Iterator[str]:
    """One line: bytes of an adapter, whether nothing changes without it, and its processor time."""
    model = onnx.load(folder / "model.onnx")
    try:
        wide, sites = lora.adaptable(model)
    except ModelRefused as error:
        yield f"{folder.name}, adapter: {error.what}"
        return
    rows = golden.make_inputs(model.graph, golden.free_axes(model.graph, (32, 48)))
    dice = np.random.default_rng(0)
    arrays: dict[str, Array] = {}
    for site in sites:
        arrays[site.name + lora.DOWN] = dice.standard_normal((site.rows, _RANK)).astype(np.float32)
        arrays[site.name + lora.UP] = np.full((_RANK, site.columns), 1e-3, np.float32)
    raw = save(arrays)
    with tempfile.TemporaryDirectory() as scratch:
        base = session.load(pin(model.SerializeToString(), Path(scratch)))
        other = session.load(pin(wide.SerializeToString(), Path(scratch)))
    feeds = lora.feeds_for(other, lora.read(raw))
    plain, same = (session.compute(one, rows, session.run_options()) for one in (base, other))
    is_equal = all(same[name].tobytes() == array.tobytes() for name, array in plain.items())
    before, after = measure.cpu_us(base, rows), measure.cpu_us(other, {**rows, **feeds})
    name = f"{folder.name}, adapter of rank {_RANK} at {len(sites)} sites: {len(raw) / 1e6:.2f} MB"
    bits = f"bits of the base without it: {'equal' if is_equal else 'DIFFERENT'}"
    spent = f"32 x 48: {before / 1e3:.1f} ms, with it {after / 1e3:.1f} ({after / before:.2f})"
    yield f"{name}; {bits}; {spent}"


def _beside(folder: Path) -> tuple[Path | None, Path]:
    tokenizer = folder / "tokenizer.json"
    samples = next(one for one in folder.iterdir() if one.suffix in _KINDS)
    return (tokenizer if tokenizer.is_file() else None), samples


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(name) for name in sys.argv[1:]])
