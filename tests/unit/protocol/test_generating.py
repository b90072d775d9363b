"""What io tables say about generation: ours, those of other exporters, and tables that do not."""

import pytest

from prsm.protocol.errors import Unsupported
from prsm.protocol.generating import kv_shape
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.tensors import Dtype

IDS = TensorSpec("ids", Dtype.I64, ("batch", "tokens"))
PLACES = TensorSpec("position_ids", Dtype.I64, ("batch", "tokens"))
LOGITS = TensorSpec("logits", Dtype.F32, ("batch", 257))
CUT = TensorSpec("add_9", Dtype.F32, ("batch", "tokens", 64))
PAST = TensorSpec("past_k0", Dtype.F32, ("batch", 2, "past", 32))
PRESENT = TensorSpec("present_k0", Dtype.F32, ("batch", 2, "more", 32))


def test_first_stage_takes_tokens_and_makes_up_their_places() -> None:
    shape = kv_shape((IDS, PLACES, PAST), (CUT, PRESENT))
    assert (shape.is_first, shape.is_last, shape.places, shape.mask) == (True, False, True, False)
    assert (shape.carried, shape.made) == (IDS, CUT)
    assert shape.cache[0].axis == 2
    assert shape.bytes_per_position == 2 * 32 * 4


def test_last_stage_takes_the_cut_and_gives_logits() -> None:
    shape = kv_shape((CUT, PAST), (PRESENT, LOGITS))
    assert (shape.is_first, shape.is_last) == (False, True)
    assert shape.carried == CUT


def test_tables_of_other_exporters_are_read() -> None:
    past = TensorSpec("past_key_values.3.key", Dtype.F16, ("b", 8, "p", 64))
    present = TensorSpec("present.3.key", Dtype.F16, ("b", 8, "p + s", 64))
    ids = TensorSpec("input_ids", Dtype.I64, ("b", "s"))
    mask = TensorSpec("attention_mask", Dtype.I64, ("b", "p + s"))
    logits = TensorSpec("logits", Dtype.F32, ("b", "s", 1000))
    shape = kv_shape((ids, mask, past), (logits, present))
    assert (shape.is_first, shape.is_last, shape.mask) == (True, True, True)
    assert shape.bytes_per_position == 8 * 64 * 2


def test_stage_without_attention_keeps_nothing() -> None:
    assert kv_shape((CUT,), (LOGITS,)).bytes_per_position == 0


def test_steps_are_as_long_as_one_chunk_of_the_wire_holds() -> None:
    wide = TensorSpec("cut", Dtype.F32, ("batch", "tokens", 512))
    assert kv_shape((IDS, PAST), (wide, PRESENT)).positions_per_step == 128
    assert kv_shape((IDS, PAST), (LOGITS, PRESENT)).positions_per_step == 32768


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ((IDS,), (LOGITS,), r"no past_\* inputs"),
        ((IDS, PAST), (LOGITS,), "takes 2 tensors"),
        ((IDS, CUT, PAST), (LOGITS, PRESENT), "takes 2 tensors"),
        ((IDS, PAST), (CUT, LOGITS, PRESENT), "gives 2"),
        ((TensorSpec("ids", Dtype.F32, (1, 2)), PAST), (LOGITS, PRESENT), "are no tokens"),
        ((IDS, PAST), (TensorSpec("logits", Dtype.I64, ("b", 9)), PRESENT), "are no logits"),
        ((IDS, PAST), (TensorSpec("cut", Dtype.F32, ("b", "t", "w")), PRESENT), "no row for each"),
        (
            (IDS, TensorSpec("past_k0", Dtype.F32, ("b", 2, 5, 32))),
            (LOGITS, PRESENT),
            "must grow along one axis",
        ),
    ],
)
def test_other_tables_are_refused(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], words: str
) -> None:
    with pytest.raises(Unsupported, match=words):
        kv_shape(inputs, outputs)
