"""Limit and log queries: enough answers "same" or "not the same" suffice to rebuild a template.

**Attacks.** arXiv 2601.17620 reconstructs templates from binary decisions. Frontiers in Imaging (2025), doi
10.3389/fimag.2025.1476377, reconstructs them from some dozens of scores, which hybridface never opens.

**Buckets.** The server limits how often it answers a client. A bucket holds `capacity` tokens and fills at `per_hour`.

- A client has one bucket for each identity. A verification takes one token from it.
- A client has one bucket for all its identifications (EVERYONE), since an identification asks about everyone at once.
  An identification of the k nearest reveals up to k names. It takes k tokens, or `capacity` if that is less.
- A client has one bucket for guesses, since a client that asks about a name learns whether the name is enrolled. A
  verification of a person who is not enrolled takes a token from it. While this bucket is empty, the server answers no
  verification of anybody: an answer would reveal that the name is enrolled.

**Defaults.** They let a person retry at a door, and make an attack slow. A client may ask about one identity 20 times
at once and 4 times an hour: 116 times on the first day, and 1,000 times in ten days. The same holds for
identifications that ask for one person. The defaults are a choice, not a bound from a proof. Set lower rates for a
gallery of high value, and watch its log. The operator sets other rates for everybody or for one client (see `rates`).

**Storage.** Buckets and the log are in the store's file. So they survive a restart, and apply to all processes that use
the file. Time is the system's clock, or the latest time seen if that is later. If the clock is set back, all buckets
wait until it has caught up. A client is the name that the caller has authenticated. So an attacker who can pose as
ten clients gets ten times the queries.

**Log.** A line holds the time, the client, the operation, and whether it was allowed; never the outcome. Neither
buckets nor log hold an identity in clear. They hold a hash of it, under a key in another file (see `log_secret`).
Removing an identity removes its hashes too. The server also logs operations that are not queries: an enrolment, a
removal, a change of key, a list of names. It logs them before it does them, and never limits them. Actions of the
gallery's owner without a client are logged under OPERATOR.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from parties.gallery.errors import QueryLimitError, StoreError
from parties.gallery.store.database import TIMEOUT_SECONDS, Database
from parties.gallery.store.log_secret import adopt_log_secret, identity_tag
from parties.gallery.store.rates import ALL_CLIENTS, EVERYONE_TAG, GUESSES_TAG, Question, Rate, Rates
from parties.gallery.store.records import MAX_IDENTITY
from parties.gallery.store.schema import VERSION
from protocols.errors import ParameterError

__all__ = ["DEFAULTS", "EVERYONE", "GUESSES", "IDENTIFY", "OPERATOR", "VERIFY", "Query", "QueryLimits", "Rate"]

EVERYONE = None
"""In place of an identity, for a query about the whole gallery."""

OPERATOR = "operator"
"""In place of a client, for the owner of the gallery's file."""

_MAX_NAME = 256
_MAX_BUCKETS = 10_000
_KEPT = 100_000
_SECONDS = 3600.0
_ROUNDING = 1e-6


VERIFY = Rate(20, 4)
"""Default rate of a client's verifications of one identity."""

IDENTIFY = Rate(20, 4)
"""Default rate of a client's identifications."""

GUESSES = Rate(20, 4)
"""Default rate of a client's verifications of names that are not enrolled."""

DEFAULTS = {Question.VERIFY: VERIFY, Question.IDENTIFY: IDENTIFY, Question.GUESS: GUESSES}
"""The rates that hold until the operator sets others."""


_END_OF_TIME = 253_402_214_400.0
"""The last day of the year 9999, in seconds since 1970. Python's calendar ends there."""


@dataclass(frozen=True)
class Query:
    """One line of the log.

    Args:
        time: seconds since 1970.
        client, operation: as they were logged.
        tag: 16 bytes, the hash of the identity (see `QueryLimits.tag`). None for EVERYONE, or if the hash was removed.
        allowed: whether the query was answered.
    """

    time: float
    client: str
    operation: str
    tag: bytes | None
    allowed: bool


