"""The method table as an OpenRPC document: what `rpc_discover` serves.

Source: https://spec.open-rpc.org, version 1.3; schemas are those of msgspec.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from prsm.node.rpc.reading import KEY_CHARS_MAX, KEY_FIELD
from prsm.node.rpc.reasons import REGISTRY
from prsm.node.rpc.spec import Method, Scope

_VERSION: Final = "1.3.2"
_REF: Final = "#/components/schemas/{name}"


def document(methods: Mapping[str, Method], *, version: str) -> dict[str, object]:
    """Describe all methods, their parameters, results, scopes and errors."""
    ordered = [methods[name] for name in sorted(methods)]
    types = [m.params for m in ordered] + [m.result for m in ordered]
    schemas, components = msgspec.json.schema_components(
        types, ref_template=_REF, schema_hook=_any_schema
    )
    entries = [
        _entry(method, params, result, components)
        for method, params, result in zip(
            ordered, schemas[: len(ordered)], schemas[len(ordered) :], strict=True
        )
    ]
    errors = {
        e.reason: {"code": e.code, "message": e.title, "data": {"prsm_code": e.prsm_code}}
        for e in REGISTRY.values()
    }
    return {
        "openrpc": _VERSION,
        "info": {"title": "PRSM node", "version": version},
        "methods": entries,
        "components": {"schemas": components, "errors": errors},
    }


def _any_schema(cls: type) -> dict[str, object]:
    """`object` stands for any JSON value: members of documents that have a format of their own."""
    if cls is object:
        return {"description": "any JSON value"}
    raise NotImplementedError


def _entry(
    method: Method,
    params: Mapping[str, Any],
    result: Mapping[str, Any],
    components: Mapping[str, Any],
) -> dict[str, object]:
    shape = components[str(params["$ref"]).rpartition("/")[2]] if "$ref" in params else params
    required = set(shape.get("required", ()))
    entry: dict[str, Any] = {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "either",
        "params": [
            {"name": name, "required": name in required, "schema": schema}
            for name, schema in shape.get("properties", {}).items()
        ],
        "result": {"name": "result", "schema": dict(result)},
        "x-scope": str(method.scope),
        "x-deadline-ms": method.deadline_ms,
    }
    if method.scope is not Scope.READ:
        key = {
            "name": KEY_FIELD,
            "required": False,
            "description": "the same key and parameters within a day give the first answer",
            "schema": {"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX},
        }
        entry["params"] = [*entry["params"], key]
    if method.path:
        entry["x-path"] = method.path
    if method.words:
        entry["x-command"] = " ".join(("prsm", *method.words))
    if method.example is not None:
        values = msgspec.to_builtins(method.example)
        entry["examples"] = [
            {
                "name": "example",
                "params": [{"name": name, "value": value} for name, value in values.items()],
                "result": {"name": "result", "value": None},
            }
        ]
    return entry
