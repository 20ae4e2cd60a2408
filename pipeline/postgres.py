"""PostgreSQL at the edge: pools, and the translation of driver errors into ours. Only this package imports asyncpg.

A pool may be made while the database is away. Behind PgBouncer in transaction mode prepared statements are off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import asyncpg

from pipeline.errors import PoisonError, TransientError, WapipeError
from pipeline.settings import DatabaseSettings
from sql import SCHEMA, in_schema

if TYPE_CHECKING:  # asyncpg's classes are generic for the type checker only
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Pool, Connection = asyncpg.Pool, asyncpg.Connection

# SQLSTATE classes 22 (data exception) and 23 (integrity) blame the row, 54000 too (an index row too long); so do these
# of asyncpg's own COPY encoder.
_ENCODER_ERRORS = (TypeError, ValueError, OverflowError, UnicodeEncodeError)
_AWAY = (
    OSError, TimeoutError, asyncio.IncompleteReadError, asyncpg.PostgresError, asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)  # fmt: skip

# A client that is gone without a word (half-open connection) keeps its transaction, and the locks on its progress rows,
# until the server ends it. Longer than a transaction of ours waits for the broker to take a dead letter (5 s).
_ORPHAN_MS = "8000"
_TRANSACTION_TIMEOUT_SINCE = 17  # PostgreSQL
_KEEPALIVES = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "4"}


async def open_pool(
    database: DatabaseSettings, *, name: str, min_size: int = 0, max_size: int = 4, schema: str = SCHEMA,
    short_transactions: bool = False,
) -> Pool:  # fmt: skip
    """A pool of at most `max_size` connections; connects on first use. `name` shows in pg_stat_activity.

    With another `schema` every statement is sent for the tables there: the same code works in a scratch copy. With
    `short_transactions` the server ends one that lasts as long as three statements may (PostgreSQL 17 and later).
    """
    pooled = database.pgbouncer_port is not None
    # PgBouncer refuses unknown startup parameters, so nothing is set there: every table is named with its schema, and
    # its own idle_transaction_timeout does the rest.
    own = {"application_name": f"wapipe {name}", "jit": "off", "idle_in_transaction_session_timeout": _ORPHAN_MS}
    server_settings = {} if pooled else own | _KEEPALIVES
    return await asyncpg.create_pool(
        database.dsn(),
        min_size=min_size,
        max_size=max_size,
        command_timeout=database.command_timeout_s,
        statement_cache_size=0 if pooled else 100,
        server_settings=server_settings,
        timeout=10,
        init=partial(_bound_transactions, 3 * database.command_timeout_s)
        if short_transactions and not pooled
        else None,
        reset=_nothing,
        connection_class=_Connection if schema == SCHEMA else _connection_in(schema),
    )


async def _bound_transactions(limit_s: float, connection: Connection) -> None:
    """Between a statement's text and its arguments the server waits without its idle timeout: a client that vanishes just then
    keeps its locks for as long as TCP takes it for alive, which is for ever behind a proxy."""
    if connection.get_server_version().major >= _TRANSACTION_TIMEOUT_SINCE:
        await connection.execute(f"SET transaction_timeout = {int(limit_s * 1000)}")


async def close_pool(pool: Pool) -> None:
    """Closes its connections, those that do not answer within 5 s by force."""
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # TimeoutError is an OSError
        pool.terminate()


def _or_drop(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def call(self: asyncpg.Connection[asyncpg.Record], *args: Any, **options: Any) -> Any:
        try:
            return await method(self, *args, **options)
        except (OSError, asyncpg.InternalClientError):  # TimeoutError is an OSError; a cancellation must go its way
            self.terminate()
            raise

    return call


class _Connection(asyncpg.Connection):
    """Is dropped with a statement that ended without an answer. What still comes is that statement's, and asyncpg, which
    waits for it, hands the connection on in the middle of it when the answer is late ("another operation is in progress").
    """

    execute = _or_drop(asyncpg.Connection.execute)
    executemany = _or_drop(asyncpg.Connection.executemany)
    fetch = _or_drop(asyncpg.Connection.fetch)
    fetchmany = _or_drop(asyncpg.Connection.fetchmany)
    fetchrow = _or_drop(asyncpg.Connection.fetchrow)
    fetchval = _or_drop(asyncpg.Connection.fetchval)
    copy_records_to_table = _or_drop(asyncpg.Connection.copy_records_to_table)


def _connection_in(schema: str) -> Any:
    """A connection class whose statements go to the tables of `schema`; ordinary connections pay nothing for it."""

    def moved(name: str) -> Callable[..., Any]:
        method = getattr(_Connection, name)

        @wraps(method)
        def call(self: Any, statement: str, *args: Any, **options: Any) -> Any:
            return method(self, in_schema(statement, schema), *args, **options)

        return call

    def copy(self: Any, table: str, *, schema_name: str | None = None, **options: Any) -> Any:
        moved_name = in_schema(schema_name, schema) if schema_name else None
        return _Connection.copy_records_to_table(self, table, schema_name=moved_name, **options)

    sent = ("execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval", "prepare", "cursor")
    methods = {name: moved(name) for name in sent} | {"copy_records_to_table": copy}
    return type("ConnectionInSchema", (_Connection,), methods)


async def _nothing(connection: object) -> None:
    """No session state to reset: temporary tables go with their transaction, so a release costs no round trip."""


async def connect_directly(
    database: DatabaseSettings, *, name: str, command_timeout_s: float | None = None
) -> Connection:
    """A connection of one's own past PgBouncer, for what belongs to a session. The server notices within half a minute
    that its other end is gone. Raises TransientError."""
    async with translated():
        return await asyncpg.connect(
            database.dsn(direct=True), timeout=10, command_timeout=command_timeout_s or database.command_timeout_s,
            statement_cache_size=0,  # one statement may meet several temporary tables of one name
            connection_class=_Connection,
            server_settings={"application_name": f"wapipe {name}", "jit": "off", **_KEEPALIVES},
        )  # fmt: skip


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns what asyncpg raises into PoisonError (this data never fits) or TransientError (wait and try again).

    Bad data is tested first: asyncpg's DataError for arguments is an InterfaceError as well.
    """
    try:
        yield
    except WapipeError:
        raise
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError) as exc:
        raise PoisonError("refused_by_database", f"{exc.sqlstate} {exc}") from exc
    except _ENCODER_ERRORS as exc:
        raise PoisonError("not_encodable", f"{type(exc).__name__}: {exc}"[:300]) from exc
    except _AWAY as exc:
        raise TransientError("postgres", f"{type(exc).__name__}: {exc}"[:300]) from exc


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A connection in a transaction, errors translated, the wait for a connection bounded to 10 s."""
    async with translated(), pool.acquire(timeout=10) as connection, connection.transaction():
        yield connection  # type: ignore[misc] # the pool's proxy behaves as the connection it wraps


async def copy_rows(connection: Connection, table: str, columns: list[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """COPY `rows` into the (temporary) `table`."""
    await connection.copy_records_to_table(table, records=rows, columns=columns)
