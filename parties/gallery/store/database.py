"""Connect to a store's file: SQLite with a write-ahead log, whose errors become a StoreError.

- Every commit reaches the disk (synchronous=FULL).
- Zeros overwrite deleted content (secure_delete).
- Waiting for another process is bounded.
- Only the owner may use the file and its companions (-wal, -shm, -lock; mode 0600).
"""

import contextlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parties.gallery.errors import StoreError
from parties.gallery.kind import GalleryKind
from parties.gallery.store.log_secret import move_log_secret, secret_path
from parties.gallery.store.schema import VERSION, migrate, version_of
from parties.machine.durable import sync_folder
from parties.machine.locks import FileLock
from parties.machine.walks import size_of

__all__ = ["TIMEOUT_SECONDS", "Database", "WriterLock", "create_database"]

TIMEOUT_SECONDS = 30.0
_PAGE_BYTES = 8192
_POLL_SECONDS = 0.01
_MODE = 0o600
_SETTINGS = ("foreign_keys = ON", "secure_delete = ON", "synchronous = FULL")
_WRITER_SETTINGS = ("journal_mode = WAL",)
_UNWRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
"""SQLite's error codes without write access. SQLite writes a file beside the store even to read the store."""


class Database:
    """The open file of a store, for one process. The threads of the process may share it.

    Args:
        path: of a file that `create_database` made.
        timeout: longest time to wait for another process, in seconds.
        read_only: refuse to write.

    Raises:
        StoreError: there is no such file, or it is not a store, or it is damaged or of a newer version.
    """

    def __init__(self, path: Path, timeout: float = TIMEOUT_SECONDS, read_only: bool = False) -> None:
        self.path, self.read_only, self._timeout = path, read_only, timeout
        self._lock = threading.RLock()
        with self.errors():
            if not path.is_file() or path.stat().st_size == 0:
                raise StoreError(f"{path.name}: expected a gallery store, got no file or an empty one")
            if not read_only:
                self._connection, self.version = self._opened("mode=rw")
                os.chmod(path, _MODE)
                return
            try:
                self._connection, self.version = self._opened("mode=rw", "query_only = ON")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _UNWRITABLE:
                    raise
                self._expect_no_log()
                self._connection, self.version = self._opened("mode=ro&immutable=1", "query_only = ON")

    def _opened(self, how: str, *settings: str) -> tuple[sqlite3.Connection, int]:
        """Open the file; return the connection and the file's version."""
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{how}",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            version = version_of(connection, self.path.name)
            for setting in (*_SETTINGS, *(settings or _WRITER_SETTINGS)):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
        return connection, version

    def _expect_no_log(self) -> None:
        """Check that there is no write-ahead log: without write access, SQLite cannot read one."""
        if size_of(Path(f"{self.path}-wal")):
            raise StoreError(
                f"{self.path.name}: expected a store that was closed, got one with a log beside it, which cannot be"
                " read without writing: make room, or open the store once where it can be written"
            )

    @property
    def has_queries(self) -> bool:
        """Whether the file has the tables of queries. A file of the first version has none."""
        return self.version > 1

    def check(self) -> None:
        """Check the whole file with SQLite's integrity check.

        Raises:
            StoreError: the file is damaged.
        """
        found = self.rows("PRAGMA integrity_check(1)")
        if found != [("ok",)]:
            raise StoreError(
                f"{self.path.name}: expected an undamaged store, got: {' '.join(str(found[0][0]).split())}"
            )

    def migrate(self) -> None:
        """Bring an older version's file to this version, completely or not at all."""
        with self.writing():
            migrate(self._connection, version_of(self._connection, self.path.name))
            try:
                move_log_secret(self._connection, self.path)
            except ValueError as error:
                raise StoreError(f"{secret_path(self.path).name}: expected the log's key, got other bytes") from error
        self.version = VERSION

    def rows(
        self, statement: str, parameters: tuple[object, ...] = (), types: tuple[Any, ...] = ()
    ) -> list[tuple[object, ...]]:
        """Run a statement; return all its rows.

        Args:
            types: expected types of a row's values. SQLite accepts a value of any type in any column.

        Raises:
            StoreError: a value has another type.
        """
        with self.errors(), self._lock:
            found = self._connection.execute(statement, parameters).fetchall()
        if types and not all(isinstance(value, kind) for row in found for value, kind in zip(row, types, strict=True)):
            raise self.damaged()
        return found

    def damaged(self) -> StoreError:
        """Return the error that says that the store holds values of impossible types."""
        return StoreError(
            f"{self.path.name}: expected values of their columns' types, got others: the store is damaged"
        )

    def number(self, statement: str, parameters: tuple[object, ...] = ()) -> int:
        """Run a statement that yields one number; return it, or 0 for NULL."""
        value = self.rows(statement, parameters)[0][0]
        if not isinstance(value, int | None):
            raise StoreError(f"{self.path.name}: expected a number, got {type(value).__name__}: the store is damaged")
        return value or 0

    def insert(self, statement: str, parameters: tuple[object, ...]) -> int:
        """Run an INSERT; return the new row's number."""
        with self.errors(), self._lock:
            return self._connection.execute(statement, parameters).lastrowid or 0

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> int:
        """Run a statement; return how many rows it changed."""
        with self.errors(), self._lock:
            return self._connection.execute(statement, parameters).rowcount

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Run the block in one transaction: all of it, or nothing. No other process writes meanwhile."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Let the block read one state of the file, whatever others write; inside a transaction, its state."""
        with self._lock:
            if self._connection.in_transaction:
                yield
            else:
                with self._transaction("BEGIN"):
                    yield

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._lock, self.errors():
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def truncate_log(self) -> bool:
        """Move the write-ahead log's content to the file and empty the log; return False if a reader still needs it."""
        return self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0

    def close(self) -> None:
        """Close the file. Uncommitted changes are lost."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Raise errors of SQLite and of the system as a StoreError."""
        name = self.path.name
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise StoreError(f"{name}: expected an open store, got a closed one ({error})") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreError(f"{name}: another process held the store for {self._timeout:g} s") from error
            told = " ".join(str(error).split())
            raise StoreError(f"{name}: expected an undamaged store that can be written, got: {told}") from error
        except UnicodeDecodeError as error:  # SQLite's message quotes the damaged bytes
            raise StoreError(f"{name}: expected an undamaged store, got one whose tables have no names") from error
        except OverflowError as error:
            raise StoreError(f"{name}: expected numbers of 64 bits, got larger ones: the store is damaged") from error
        except OSError as error:
            raise StoreError(f"{name}: cannot use the store: {error.strerror}") from error