class QueryLimits:
    """The limits on a store's queries; a context manager. It needs no access to the gallery's content.

    Args:
        source: path of an existing store, or its open file. `close` leaves an open file open.
        verify, identify: how often a client may ask about an identity, and about everyone; None for no limit.
        guesses: how often a client may ask about identities that are not enrolled; None for no limit.
        clock: returns seconds since 1970.
        kept: largest number of lines of the log to keep; the oldest go first.
        timeout: longest time to wait for other processes, in seconds.

    Raises:
        StoreError: there is no store, or it is of a newer version.
    """

    def __init__(
        self,
        source: Path | Database,
        verify: Rate | None = VERIFY,
        identify: Rate | None = IDENTIFY,
        guesses: Rate | None = GUESSES,
        clock: Callable[[], float] = time.time,
        kept: int = _KEPT,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        if kept < 0:
            raise ParameterError(f"expected to keep 0 lines or more, got {kept}")
        self._clock, self._kept = clock, kept
        self._is_ours = isinstance(source, Path)
        self._database = Database(source, timeout) if isinstance(source, Path) else source
        if self._database.version < VERSION and not self._database.read_only:
            self._database.migrate()
        if not self._database.has_queries:
            self.close()
            raise StoreError(f"{self._database.path.name}: expected a store with a query log; enrol somebody first")
        self._secret: bytes | None = None
        self._rates = Rates(self._database)
        self._defaults = {Question.VERIFY: verify, Question.IDENTIFY: identify, Question.GUESS: guesses}

    def admit(self, client: str, operation: str, identity: str | None, tokens: int = 1, enrolled: bool = True) -> int:
        """Take tokens for a query and log it, also if it is refused. A server calls this before every answer.

        Args:
            client: name that the caller has authenticated, 1 to 256 characters.
            operation: kind of query, 1 to 256 characters.
            identity: the person asked about; EVERYONE for an identification.
            tokens: cost, 1 or more: how many names the answer may reveal. A full bucket always suffices.
            enrolled: whether the identity is enrolled.

        Returns:
            The number of the line in the log.

        Raises:
            QueryLimitError: the server must not answer now.
        """
        _check(client, operation)
        _check_tokens(tokens)
        refused = None
        with self._database.writing():
            tag = self._tag(identity)
            try:
                self._take_all(client, tag, tokens, enrolled)
            except QueryLimitError as error:
                refused = error
            number = self._log(client, operation, tag, refused is None)
        if refused:
            raise refused
        return number

    def mark_refused(self, number: int) -> None:
        """Mark a line of the log as refused: its query was admitted, but the server could not answer it."""
        with self._database.writing():
            self._database.execute("UPDATE query SET allowed = 0 WHERE number = ?", (number,))

    def take(self, client: str, identity: str | None, tokens: int = 1, enrolled: bool = True) -> None:
        """Take tokens for a query without a line in the log: see `admit`.

        Raises:
            QueryLimitError: the server must not answer now.
        """
        _check(client)
        _check_tokens(tokens)
        with self._database.writing():
            tag = self._tag(identity)
            self._take_all(client, tag, tokens, enrolled)

    def log(self, client: str, operation: str, identity: str | None, allowed: bool) -> None:
        """Add a line to the log, and remove the oldest lines beyond `kept`."""
        _check(client, operation)
        with self._database.writing():
            self._log(client, operation, self._tag(identity), allowed)

    def queries(self, identity: str | None = None, last: int = 100) -> list[Query]:
        """Return the last lines of the log, oldest first; with an identity, only the lines about it.

        Raises:
            StoreError: a line is damaged.
        """
        tag = self.tag(identity)
        condition, values = ("WHERE tag = ?", (tag,)) if tag else ("", ())
        found = self._database.rows(
            f"SELECT time, client, operation, tag, allowed FROM query {condition} ORDER BY number DESC LIMIT ?",  # noqa: S608
            (*values, last),
        )
        return [self._query(row) for row in reversed(found)]

    def _query(self, row: tuple[object, ...]) -> Query:
        match row:
            case (float(time), str(client), str(operation), None | bytes() as tag, 0 | 1 as allowed):
                if 0 <= time < _END_OF_TIME:
                    return Query(time, client, operation, tag, bool(allowed))
        raise StoreError(f"{self._database.path.name}: expected lines of a query log, got others: the store is damaged")

    def prune(self, before: float) -> int:
        """Remove the log's lines before a time, in seconds since 1970, and log the removal; return how many."""
        with self._database.writing():
            count = self._database.execute("DELETE FROM query WHERE time < ?", (before,))
            self._log(OPERATOR, "prune log", EVERYONE, True)
        return count

    def reset(self, client: str, identity: str | None) -> None:
        """Fill a bucket, forget times that lie ahead of the clock, and log the reset.

        The operator uses this after a mistake, also after one of the clock.

        Args:
            identity: whose bucket to fill; EVERYONE for the buckets of identifications and guesses.
        """
        _check(client)
        with self._database.writing():
            tag = self._tag(identity)
            tags = (EVERYONE_TAG, GUESSES_TAG) if tag is None else (tag, tag)
            self._database.execute("UPDATE bucket SET time = min(time, ?)", (self._clock(),))
            self._database.execute("UPDATE state SET query_time = min(query_time, ?)", (self._clock(),))
            self._database.execute("DELETE FROM bucket WHERE client = ? AND tag IN (?, ?)", (client, *tags))
            self._log(OPERATOR, "reset limit", tag, True)

    def rates(self) -> dict[tuple[str, Question], Rate]:
        """Return the rates that the operator has set, by client (ALL_CLIENTS for everybody) and question."""
        return self._rates.all()

    def set_rate(self, client: str, question: Question, rate: Rate | None) -> None:
        """Set how often a client may ask, and log the change.

        Args:
            client: ALL_CLIENTS for everybody who has no rate of their own.
            rate: None to remove the rate that was set.
        """
        if client != ALL_CLIENTS:
            _check(client)
        with self._database.writing():
            self._rates.set(client, question, rate, DEFAULTS[question])
            self._log(OPERATOR, "set limit", EVERYONE, True)

    def tag(self, identity: str | None) -> bytes | None:
        """Return the hash that stands for an identity in the log, 16 bytes; None for EVERYONE."""
        database = self._database
        with database.reading() if database.read_only else database.writing():
            return self._tag(identity)

    def _tag(self, identity: str | None) -> bytes | None:
        """Return the same within a transaction. No process changes the log's key until the transaction ends."""
        if identity is EVERYONE:
            return None
        if not 0 < len(identity) <= MAX_IDENTITY:
            raise ParameterError(f"expected an identity of 1 to {MAX_IDENTITY} characters, got {len(identity)}")
        self._secret = adopt_log_secret(self._database, self._secret)
        return identity_tag(self._secret, identity.encode(errors="surrogatepass"))

    def close(self) -> None:
        """Close the file, if this object has opened it."""
        if self._is_ours:
            self._database.close()

    def __enter__(self) -> "QueryLimits":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_all(self, client: str, tag: bytes | None, wanted: int, enrolled: bool) -> None:
        if tag is None:
            self._take(client, EVERYONE_TAG, self._rate(client, Question.IDENTIFY), wanted)
            return
        self._take(client, GUESSES_TAG, self._rate(client, Question.GUESS), 1, keep=enrolled)
        self._take(client, tag, self._rate(client, Question.VERIFY), wanted)

    def _rate(self, client: str, question: Question) -> Rate | None:
        """Return the rate that holds for a client; None if the question has no limit."""
        default = self._defaults[question]
        return default and self._rates.of(client, question, default)

    def _take(self, client: str, tag: bytes, rate: Rate | None, wanted: int, keep: bool = False) -> None:
        """Take tokens from one bucket; with `keep`, only check that it holds them."""
        if rate is None:
            return
        cost, clock, per_second = min(wanted, rate.capacity), self._clock(), rate.per_hour / _SECONDS
        latest = cast(float, self._database.rows("SELECT query_time FROM state", types=(float,))[0][0])
        now = max(clock, latest)  # a clock that was set back must not count the same hour twice
        self._database.execute("UPDATE state SET query_time = ?", (now,))
        self._database.execute("DELETE FROM bucket WHERE full <= ?", (now,))  # a full bucket needs no row
        key = (client, tag)
        columns = "SELECT tokens, time FROM bucket WHERE client = ? AND tag = ?"
        found = self._database.rows(columns, key, (float, float))
        if not found and not keep and self._buckets(client) >= _MAX_BUCKETS:
            oldest = self._database.rows("SELECT min(full) FROM bucket WHERE client = ?", (client,), (float,))[0][0]
            raise QueryLimitError(cast(float, oldest) - clock)
        tokens, last = cast(tuple[float, float], found[0]) if found else (rate.capacity, now)
        tokens = min(rate.capacity, tokens + (now - last) * per_second)
        if tokens < cost - _ROUNDING:
            raise QueryLimitError((cost - tokens) / per_second + now - clock)
        if keep:
            return
        full = now + (rate.capacity - tokens + cost) / per_second
        self._database.execute("INSERT OR REPLACE INTO bucket VALUES (?, ?, ?, ?, ?)", (*key, tokens - cost, now, full))

    def _buckets(self, client: str) -> int:
        return self._database.number("SELECT count(*) FROM bucket WHERE client = ?", (client,))

    def _log(self, client: str, operation: str, tag: bytes | None, allowed: bool) -> int:
        number = self._database.insert(
            "INSERT INTO query (time, client, operation, tag, allowed) VALUES (?, ?, ?, ?, ?)",
            (self._clock(), client, operation, tag, int(allowed)),
        )
        self._database.execute("DELETE FROM query WHERE number <= ?", (number - self._kept,))
        return number


def _check(*names: str) -> None:
    for name in names:
        if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
            raise ParameterError(f"expected 1 to {_MAX_NAME} printable characters, got {name[:40]!r}")


def _check_tokens(tokens: int) -> None:
    if tokens < 1:
        raise ParameterError(f"expected to take 1 token or more, got {tokens}")
