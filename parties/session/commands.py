"""Commands of a session: each has an operation, and fields that its reader checks before anything is done."""

from collections.abc import Callable, Mapping

from protocols.document import Document, word

__all__ = ["Command", "Commands", "is_end", "work_of"]

Command = Document
"""What a client asks for."""

Commands = Mapping[str, Callable[[Command], Callable[[], None]]]
"""What reads a command's fields, by its operation, and returns what does it."""

_END = "end"


def work_of(command: Command, commands: Commands) -> Callable[[], None]:
    """Return what does a command.

    Raises:
        ProtocolError: there is none of this operation, or its fields are others.
    """
    work = commands[command.take("operation", word(*commands))](command)
    command.end()
    return work


def is_end(command: Command) -> bool:
    """Return whether a command ends the session.

    Raises:
        ProtocolError: it does, and says more.
    """
    if command.fields.get("operation") != _END:
        return False
    work_of(command, {_END: lambda _: lambda: None})
    return True
