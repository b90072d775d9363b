"""A call as a person types it, for hints that say what to type.

Knows: methods, their parameters and their words. Must not know: what a method does.
"""

import shlex

import msgspec

from prsm.node.rpc.spec import Method, Params


def typed(method: Method, params: Params) -> str:
    """Return the command line of a call: what stands as it would anyhow is left out.

    Args:
        method: with words of its own.
        params: of the call.
    """
    assert method.words, method.name
    words = ["prsm", *method.words]
    words += [str(getattr(params, name)) for name in method.positional]
    for field in msgspec.structs.fields(type(params)):
        value = getattr(params, field.name)
        if field.name not in method.positional and (field.required or value != field.default):
            words += _option(field.name.replace("_", "-"), value)
    return shlex.join(words)


def _option(name: str, value: object) -> list[str]:
    match value:
        case bool():
            return [f"--{name}" if value else f"--no-{name}"]
        case tuple() if all(isinstance(one, str) for one in value):
            return [word for one in value for word in (f"--{name}", one)]
        case tuple():
            return [f"--{name}", ",".join(map(str, value))]
        case _:
            return [f"--{name}", str(value)]
