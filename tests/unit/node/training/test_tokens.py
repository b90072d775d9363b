from prsm.node.training import tokens

_TEXTS = ["the cache of the node, the cache of the worker"] * 4


def test_learned_tokens_give_any_text_back() -> None:
    """Goal: no text is lost, of no script. Method: learn from English, ask for something else."""
    tokenizer = tokens.learn(_TEXTS, 280)
    for text in ("the cache", "Grüße, 世界 \n\t\0", " x  y"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode("the cache of").ids) < len("the cache of")


def test_documents_are_parted_by_the_end_token() -> None:
    tokenizer = tokens.learn(_TEXTS, 280)
    end = tokenizer.token_to_id(tokens.END)
    assert end == 1
    line = tokens.line(tokenizer, ["a", "b"]).tolist()
    assert line[1::2] == [end, end]
