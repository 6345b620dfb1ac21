"""Keep the rates that the gallery's operator has set for queries, in the gallery's file.

Each kind of question has a rate for everybody. A client may have a rate of its own, which comes first. The code's
defaults hold where the operator has set no rate. A change holds from the next query on. Tokens that a client has used
stay used, and the bucket fills at the new rate.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from parties.gallery.errors import StoreError
from parties.gallery.store.database import Database
from protocols.errors import ParameterError

__all__ = ["ALL_CLIENTS", "EVERYONE_TAG", "GUESSES_TAG", "Question", "Rate", "Rates"]

ALL_CLIENTS = ""
"""In place of a client, for the rate of everybody who has no rate of their own."""

EVERYONE_TAG, GUESSES_TAG = b"", b"guesses"
"""In place of an identity's 16 bytes, for the buckets of identifications and of guesses."""

_SECONDS = 3600.0
_LEAST, _MOST = 1e-6, 1e9
_BUCKETS = {
    "verify": "length(tag) = 16",
    "identify": f"tag = x'{EVERYONE_TAG.hex()}'",
    "guess": f"tag = x'{GUESSES_TAG.hex()}'",
}


class Question(StrEnum):
    """A kind of question that is limited."""

    VERIFY = "verify"
    IDENTIFY = "identify"
    GUESS = "guess"


@dataclass(frozen=True)
class Rate:
    """How often a question may be asked.

    Args:
        capacity: tokens of a full bucket, at least 1.
        per_hour: tokens that an hour adds, at least a millionth, so that a refusal can say when to come back.
    """

    capacity: float
    per_hour: float

    def __post_init__(self) -> None:
        if not (1 <= self.capacity < _MOST and _LEAST <= self.per_hour < _MOST):
            raise ParameterError(
                f"expected 1 query or more at once and {_LEAST:g} or more an hour, each below {_MOST:g},"
                f" got {self.capacity:g} and {self.per_hour:g}"
            )


class Rates:
    """The rates that an operator has set.

    Args:
        database: of the gallery, open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, client: str, question: Question, default: Rate) -> Rate:
        """Return the rate that holds for a client."""
        found = self._database.rows(
            "SELECT capacity, per_hour FROM rate WHERE question = ? AND client IN (?, ?) ORDER BY client DESC LIMIT 1",
            (question.value, client, ALL_CLIENTS),
        )
        return self._rate(*found[0]) if found else default

    def all(self) -> dict[tuple[str, Question], Rate]:
        """Return all rates that are set, by client and question."""
        found = self._database.rows("SELECT client, question, capacity, per_hour FROM rate ORDER BY client, question")
        try:
            return {(str(client), Question(str(question))): self._rate(*rate) for client, question, *rate in found}
        except ValueError as error:
            raise self._damaged() from error

    def set(self, client: str, question: Question, rate: Rate | None, default: Rate) -> None:
        """Set or remove a client's rate. The caller has begun a transaction.

        Args:
            rate: None to remove the client's rate.
            default: the rate that holds where none is set.
        """
        self._database.execute("DELETE FROM rate WHERE client = ? AND question = ?", (client, question.value))
        if rate:
            values = (client, question.value, float(rate.capacity), float(rate.per_hour))
            self._database.insert("INSERT INTO rate VALUES (?, ?, ?, ?)", values)
        self._fill_anew(client, question, default)

    def _fill_anew(self, client: str, question: Question, default: Rate) -> None:
        """Compute anew, for each bucket, when it will be full at the rate that holds for it now."""
        everybody = self._database.rows(f"SELECT DISTINCT client FROM bucket WHERE {_BUCKETS[question]}")  # noqa: S608
        for (one,) in everybody:
            if client in (ALL_CLIENTS, one):
                rate = self.of(cast(str, one), question, default)
                self._database.execute(
                    "UPDATE bucket SET full = max(time, time + (? - tokens) * ? / ?)"  # noqa: S608
                    f" WHERE client = ? AND {_BUCKETS[question]}",
                    (rate.capacity, _SECONDS, rate.per_hour, one),
                )

    def _rate(self, *values: object) -> Rate:
        match values:
            case (int() | float() as capacity, int() | float() as per_hour):
                try:
                    return Rate(capacity, per_hour)
                except ParameterError as error:
                    raise self._damaged() from error
        raise self._damaged()

    def _damaged(self) -> StoreError:
        return StoreError(f"{self._database.path.name}: expected rates of queries, got others: the store is damaged")
