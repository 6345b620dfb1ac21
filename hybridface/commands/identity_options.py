"""Options of the commands that make and renew identities, for server and client."""

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from parties.transport.identity import Identity

__all__ = ["DAYS", "DaysOption", "RequestOption", "expect_no_key", "identity_document", "usual_name"]

DAYS = 730
"""How long a certificate is valid, unless the user chooses otherwise."""

_MOST_NAME = 64

DaysOption = Annotated[int, typer.Option("--days", min=1, max=36_500, help="How long the certificate is valid.")]
RequestOption = Annotated[
    bool, typer.Option("--request", help="Write a request for a certificate from a CA, in place of a certificate.")
]


def usual_name() -> str:
    """Return the name of an organisation that the user has not named: this machine's."""
    return socket.gethostname()[:_MOST_NAME] or "localhost"


def expect_no_key(folder: Path) -> None:
    """Check that a folder has no identity yet, before anything is written.

    Raises:
        ParameterError: there is a key.
    """
    from parties.transport.identity import KEY
    from protocols.errors import ParameterError

    if (folder / KEY).exists():
        raise ParameterError(f"cannot make an identity in {folder}: there is a key already; choose another folder")


def identity_document(own: "Identity") -> dict[str, Any]:
    """Return an identity as commands print it with --json."""
    expires = own.expires.astimezone(UTC).isoformat(timespec="seconds")
    return {
        "folder": str(own.folder),
        "name": own.name,
        "fingerprint": own.fingerprint,
        "expires": expires,
        "expired": own.expires <= datetime.now(UTC),
    }
