"""Every `VectorStore` passes one battery: exact, graph, the process's service, the dumb twin."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from prsm.protocol.codec import Record
from prsm.storage.errors import Conflict, Corrupt
from prsm.storage.vectors.exact import ExactVectors
from prsm.storage.vectors.interface import BadVector, Condition, Entry, Hit, Label
from prsm.storage.vectors.messages import (
    HEAD,
    Count,
    Counted,
    Listed,
    ListIds,
    Put,
    Rebuild,
    Refused,
    Remove,
    Search,
    asked_of,
    hit_of,
    pack,
    put_of,
    unpack,
)
from prsm.storage.vectors.service import Service, open_vectors
from tests.tools.memory_vectors import MemoryVectors
from tests.tools.vector_battery import (
    DIMENSION,
    check_vector_store,
    entry,
    random_entry,
)
from tests.tools.vector_battery import pack as vector_of


class Spoken:
    """The port over the service's frames, without a process between."""

    def __init__(self, path: Path, *, exact_max: int) -> None:
        self._service = Service(path, dimension=DIMENSION, exact_max=exact_max)
        self.dimension = DIMENSION

    @property
    def backend(self) -> str:
        return self._service.store.backend

    def upsert(self, entries: Sequence[Entry]) -> None:
        if len(entries) > 256:
            raise BadVector("more than a frame's list holds")
        self._ask(Put(tuple(map(put_of, entries))))

    def delete(self, ids: Sequence[bytes]) -> int:
        answer = self._ask(Remove(tuple(ids)))
        assert isinstance(answer, Counted)
        return answer.touched

    def get(self, entry_id: bytes) -> Entry | None:
        return self._service.store.get(entry_id)

    def search(self, query: bytes, *, limit: int, where: Sequence[Condition] = ()) -> Sequence[Hit]:
        answer = self._ask(Search(query, limit, tuple(map(asked_of, where))))
        assert isinstance(answer, Listed)
        return [hit_of(found) for found in answer.found]

    def ids(self, after: bytes, limit: int) -> Sequence[tuple[bytes, Mapping[str, Label]]]:
        answer = self._ask(ListIds(after, limit))
        assert isinstance(answer, Listed)
        return [(found.id, dict(found.labels)) for found in answer.found]

    def count(self) -> int:
        answer = self._ask(Count())
        assert isinstance(answer, Counted)
        return answer.entries

    def rebuild(self) -> None:
        self._ask(Rebuild())

    def close(self) -> None:
        self._service.serve(io.BytesIO(), io.BytesIO())

    def _ask(self, call: Record) -> Record:
        try:
            frame = pack(call)
            answers = io.BytesIO()
            (size, kind), body = HEAD.unpack(frame[: HEAD.size]), frame[HEAD.size :]
            answers.write(pack(self._service.answer(unpack(kind, body[:size]))))
        except Exception as error:
            raise BadVector(str(error)) from error
        raw = answers.getvalue()
        answer = unpack(raw[HEAD.size - 1], raw[HEAD.size :])
        if isinstance(answer, Refused):
            raise BadVector(answer.what)
        return answer


def test_exact_store_passes_the_battery(tmp_path: Path) -> None:
    check_vector_store(tmp_path, lambda path: ExactVectors(path, dimension=DIMENSION))


def test_dumb_twin_passes_the_battery(tmp_path: Path) -> None:
    check_vector_store(tmp_path, lambda path: MemoryVectors(path, dimension=DIMENSION))


def test_service_passes_the_battery(tmp_path: Path) -> None:
    check_vector_store(tmp_path, lambda path: Spoken(path, exact_max=10**6))


def test_graph_passes_the_battery(tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="the extra `search` is not installed")
    from prsm.storage.vectors.hnsw import HnswVectors  # noqa: PLC0415 - loads the extra

    check_vector_store(tmp_path, lambda path: HnswVectors(path, dimension=DIMENSION))


def test_service_changes_to_the_graph_when_it_outgrows_the_exact_store(tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="the extra `search` is not installed")
    store = Spoken(tmp_path / "grown", exact_max=20)
    dice = Random(1)
    store.upsert([random_entry(number, dice) for number in range(20)])
    assert store.backend == "exact"
    store.upsert([random_entry(20, dice)])
    assert store.backend == "hnsw"
    store.close()


def test_without_faiss_the_exact_store_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    store = open_vectors(tmp_path / "v", dimension=DIMENSION, exact_max=0)
    store.upsert([entry(1, [1.0] * DIMENSION)])
    assert store.backend == "exact"
    store.close()
    assert open_vectors(tmp_path / "v", dimension=DIMENSION, exact_max=0).backend == "exact"


def test_store_is_one_processs_and_of_one_dimension(tmp_path: Path) -> None:
    store = ExactVectors(tmp_path / "v", dimension=DIMENSION)
    store.upsert([entry(1, [1.0] * DIMENSION)])
    with pytest.raises(Conflict, match="another process"):
        ExactVectors(tmp_path / "v", dimension=DIMENSION)
    store.close()
    with pytest.raises(Conflict, match="vectors of 8 numbers, not 9"):
        ExactVectors(tmp_path / "v", dimension=9)


def test_damaged_file_is_said_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"no database" * 1000)
    with pytest.raises(Corrupt, match="damaged"):
        ExactVectors(tmp_path / "v", dimension=DIMENSION)


@pytest.mark.parametrize("harm", ["gone", "cut", "foreign", "empty"])
def test_graph_that_is_lost_or_damaged_is_built_anew(tmp_path: Path, harm: str) -> None:
    pytest.importorskip("faiss", reason="the extra `search` is not installed")
    from prsm.storage.vectors.hnsw import HnswVectors  # noqa: PLC0415 - loads the extra

    dice = Random(5)
    for name in ("v", "w"):
        made = HnswVectors(tmp_path / name, dimension=DIMENSION)
        made.upsert([random_entry(number, dice) for number in range(40)])
        made.close()
    graph = tmp_path / "v.hnsw"
    query = vector_of([1.0] * DIMENSION)
    before = ExactVectors(tmp_path / "v", dimension=DIMENSION)
    expected = before.search(query, limit=10)
    before.close()
    match harm:
        case "gone":
            graph.unlink()
        case "cut":
            graph.write_bytes(graph.read_bytes()[:-9])
        case "foreign":
            graph.write_bytes((tmp_path / "w.hnsw").read_bytes())
        case _:
            graph.write_bytes(b"")
    store = HnswVectors(tmp_path / "v", dimension=DIMENSION)
    assert list(store.search(query, limit=10)) == list(expected)
    store.close()
