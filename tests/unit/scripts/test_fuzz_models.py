from tests.tools.model_mutants import mutant, seeds


def test_mutant_follows_from_its_number() -> None:
    assert [mutant(number) for number in range(30)] == [mutant(number) for number in range(30)]
    assert len({mutant(number) for number in range(200)}) > 190


def test_seeds_are_honest_models_then_the_hostile_classes() -> None:
    assert len(seeds()) > 5 + 40
    assert all(seeds()[:5])
