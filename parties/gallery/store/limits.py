"""Limits on queries: the answer "same" or "not the same" alone rebuilds a template, given enough of them.

arXiv 2601.17620 reconstructs templates from binary decisions; Frontiers in Imaging (2025), doi
10.3389/fimag.2025.1476377, from some dozens of scores, which are never opened here. So a server answers a client
about an identity only so often: a bucket holds `capacity` tokens, and fills at `per_hour`. A verification takes one.
Identification asks about everyone at once, and has one bucket for each client, under EVERYONE; one that asks for the k
nearest tells up to k names, and takes k tokens, or all, if the bucket holds fewer.

Whoever asks about a name learns whether it is enrolled, so names are guessed only so often, too: a verification of
somebody who is not enrolled takes a token from one more bucket of the client, and when that is empty, no verification
of anybody is answered, since that would tell that the name is right.

The defaults let a person retry at a door, and make an attack slow: about one identity 20 queries at once and 4 an hour
(116 on the first day, 1,000 take ten days), and as many identifications of one person. They are a choice, not a bound
from a proof; a gallery of high value wants less, and an eye on the log. Its operator sets others, for everybody or for
a client (see `rates`).

Buckets and the log are in the store's file: they survive a restart, and hold between all processes that use it. Time is
the system's clock, or the latest time that was seen: if the clock is set back, all buckets wait until it has caught up.
A client is whom the caller has authenticated: somebody who can pose as many clients has the queries of as many.

The log has the time, the client, the operation, and whether it was allowed; never the outcome. Neither has an identity
in clear: it stands there as a hash under a key in a file of its own (see `log_secret`). Removing an identity removes
its hashes too. What is no query (an enrolment, a removal, a change of key, a list of names) is logged likewise,
before it is done, and never limited; what the gallery's owner does without a client, under OPERATOR.
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
"""In place of an identity: a query about the whole gallery."""

OPERATOR = "operator"
"""In place of a client: whoever has the gallery's file."""

_MAX_NAME = 256
_MAX_BUCKETS = 10_000
_KEPT = 100_000
_SECONDS = 3600.0
_ROUNDING = 1e-6


VERIFY = Rate(20, 4)
"""Of a client about one identity, by default."""

IDENTIFY = Rate(20, 4)
"""Of a client about the whole gallery, by default."""

GUESSES = Rate(20, 4)
"""Of a client about names that are not enrolled, by default."""

DEFAULTS = {Question.VERIFY: VERIFY, Question.IDENTIFY: IDENTIFY, Question.GUESS: GUESSES}
"""What holds until the operator sets another rate."""


_END_OF_TIME = 253_402_214_400.0
"""The last day of the year 9999, in seconds since 1970: the calendar has no later one."""


@dataclass(frozen=True)
class Query:
    """One line of the log.

    Args:
        time: seconds since 1970.
        client, operation: as they were logged.
        tag: 16 bytes, the hash of the identity (see `QueryLimits.tag`); None for EVERYONE, or if it was removed.
        allowed: whether the query was answered.
    """

    time: float
    client: str
    operation: str
    tag: bytes | None
    allowed: bool


class QueryLimits:
    """The limits of a store's queries; a context manager. It needs no access to the gallery's content.

    Args:
        source: the path of a store that exists; or its file, open, which is left open.
        verify, identify: how often a client may ask about an identity, and about everyone; None for no limit.
        guesses: how often a client may ask about identities that are not enrolled.
        clock: seconds since 1970.
        kept: lines of the log to keep, at most; the oldest go first.
        timeout: seconds to wait for other processes, at most.

    Raises:
        StoreError: there is no store, or of a newer version.
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
        """Take a query from the bucket and log it, also if it is refused: what a server calls before every answer.

        Args:
            client: whom the caller has authenticated, 1 to 256 characters.
            operation: what is asked, 1 to 256 characters.
            identity: about whom; EVERYONE for an identification.
            tokens: what it costs, 1 or more: the names that it may tell. Never more than the bucket holds when full.
            enrolled: whether there is such an identity.

        Returns:
            The number of the line in the log.

        Raises:
            QueryLimitError: it must not be answered now.
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
        """Let a line of the log say that its query was refused: it was admitted, but could not be answered."""
        with self._database.writing():
            self._database.execute("UPDATE query SET allowed = 0 WHERE number = ?", (number,))

    def take(self, client: str, identity: str | None, tokens: int = 1, enrolled: bool = True) -> None:
        """Take a query from the bucket, without a line in the log: see `admit`.

        Raises:
            QueryLimitError: it must not be answered now.
        """
        _check(client)
        _check_tokens(tokens)
        with self._database.writing():
            tag = self._tag(identity)
            self._take_all(client, tag, tokens, enrolled)

    def log(self, client: str, operation: str, identity: str | None, allowed: bool) -> None:
        """Add a line to the log; beyond `kept` lines, the oldest goes."""
        _check(client, operation)
        with self._database.writing():
            self._log(client, operation, self._tag(identity), allowed)

    def queries(self, identity: str | None = None, last: int = 100) -> list[Query]:
        """Return the log's last lines, oldest first; with an identity, only those about it.

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
        """Remove the log's lines before a time, seconds since 1970, and log that; return how many."""
        with self._database.writing():
            count = self._database.execute("DELETE FROM query WHERE time < ?", (before,))
            self._log(OPERATOR, "prune log", EVERYONE, True)
        return count

    def reset(self, client: str, identity: str | None) -> None:
        """Fill a bucket, believe the clock again if it was once ahead, and log that: for the operator, after a mistake.

        Args:
            identity: EVERYONE for identifications and guesses.
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
        """Set how often a client, or with ALL_CLIENTS everybody without a rate of their own, may ask; log that.

        Args:
            rate: None to take it back.
        """
        if client != ALL_CLIENTS:
            _check(client)
        with self._database.writing():
            self._rates.set(client, question, rate, DEFAULTS[question])
            self._log(OPERATOR, "set limit", EVERYONE, True)

    def tag(self, identity: str | None) -> bytes | None:
        """Return what stands for an identity in the log: 16 bytes; None for EVERYONE."""
        database = self._database
        with database.reading() if database.read_only else database.writing():
            return self._tag(identity)

    def _tag(self, identity: str | None) -> bytes | None:
        """Return the same within a transaction: the log's key stays until that ends, for all processes."""
        if identity is EVERYONE:
            return None
        if not 0 < len(identity) <= MAX_IDENTITY:
            raise ParameterError(f"expected an identity of 1 to {MAX_IDENTITY} characters, got {len(identity)}")
        self._secret = adopt_log_secret(self._database, self._secret)
        return identity_tag(self._secret, identity.encode(errors="surrogatepass"))

    def close(self) -> None:
        """Close the file, if this has opened it."""
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
        """Return the rate that holds for a client; None if there are no limits."""
        default = self._defaults[question]
        return default and self._rates.of(client, question, default)

    def _take(self, client: str, tag: bytes, rate: Rate | None, wanted: int, keep: bool = False) -> None:
        """Take tokens from one bucket; if `keep`, only see whether they are there."""
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
