"""Parameters for any method, drawn from the OpenRPC document that the node serves of itself.

Three quarters fit the document, some of them with texts that the node itself has said (ids,
addresses, names); the rest break it in one place. Written from our own documents: no other schema
is understood.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import hypothesis.strategies as st

_DEPTH_MAX: Final = 6
_LENGTH_MAX: Final = 200  # of a text without a pattern; now and then the longest allowed
_ITEMS_MAX: Final = 3
_WAIT_MS_MAX: Final = 3
# Files are looked for where there are none: a method must not walk over the machine's disk.
_PATHS: Final = frozenset({"path", "paths", "out", "file", "folder", "samples", "to_path"})
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
Schema = Mapping[str, Any]


class Calls:
    """Draws parameters of the methods of one document.

    Args:
        document: of `rpc_discover`.
        known: texts the node has said.
        folder: where paths lead; nothing is there.
    """

    def __init__(self, document: Schema, known: Collection[str], folder: str) -> None:
        self._shapes: Schema = document["components"]["schemas"]
        self._methods = {method["name"]: method for method in document["methods"]}
        self._known = sorted(known)
        self._folder = folder

    @property
    def names(self) -> Sequence[str]:
        """All methods."""
        return sorted(self._methods)

    def params(self, name: str) -> st.SearchStrategy[object]:
        """Parameters of a method, right or wrong."""
        right = self.right(name)
        return st.integers(0, 3).flatmap(lambda dice: right if dice else self._wrong(right))

    def right(self, name: str) -> st.SearchStrategy[dict[str, object]]:
        """Parameters that fit the document."""
        needed: dict[str, st.SearchStrategy[object]] = {}
        free: dict[str, st.SearchStrategy[object]] = {}
        for param in self._methods[name]["params"]:
            drawn = self._named(param["name"], param["schema"])
            (needed if param["required"] else free)[param["name"]] = drawn
        return st.fixed_dictionaries(needed, optional=free)

    def _wrong(self, right: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[object]:
        def spoil(params: dict[str, object]) -> st.SearchStrategy[object]:
            names = st.sampled_from(sorted(params)) if params else st.just("x")
            other = st.builds(lambda name, value: {**params, name: value}, names, JSON)
            more = st.builds(
                lambda name, value: {**params, name: value}, st.text(min_size=1, max_size=8), JSON
            )
            less = names.map(lambda name: {k: v for k, v in params.items() if k != name})
            return other | more | less | JSON

        return right.flatmap(spoil)

    def _named(self, name: str, schema: Schema) -> st.SearchStrategy[object]:
        if name in _PATHS:
            leaf = st.text("abc./\0é ", max_size=12)
            return leaf.map(lambda text: f"{self._folder}/absent/{text}") | leaf
        if name == "wait_ms":
            return st.integers(0, _WAIT_MS_MAX)
        return self._drawn(schema, _DEPTH_MAX)

    def _drawn(self, schema: Schema, depth: int) -> st.SearchStrategy[object]:  # noqa: PLR0911 - dispatch
        if "$ref" in schema:
            return self._drawn(self._shapes[schema["$ref"].rpartition("/")[2]], depth - 1)
        if "anyOf" in schema:
            return st.one_of([self._drawn(part, depth) for part in schema["anyOf"]])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        kind = schema.get("type")
        if isinstance(kind, list):
            return st.one_of([self._drawn({**schema, "type": one}, depth) for one in kind])
        if kind == "array":
            return self._arrays(schema, depth)
        if kind == "object":
            return self._objects(schema, depth)
        return self._texts(schema) if kind == "string" else _plain(kind, schema)

    def _texts(self, schema: Schema) -> st.SearchStrategy[object]:
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        pattern = schema.get("pattern")
        if pattern is None:
            longest = _LENGTH_MAX if most is None else min(most, _LENGTH_MAX)
            return self._known_or(st.text(min_size=least, max_size=max(longest, least)), None)
        body = pattern.replace(r"(?![\s\S])", r"\Z")
        return self._known_or(st.from_regex(re.compile(body), fullmatch=True), body)

    def _known_or(
        self, drawn: st.SearchStrategy[str], pattern: str | None
    ) -> st.SearchStrategy[object]:
        fits = [text for text in self._known if pattern is None or re.search(pattern, text)]
        return drawn | st.sampled_from(fits) if fits else drawn

    def _arrays(self, schema: Schema, depth: int) -> st.SearchStrategy[object]:
        if "prefixItems" in schema:
            return st.tuples(*[self._drawn(item, depth - 1) for item in schema["prefixItems"]])
        least = schema.get("minItems", 0)
        most = 0 if depth <= 0 else min(schema.get("maxItems", _ITEMS_MAX), _ITEMS_MAX)
        item = self._drawn(schema.get("items", {}), depth - 1) if depth > 0 else st.none()
        return st.lists(item, min_size=least, max_size=max(least, most))

    def _objects(self, schema: Schema, depth: int) -> st.SearchStrategy[object]:
        if "properties" not in schema:
            value = schema.get("additionalProperties")
            inner = self._drawn(value, depth - 1) if isinstance(value, Mapping) else JSON
            most = min(schema.get("maxProperties", _ITEMS_MAX), _ITEMS_MAX)
            return st.dictionaries(st.text(max_size=8), inner, max_size=most)
        required = set(schema.get("required", ()))
        parts = {
            name: self._named(name, part)
            for name, part in schema["properties"].items()
            if name in required or depth > 0
        }
        return st.fixed_dictionaries(
            {name: part for name, part in parts.items() if name in required},
            optional={name: part for name, part in parts.items() if name not in required},
        )


def _plain(kind: str | None, schema: Schema) -> st.SearchStrategy[object]:
    low, high = schema.get("minimum"), schema.get("maximum")
    match kind:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(low, high)
        case "number":
            return st.floats(low, high, allow_nan=False)
        case None:
            return JSON
        case _:
            raise AssertionError(f"no values of {schema}")


def texts_in(document: object) -> Iterator[str]:
    """Every text in a JSON document, keys left out."""
    match document:
        case str():
            yield document
        case list():
            for item in document:
                yield from texts_in(item)
        case dict():
            for item in document.values():
                yield from texts_in(item)
        case _:
            return
