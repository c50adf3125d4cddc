"""A worker that runs by its contract alone: its events and its HTTP, and no connection to a database.

Enforced in the interpreter (PEP 578): a module of a known driver cannot be imported, and SQLite opens no
file but the embedded log. An audit hook cannot be taken out again, so it is set only by a worker that is
told to, once for its process. Not covered: other processes that the service starts, and code that
speaks a database's protocol by itself.
"""

import sys
from pathlib import Path
from typing import Any, cast

from headrace.errors import ContractOnly
from headrace.settings import Settings

DRIVERS = frozenset(
    {
        "psycopg", "psycopg2", "asyncpg", "pg8000", "pymysql", "MySQLdb", "aiomysql", "asyncmy", "mariadb",
        "oracledb", "cx_Oracle", "pyodbc", "aioodbc", "pymssql", "ibm_db", "duckdb", "pymongo", "motor",
        "aiosqlite", "snowflake", "clickhouse_driver", "cassandra", "apsw", "pysqlite3", "sqlcipher3",
        "libsql", "psqlpy", "pgdb", "redshift_connector", "connectorx", "arrow_odbc", "turbodbc",
        "adbc_driver_postgresql", "adbc_driver_sqlite",
    }
)  # fmt: skip
"""Packages whose only use is to reach a database."""
_SUBMODULES = ("mysql.connector", "mysql.connector.aio")
_EMBEDDED = "embedded://"


class _Guard:
    """What the hook knows; there is one in a process."""

    def __init__(self) -> None:
        self.is_set = False
        self.log: Path | None = None
        """The one file that may be opened; None before the settings are read."""

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raises: ContractOnly."""
        if event == "import" and isinstance(name := arguments[0], str):
            self.find_spec(name)
        elif event == "sqlite3.connect" and not self._is_log(arguments[0]):
            raise _refusal(f"open {arguments[0]!r} with sqlite3")

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> None:
        """As a finder of modules it finds none. `importlib.import_module` raises no audit event, but asks it.

        Raises: ContractOnly.
        """
        if name.partition(".")[0] in DRIVERS or name in _SUBMODULES:
            raise _refusal(f"import {name}")

    def _is_log(self, database: Any) -> bool:
        try:
            name = database.decode() if isinstance(database, bytes) else str(database)
            path = Path(name.removeprefix("file:").partition("?")[0])
            return self.log is not None and path.resolve() == self.log
        except (OSError, ValueError):
            return False


_guard = _Guard()


def forbid_databases() -> None:
    """Let nothing of this process open a database from here on, but the log that `enforce` names."""
    if not _guard.is_set:
        _guard.is_set = True
        sys.addaudithook(_guard.hook)
        sys.meta_path.insert(0, cast(Any, _guard))


def enforce(settings: Settings, bridged: str = "") -> None:
    """Forbid databases but for the embedded log of these settings; `bridged` is what the app declares of one.

    Raises: ContractOnly when it declares anything, or has imported a driver before.
    """
    if settings.log.startswith(_EMBEDDED):
        _guard.log = Path(settings.log.removeprefix(_EMBEDDED)).resolve()
    forbid_databases()
    if bridged:
        raise ContractOnly(f"this worker runs by its contract alone, and its app declares {bridged}")
    imported = sorted(name for name in (*DRIVERS, *_SUBMODULES) if name in sys.modules)
    if imported:
        raise ContractOnly(
            f"this worker runs by its contract alone, and its app has imported {', '.join(imported)}"
        )


def _refusal(what: str) -> ContractOnly:
    return ContractOnly(f"this worker runs by its contract alone, and something was about to {what}")
