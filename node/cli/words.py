"""A group of commands that suggests the nearest word; what a shell completes.

Knows: click. Must not know: any command.
"""

import math
from collections.abc import Callable, Iterable

import click

from prsm.node.rpc.mark import override

__all__ = ["Number", "Words", "completing", "override"]


class Number(click.FloatRange):
    """A number between two others: `nan` passes any range of click's."""

    @override
    def convert(
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read `0.5`."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def completing(names: Callable[[], Iterable[str]]) -> Complete:
    """What a shell may complete an argument to: those of `names` that begin as typed."""

    def complete(_ctx: click.Context, _param: click.Parameter, text: str) -> list[str]:
        return [name for name in names() if name.startswith(text)]

    return complete


class Words(click.Group):
    """A group of commands that suggests the nearest word."""

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first word."""
        if args and self.get_command(ctx, args[0]) is None:
            import difflib

            from prsm.node.cli.failures import Usage

            names = self.list_commands(ctx)
            near = difflib.get_close_matches(args[0], names, n=1, cutoff=0.5)
            path = ctx.command_path
            raise Usage(
                f"{path} has no command {args[0][:60]!r}",
                hint=f"did you mean `{path} {near[0]}`?" if near else f"{path} --help",
            )
        return super().resolve_command(ctx, args)
