"""Every command of `prsm` with arguments that suffice: what the tests of commands walk over.

A command of the method table comes by itself; one written by hand has a line here.
"""

from collections.abc import Iterator

import click

from prsm.node.rpc.methods.table import METHODS

HASH = "0x" + "ab" * 32


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name)


def _generated() -> dict[tuple[str, ...], tuple[list[str], str]]:
    """Each command of the table with the positions of its method's example."""
    found: dict[tuple[str, ...], tuple[list[str], str]] = {}
    for method in METHODS.values():
        if method.words:
            example = method.example or method.params()
            values = (getattr(example, name) for name in method.positional)
            words = [str(value) for value in values if value is not None]
            found[method.words] = (words, method.name)
    return found


# Arguments of each command that asks the node, and the method whose result it prints.
_WRITTEN: dict[tuple[str, ...], tuple[list[str], str]] = {
    ("status",): ([], "node_getStatus"),
    ("model", "add"): (["m.onnx", "--name", "m", "--stages", "1,3"], "model_add"),
    ("dataset", "add"): (["d.slices", "--name", "d"], "dataset_add"),
    **{("model", verb): (["m"], f"model_{verb}") for verb in ("pull", "push", "verify")},
    ("model", "evaluate"): (["m", "d"], "model_evaluate"),
    ("model", "rm"): (["m", "--yes"], "model_remove"),
    ("model", "gc"): (["--yes"], "storage_gc"),
    ("storage", "offer"): (
        ["bafy" + "a" * 55, HASH, "--price", "0.00001", "--rounds", "3", "--yes"],
        "storage_offerDeal",
    ),
    ("storage", "scrub"): ([], "storage_scrub"),
    ("task", "watch"): (["pull-00"], "task_get"),
    ("proof", "show"): ([HASH], "job_getProof"),
    ("wallet", "new"): (["spare", "--password-file", "PASSWORD"], "wallet_createKey"),
    ("wallet", "unlock"): (["--password-file", "PASSWORD"], "wallet_unlock"),
    ("wallet", "passwd"): (
        ["--password-file", "PASSWORD", "--new-password-file", "PASSWORD"],
        "wallet_changePassword",
    ),
    ("wallet", "send"): ([HASH, "3.25", "--yes"], "wallet_transfer"),
    ("validator", "join"): (["1000", "--yes"], "validator_join"),
    ("validator", "stake"): (["1000", "--yes"], "validator_setStake"),
    ("validator", "leave"): (["--yes"], "validator_leave"),
    ("wallet", "submit"): (["Reclaim", f"hold={HASH}", "--yes"], "wallet_submit"),
    ("token", "new"): (["ci", "--role", "observer"], "token_create"),
    ("token", "rotate"): (["--yes"], "token_rotateKey"),
    ("dashboard",): (["--no-open"], "token_createLogin"),
    ("rpc", "call"): (["rpc_ping"], "rpc_ping"),
    ("rpc", "discover"): ([], "rpc_discover"),
    ("run",): (["m", "a text", "--no-wait"], "infer_run"),
    ("job", "wait"): ([HASH], "job_getResult"),
}
ASKING = _generated() | _WRITTEN
LOCAL: dict[tuple[str, ...], list[str]] = {
    ("where",): [],
    ("version",): [],
    ("config", "show"): [],
    ("config", "validate"): [],
    ("config", "get"): ["log.level"],
    ("config", "diff"): [],
    ("config", "migrate"): ["--dry-run"],
    ("explain",): ["PRSM-1004"],
    ("help",): ["exits"],
    ("completion",): ["bash"],
    ("man",): [],
    ("rpc", "methods"): [],
}
# Those that do more than ask: a folder, a program, files of their own; tested where they are.
# With arguments for the rules that hold for all; None for one that becomes another program.
ELSEWHERE: dict[tuple[str, ...], list[str] | None] = {
    ("token", "login"): [],
    ("init",): ["--profile", "light", "--genesis", "FILE"],
    ("start",): ["--set", "log.levle=debug"],
    ("restart",): ["--set", "log.levle=debug"],
    ("stop",): [],
    ("demo",): None,
    ("testnet",): None,
    ("sandbox",): None,
    ("mcp",): None,
    ("proof", "verify"): ["FILE", "--genesis", "FILE"],
    ("chain", "export"): ["FILE", "--from", "0"],
    ("chain", "import"): ["nothing.car"],
    ("backup",): ["FILE"],
    ("restore",): ["FILE"],
    ("consensus", "unsafe-resume"): ["--height", "1"],
    ("net", "new-key"): ["FILE"],
    ("model", "build"): ["nothing"],
    ("plan", "run"): ["FILE"],
    ("storage", "cid"): ["FILE"],
    ("storage", "export"): ["bafy", "FILE"],
    ("storage", "import"): ["FILE"],
    ("storage", "split"): ["FILE", "nowhere/shards"],
    ("storage", "join"): ["FILE"],
    ("dataset", "build"): ["nothing.csv"],
    ("generate",): ["m", "once"],
    ("ask",): ["what reads digits?"],
    ("wallet", "import"): ["FILE", "--name", "old"],
    ("wallet", "export"): ["spare", "FILE"],
    ("audit", "self"): [],
    ("wallet", "verify"): ["text", HASH, "0x00"],
    ("config", "set"): ["log.levle", "debug"],
    ("config", "unset"): ["log.levle"],
    ("config", "edit"): [],
    ("logs",): ["--since", "yesterday"],
    ("job", "logs"): ["0x" + "ab" * 32],
    ("doctor",): [],
    ("upgrade",): ["--check"],
    ("debug", "bundle"): ["FILE"],
    ("destroy",): [],
    ("top",): [],
    ("rpc", "subscribe"): ["heads"],
    ("rpc", "console"): None,
    ("bench", "disk"): [],
    ("bench", "net"): [],
    ("bench", "consensus"): ["--yes"],
    ("bench", "infer"): ["m", "--yes"],
}
