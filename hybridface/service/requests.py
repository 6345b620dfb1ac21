"""What client and server say to each other before a session: JSON objects, as text messages on their connection.

The client asks, and the server answers each question. TLS has authenticated both sides before.

- `describe`: who the server is, and what this client may use there.
- `model`: the public half of a network (`models.public`).
- `session`: a session with some settings. If the server agrees, it says so, and the session begins on the same
  connection.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hybridface.modes import Mode
from hybridface.service.settings_file import LABEL
from parties.gallery.kind import GalleryKind
from parties.gallery.rights import Right
from parties.session.correlations import Correlations
from protocols.document import (
    Document,
    Kind,
    boolean,
    hexadecimal,
    integer,
    list_of,
    number,
    objects,
    optional,
    parsed,
    text,
    word,
)
from protocols.matching.reveal import Reveal

__all__ = [
    "MAX_ANSWERS",
    "Ask",
    "Described",
    "DescribedGallery",
    "Purpose",
    "Refusal",
    "RefusalKind",
    "SessionRequest",
    "as_text",
    "described",
    "document_of",
    "session_answer",
]

MAX_ANSWERS = 1_000
"""Number of scores that a client may ask for in one session of pure-HE mode."""

_MAX_NAME = 256
_MAX_REASON = 1_000
_MAX_ENTRIES = 1_000
_MAX_SECONDS = 1e9
_DIGEST_BYTES = 32


def _plain(value: Any) -> str:
    """Return a name that can be shown: it steers no terminal."""
    name = text(_MAX_NAME, 1).read(value)
    if not name.isprintable():
        raise ValueError("a name of printable characters")
    return name


_NAME = Kind(f"a name of 1 to {_MAX_NAME} printable characters", _plain)


def _label(value: Any) -> str:
    if not isinstance(value, str) or not LABEL.fullmatch(value):
        raise ValueError(_LABEL.what)
    return value


_LABEL = Kind("a name of 1 to 63 letters, digits, '.', '_' and '-'", _label)
"""The kind of names of networks and galleries. A client uses them for files, so they must not name other folders."""


class Ask(StrEnum):
    """A question before a session."""

    DESCRIBE = "describe"
    MODEL = "model"
    SESSION = "session"


class Purpose(StrEnum):
    """What a session is for."""

    PAIR = "pair"
    """Comparing the client's own photos, and those that it enrols for the session."""

    PREPARE = "prepare"
    """Preparing runs for later, and nothing else."""

    GALLERY = "gallery"
    """Using one of the server's galleries."""


class RefusalKind(StrEnum):
    """Why a server refuses a session, for programs."""

    BUSY = "busy"
    DRAINING = "draining"
    RIGHTS = "rights"
    UNKNOWN = "unknown"
    FAULT = "fault"


@dataclass(frozen=True)
class SessionRequest:
    """The session that a client asks for.

    Args:
        purpose: what for.
        model: the network's name at the server.
        digest: the digest of the network's public half that the client has, 64 hexadecimal digits.
        gallery: the gallery's name at the server; None without a gallery.
        max_answers: number of scores in pure-HE mode.
    """

    purpose: Purpose
    model: str
    digest: str
    gallery: str | None = None
    mode: Mode = Mode.HYBRID
    reveal: Reveal = Reveal.CLIENT
    correlations: Correlations = Correlations.OT
    max_answers: int = 1

    def document(self) -> dict[str, Any]:
        """Return the request as a JSON object."""
        return {
            "ask": Ask.SESSION.value,
            "purpose": self.purpose.value,
            "model": self.model,
            "digest": self.digest,
            "gallery": self.gallery,
            "mode": self.mode.value,
            "reveal": self.reveal.value,
            "correlations": self.correlations.value,
            "max_answers": self.max_answers,
        }

    @classmethod
    def read(cls, document: Document) -> "SessionRequest":
        """Return the request that a client has sent, without its field `ask`.

        Raises:
            ProtocolError: it is malformed.
        """
        with document:
            return cls(
                Purpose(document.take("purpose", word(*Purpose))),
                document.take("model", _NAME),
                document.take("digest", hexadecimal(_DIGEST_BYTES)).hex(),
                document.take("gallery", optional(_NAME)),
                Mode(document.take("mode", word(*Mode))),
                Reveal(document.take("reveal", word(*Reveal))),
                Correlations(document.take("correlations", word(*Correlations))),
                document.take("max_answers", integer(1, MAX_ANSWERS)),
            )


