"""Read the commands of a session: check the operation and the fields of a command before carrying it out."""

from collections.abc import Callable, Mapping

from protocols.document import Document, word

__all__ = ["Command", "Commands", "OnCommand", "is_end", "operation_of", "work_of"]

Command = Document
"""A client's request: an operation and its fields."""

Commands = Mapping[str, Callable[[Command], Callable[[], None]]]
"""For each operation, a function that reads a command's fields and returns the function that carries it out."""

OnCommand = Callable[[str, bool, float], None]
"""Called after a command with the operation, whether it was carried out (not refused), and the seconds that it took."""

_END = "end"


def work_of(command: Command, commands: Commands) -> Callable[[], None]:
    """Return the function that carries out a command.

    Raises:
        ProtocolError: the operation is unknown, or its fields are not the expected ones.
    """
    work = commands[command.take("operation", word(*commands))](command)
    command.end()
    return work


def operation_of(command: Command) -> str:
    """Return the operation that a command names, before any check; "" if it names none."""
    return str(command.fields.get("operation", ""))


def is_end(command: Command) -> bool:
    """Return whether a command ends the session.

    Raises:
        ProtocolError: the command ends the session, but has further fields.
    """
    if command.fields.get("operation") != _END:
        return False
    work_of(command, {_END: lambda _: lambda: None})
    return True
