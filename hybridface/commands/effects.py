"""Options that would do nothing: refused, since whoever gives one expects something of it."""

from collections.abc import Collection

import typer

from protocols.errors import ParameterError

__all__ = ["expect_effect"]


def expect_effect(context: typer.Context, options: Collection[str], why: str) -> None:
    """See that none of some options was given to the running command.

    Args:
        options: names of the command's parameters.
        why: they do nothing, after "expected no --option".

    Raises:
        ParameterError: one was given.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in options and source is not None and source.name == "COMMANDLINE":
            raise ParameterError(f"expected no {parameter.opts[0]} {why}: it would do nothing")
