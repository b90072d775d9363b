from prsm.node.training import corpus


def test_docstrings_are_found_in_modules_classes_and_functions() -> None:
    source = (
        '"""of it"""\nclass A:\n    "of A"\n    async def f(self):\n        "of f"\n    x = 1\n'
    )
    assert list(corpus.docstrings_of(source)) == ["of it", "of A", "of f"]


def test_a_file_that_is_no_python_gives_nothing() -> None:
    assert list(corpus.docstrings_of("def (")) == []
    assert list(corpus.docstrings_of("x = '\0'")) == []


def test_sentences_are_whole_and_each_once() -> None:
    found = corpus.sentences(20)
    assert len(set(found)) == len(found) == 20
    assert all(40 <= len(line) <= 300 and "\n" not in line for line in found)


def test_every_twentieth_document_is_held_out_and_none_is_lost() -> None:
    documents = [str(n) for n in range(100)]
    found = corpus.split(documents)
    assert found.held_out == ("19", "39", "59", "79", "99")
    assert sorted(found.training + found.held_out) == sorted(documents)
