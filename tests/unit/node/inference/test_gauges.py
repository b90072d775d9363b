"""What was measured is averaged, bounded and told apart by peer and shard."""

from prsm.node.inference.gauges import SMALL_BYTES, Averages, Gauges
from prsm.protocol.ids import PeerId

ONE, OTHER = PeerId("one"), PeerId("other")
MODEL = b"m" * 36
KEY = (MODEL, 2, 1)


def test_average_follows_new_values_and_forgets_the_oldest_key() -> None:
    averages: Averages[str] = Averages(kept_max=2)
    assert averages.get("a") is None
    averages.note("a", 8.0)
    averages.note("a", 4.0)
    assert averages.get("a") == 7.0
    averages.note("b", 1.0)
    averages.note("a", 7.0)
    averages.note("c", 1.0)
    assert [key for key, _ in averages.items()] == ["a", "c"]


def test_answers_tell_the_time_of_a_row() -> None:
    gauges = Gauges()
    gauges.note_answer(ONE, KEY, rows=4, compute_ms=20.0)
    assert gauges.row_ms(ONE, KEY) == 5.0
    assert gauges.row_ms(OTHER, KEY) is None
    assert gauges.rows_of(ONE, MODEL) == {KEY: 5.0}
    assert gauges.rows_of(ONE, b"n" * 36) == {}


def test_few_bytes_say_nothing_of_a_link() -> None:
    gauges = Gauges()
    gauges.note_bytes(ONE, SMALL_BYTES - 1, 1.0)
    assert gauges.bytes_per_s(ONE) is None
    gauges.note_bytes(ONE, SMALL_BYTES, 1.0)
    assert gauges.bytes_per_s(ONE) == SMALL_BYTES * 1000


def test_refusal_ends_with_an_answer() -> None:
    gauges = Gauges()
    gauges.note_refusal(ONE, MODEL, "model_refused: operator Loop")
    assert "Loop" in gauges.refusal(ONE, MODEL)
    gauges.note_answer(ONE, KEY, rows=1, compute_ms=1.0)
    assert gauges.refusal(ONE, MODEL) == ""
    gauges.note_load(ONE, KEY, 12.0)
    assert gauges.loads_of(ONE, MODEL) == {KEY: 12.0}
