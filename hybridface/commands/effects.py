"""Refuse options that would do nothing, because a user who gives one expects an effect."""

from collections.abc import Collection

import typer

from protocols.errors import ParameterError

__all__ = ["expect_effect"]


def expect_effect(context: typer.Context, options: Collection[str], why: str) -> None:
    """Check that the user gave none of these options to the running command.

    Args:
        options: names of the command's parameters.
        why: why they do nothing; the words after "expected no --option".

    Raises:
        ParameterError: the user gave one.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in options and source is not None and source.name == "COMMANDLINE":
            raise ParameterError(f"expected no {parameter.opts[0]} {why}: it would do nothing")