class WriterLock:
    """A lock that tells whether this process is the only one that has a store open for writing.

    The lock ends with its process.

    Args:
        path: of the store. The lock is an empty file beside it, since SQLite locks the store's own file.
        timeout: longest time to wait while another process opens the store, in seconds.

    Raises:
        StoreError: another process takes longer than that to open the store, or the lock cannot be made.
    """

    def __init__(self, path: Path, timeout: float = TIMEOUT_SECONDS) -> None:
        self._name, self._timeout = path.name, timeout
        lock = path.with_name(f"{path.name}-lock")
        try:
            self._lock = FileLock(lock, "the store")
        except OSError as error:
            raise StoreError(f"{lock.name}: cannot lock the store {path.name}: {error.strerror}") from error
        self.is_alone = self._lock.try_take()
        """Whether no other process has the store open for writing. If so, none can open it until `share`."""
        if not self.is_alone:
            self.share()

    def share(self) -> None:
        """Let other processes open the store for writing as well."""
        try:
            self._lock.take(shared=True, seconds=self._timeout)
        except TimeoutError as error:
            self.close()
            raise StoreError(f"{self._name}: another process held the store for {self._timeout:g} s") from error
        self.is_alone = False

    def close(self) -> None:
        """Give up the lock."""
        self._lock.close()


def create_database(path: Path, model: str, dimension: int, kind: GalleryKind) -> None:
    """Make the file of an empty store, completely or not at all. The caller holds the lock alone.

    Raises:
        StoreError: a log of another store lies beside the path, or the folder cannot be written.
    """
    if Path(f"{path}-wal").exists():
        raise StoreError(f"{path.name}: expected no log beside a store that is not there, got {path.name}-wal")
    temporary = Path(f"{path}-new")
    try:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{temporary}{suffix}").unlink(missing_ok=True)  # left by a process that was killed here
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _MODE))
        connection = sqlite3.connect(temporary, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("BEGIN")
            migrate(connection, 0)
            connection.execute(
                "INSERT INTO state VALUES (1, ?, ?, ?, ?, ?, 1, 0, NULL, 0, NULL, 0)",
                (model, dimension, str(kind), *(secrets.token_bytes(size) for size in (16, 16))),
            )
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        os.rename(temporary, path)
        sync_folder(path.parent)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path.name}: cannot make the store: {error}") from error
