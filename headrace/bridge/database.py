"""The shared database as an app declares it: one for all that is bridged, at the address of the settings."""

from headrace.bridge.session import Engine
from headrace.bridge.sqlite import SqliteEngine
from headrace.errors import SettingsError
from headrace.settings import Settings

FORMS = ("postgresql://user@host/name", "sqlite://path/to/file.db")


class Database:
    """The database that is being left; `url` unless the setting `database` says otherwise.

    It opens nothing by itself: what writes it or reads it connects when it runs.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = url

    def engine(self, settings: Settings) -> Engine:
        """The database at its address. Raises: SettingsError for one that is not supported."""
        return connect(self.url or settings.database)


def connect(url: str) -> Engine:
    """The database at an address; nothing is opened yet. Raises: SettingsError."""
    scheme, separator, rest = url.partition("://")
    match scheme if separator else "":
        case "sqlite" if rest:
            return SqliteEngine(rest)
        case "postgresql" | "postgres":
            try:
                # Loaded only where it is asked for: psycopg is an extra.
                from headrace.bridge.postgres import PostgresEngine
            except ImportError as error:
                raise SettingsError(
                    "the database is a PostgreSQL, and psycopg is not installed",
                    hint="Install it: pip install 'headrace[postgres]'.",
                ) from error
            return PostgresEngine(url)
        case _:
            named = f"{scheme}://..." if separator else "without a scheme"
            raise SettingsError(
                f"a database {named} is not supported: headrace leaves PostgreSQL and SQLite",
                hint=f"Write {' or '.join(FORMS)} into HEADRACE_DATABASE.",
            )