@dataclass(frozen=True)
class Refusal:
    """A server's refusal of a session.

    Args:
        reason: for people, without the words "the server refuses".
        kind: for programs.
        retry_after: seconds after which asking again may help; None if it will not.
    """

    reason: str
    kind: RefusalKind
    retry_after: float | None = None

    def document(self) -> dict[str, Any]:
        """Return the refusal as a JSON object."""
        return {"refused": self.reason, "kind": self.kind.value, "retry_after": self.retry_after}


@dataclass(frozen=True)
class DescribedGallery:
    """A gallery that a client may use.

    Args:
        kind: its kind.
        model: the name of its network.
        may: what the client may do there.
    """

    kind: GalleryKind
    model: str
    may: tuple[Right, ...]


@dataclass(frozen=True)
class Described:
    """What a server says of itself to one client.

    Args:
        server: the server's name.
        version: of hybridface.
        client: the name under which the server knows this client.
        models: the digest of each network's public half, by name.
        compares: the networks with which the client may compare its own photos.
        galleries: by name.
        is_busy: whether the server would refuse a session now because it has too many.
    """

    server: str
    version: str
    client: str
    models: Mapping[str, str]
    compares: tuple[str, ...]
    galleries: Mapping[str, DescribedGallery] = field(default_factory=dict)
    is_busy: bool = False

    def document(self) -> dict[str, Any]:
        """Return the description as a JSON object."""
        return {
            "server": self.server,
            "version": self.version,
            "client": self.client,
            "models": [{"name": name, "digest": digest} for name, digest in sorted(self.models.items())],
            "compares": list(self.compares),
            "galleries": [
                {"name": name, "kind": one.kind.value, "model": one.model, "may": [right.value for right in one.may]}
                for name, one in sorted(self.galleries.items())
            ],
            "busy": self.is_busy,
        }


def described(answer: Document) -> Described:
    """Return the description that a server has sent.

    Raises:
        ProtocolError: it is malformed.
    """
    with answer:
        compares = answer.take("compares", list_of(_LABEL, _MAX_ENTRIES))
        return Described(
            answer.take("server", _NAME),
            answer.take("version", _NAME),
            answer.take("client", _NAME),
            dict(_models(one) for one in _documents(answer, "models")),
            tuple(compares),
            dict(_galleries(one) for one in _documents(answer, "galleries")),
            answer.take("busy", boolean),
        )


def session_answer(answer: Document) -> Refusal | None:
    """Return the server's refusal of a session; None if the session begins.

    Raises:
        ProtocolError: the answer is malformed.
    """
    with answer:
        if answer.has("session"):
            answer.take("session", word("open"))
            return None
        reason = answer.take("refused", text(_MAX_REASON, 1))
        kind = RefusalKind(answer.take("kind", word(*RefusalKind)))
        return Refusal(reason, kind, answer.take("retry_after", optional(number(0, _MAX_SECONDS))))


def as_text(document: dict[str, Any]) -> str:
    """Return a JSON object as text."""
    return json.dumps(document, sort_keys=True)


def document_of(message: str, peer: str) -> Document:
    """Return the JSON object that a peer has sent.

    Raises:
        ProtocolError: it is none.
    """
    return parsed(message.encode(), f"a message from {peer}")


def _documents(answer: Document, name: str) -> list[Document]:
    return [Document(fields, f"{name} of {answer.what}") for fields in answer.take(name, objects(_MAX_ENTRIES))]


def _models(one: Document) -> tuple[str, str]:
    with one:
        return one.take("name", _LABEL), one.take("digest", hexadecimal(_DIGEST_BYTES)).hex()


def _galleries(one: Document) -> tuple[str, DescribedGallery]:
    with one:
        rights = tuple(Right(right) for right in one.take("may", list_of(word(*Right), len(Right))))
        kind = GalleryKind(one.take("kind", word(*GalleryKind)))
        return one.take("name", _LABEL), DescribedGallery(kind, one.take("model", _LABEL), rights)
