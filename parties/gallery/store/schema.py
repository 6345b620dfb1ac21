"""Define the store's tables, and bring files of older versions to this version.

SQLite's `application_id` says that a file is a store, and `user_version` gives its version. MIGRATIONS[n] makes version
n + 1 from version n. All steps run in one transaction. Version 0 is an empty database.

- state: one row. It says what the store is for, and holds its counters.
- entry: a row for every photo. A photo whose enrolment has only begun has a row too, and one in `reservation`.
- share_0, share_1: the shares of the key's even generations, and of its odd ones. One table is current. The other is
  empty, or a rotation of the key is filling it, or is emptying it afterwards.
- change: the rows that were added and removed, in order, for a party that keeps an index.
- bucket, query: the limits on queries, and the log (see `limits`).
- rate: the limits that the operator has set (see `rates`).

For tables without checksums of their own, an SQLite index over all columns is a second copy. SQLite maintains it, and
`Database.check` compares it with the table. So damage is noticed there, too.
"""

import contextlib
import secrets
import sqlite3
from collections.abc import Callable

from parties.gallery.errors import StoreError

__all__ = ["APPLICATION_ID", "VERSION", "migrate", "version_of"]

APPLICATION_ID = 0x68664731
"""The four bytes "hfG1" in the file's header."""


def _galleries(connection: sqlite3.Connection) -> None:
    for statement in (
        """CREATE TABLE state (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            model TEXT NOT NULL,
            dimension INTEGER NOT NULL,
            kind TEXT NOT NULL,
            scope BLOB NOT NULL,
            lineage BLOB NOT NULL,
            generation INTEGER NOT NULL,
            photo_floor INTEGER NOT NULL,
            rotation BLOB,
            erasing INTEGER NOT NULL)""",
        """CREATE TABLE entry (
            row INTEGER PRIMARY KEY AUTOINCREMENT,
            identity BLOB NOT NULL,
            photo INTEGER NOT NULL,
            UNIQUE (identity, photo))""",
        """CREATE TABLE reservation (
            row INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
            generation INTEGER NOT NULL)""",
        """CREATE TABLE share_0 (
            row INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
            share BLOB NOT NULL,
            crc INTEGER NOT NULL)""",
        """CREATE TABLE share_1 (
            row INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
            share BLOB NOT NULL,
            crc INTEGER NOT NULL)""",
        """CREATE TABLE change (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            row INTEGER NOT NULL,
            added INTEGER NOT NULL)""",
    ):
        connection.execute(statement)


def _query_limits(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE state ADD COLUMN salt BLOB")
    connection.execute("ALTER TABLE state ADD COLUMN query_time REAL NOT NULL DEFAULT 0")
    connection.execute("UPDATE state SET salt = ?", (secrets.token_bytes(32),))
    connection.execute(
        """CREATE TABLE bucket (
            client TEXT NOT NULL,
            tag BLOB NOT NULL,
            tokens REAL NOT NULL,
            time REAL NOT NULL,
            full REAL NOT NULL,
            PRIMARY KEY (client, tag))"""
    )
    connection.execute("CREATE INDEX bucket_full ON bucket (full)")
    connection.execute(
        """CREATE TABLE query (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            time REAL NOT NULL,
            client TEXT NOT NULL,
            operation TEXT NOT NULL,
            tag BLOB,
            allowed INTEGER NOT NULL)"""
    )


def _operators_settings(connection: sqlite3.Connection) -> None:
    """Make the table of rates. `log_secret` moves the salt to another file, and puts a check in its place."""
    connection.execute("UPDATE state SET erasing = 1")
    connection.execute(
        """CREATE TABLE rate (
            client TEXT NOT NULL,
            question TEXT NOT NULL,
            capacity REAL NOT NULL,
            per_hour REAL NOT NULL,
            PRIMARY KEY (client, question))"""
    )


def _copies(connection: sqlite3.Connection) -> None:
    for table, columns in (
        (
            "state",
            "model, dimension, kind, scope, lineage, generation, photo_floor, rotation, erasing, salt, query_time",
        ),
        ("reservation", "generation"),
        ("change", "row, added"),
        ("bucket", "client, tag, tokens, time, full"),
        ("query", "time, client, operation, tag, allowed"),
        ("rate", "client, question, capacity, per_hour"),
    ):
        connection.execute(f"CREATE INDEX {table}_copy ON {table} ({columns})")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _galleries,
    _query_limits,
    _operators_settings,
    _copies,
)
VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection, name: str) -> int:
    """Return the version of an open database.

    Raises:
        StoreError: it is not a store, or it is of a newer version, or its tables are not those of its version.
        sqlite3.Error: it is not a database, or it is damaged.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if application != APPLICATION_ID or version < 1:
        raise StoreError(f"{name}: expected a gallery store, got another kind of file")
    if version > VERSION:
        raise StoreError(f"{name}: expected a store of version {VERSION} or older, got version {version}")
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as expected:
        migrate(expected, 0, version)
        if _definitions(connection) != _definitions(expected):
            raise StoreError(f"{name}: expected the tables of version {version}, got others: the store is damaged")
    return version


def migrate(connection: sqlite3.Connection, version: int, target: int = VERSION) -> None:
    """Bring a database from a version to the target version. The caller has begun a transaction."""
    for step in MIGRATIONS[version:target]:
        step(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {target}")


def _definitions(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()
