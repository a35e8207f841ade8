"""Where a home's database is: the file in it, or the PostgreSQL database that its settings name."""

from __future__ import annotations

from pathlib import Path

from coordinator.settings import Home, Settings, read_private
from coordinator.store.engines import ServerUrl
from federation.errors import InvalidUsage


def place_of(home: Home, settings: Settings) -> Path | ServerUrl:
    """Raises InvalidUsage for a URL that is none or is dangerous, and for a password that others can read."""
    url, file = settings.database.get_secret_value().strip(), settings.database_password_file
    if not url:
        if file:
            raise InvalidUsage(
                "There is a file with the database's password, and no database to use it for.",
                hint="Set database (CONCORD_COORDINATOR_DATABASE), or leave database_password_file out.",
            )
        return home.database
    password = read_private(Path(file), "The database's password").decode(errors="replace").strip() if file else ""
    return ServerUrl.parse(url, password)
