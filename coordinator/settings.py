"""The coordinator's home: settings, keys and folders. Settings come from coordinator.yaml, then CONCORD_* of the environment."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from federation.errors import InvalidManifest, InvalidUsage
from federation.exposure import collide, listened
from federation.manifest.yaml_source import MAX_BYTES, read_yaml
from federation.variables import refuse_unknown

SETTINGS_FILE = "coordinator.yaml"
PREFIX = "CONCORD_COORDINATOR_"
HOME_VARIABLE = f"{PREFIX}HOME"
SECRET_LIMIT = 64 << 10
"""bytes of a file that holds a key or a password"""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid")

    federation: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    """the federation's name, as in its roll"""
    listen: str = "127.0.0.1:7443"
    """host:port of the one port that nodes and leads reach, over mutual TLS"""
    metrics: str = "127.0.0.1:9464"
    """where /metrics, /healthz, /readyz and /log are served; empty: nowhere. Elsewhere than on this machine or a private network
    only with a certificate"""
    metrics_certificate: str = ""
    """PEM file with which they are served over TLS, chain included; from the home"""
    metrics_key: str = ""
    """PEM file of its key, readable by nobody else"""
    certificate_hours: float = Field(24.0, gt=0, le=24 * 90)
    """how long a transport certificate is good; it is renewed in its last third"""
    max_update_bytes: int = Field(64 << 30, gt=0)
    """the largest masked update of one member that is taken"""
    log_head_seconds: float = Field(5.0, gt=0, le=3600)
    """how long a head of the public log stands before the next one is signed"""
    database: SecretStr = SecretStr("")
    """a PostgreSQL URL (docs/how-to/postgresql.md); empty: SQLite in the home. Shown nowhere, since it may hold a password"""
    database_password_file: str = ""
    """the file that holds the password of ``database``, readable by its owner alone"""

    @field_validator("listen", "metrics")
    @classmethod
    def _address(cls, value: str, info: ValidationInfo) -> str:
        if value or info.field_name == "listen":
            listened(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings names it so
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


KNOWN = frozenset({HOME_VARIABLE, *(f"{PREFIX}{name}".upper() for name in Settings.model_fields)})
"""the variables of the environment that a coordinator reads"""


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one folder, which one process at a time may use."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / SETTINGS_FILE

    @property
    def database(self) -> Path:
        return self.root / "coordinator.db"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def run_file(self) -> Path:
        return self.root / "run.json"

    def key(self, name: str) -> Path:
        return self.root / "keys" / f"{name}.key"

    @property
    def log_key(self) -> Path:
        """The public log's public key, one line, for whoever wants to check the log."""
        return self.root / "log.key.pub"

    @property
    def ca_certificate(self) -> Path:
        return self.root / "ca.pem"

    def load(self) -> Settings:
        """Raises InvalidUsage with the field or variable, and what to do."""
        refuse_unknown(
            os.environ, "a coordinator", PREFIX, KNOWN, f"Unset it. This version knows {', '.join(sorted(KNOWN))}."
        )
        try:
            data = read_whole(self.settings, MAX_BYTES)
            document: Any = read_yaml(data.decode(), str(self.settings)).value
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InvalidUsage(
                f"{self.root} is not a coordinator's home.",
                hint="Make one: concord-coordinator init --home DIR --federation NAME",
            ) from error
        except OSError as error:
            raise InvalidUsage(
                f"{self.settings} cannot be read: {error.strerror}.", hint="Check the path, and who may read it."
            ) from error
        except UnicodeDecodeError as error:
            raise InvalidUsage(
                f"{self.settings} is not valid YAML: it is not UTF-8 text.",
                hint="Save it as UTF-8, or restore it from a backup.",
            ) from error
        except InvalidManifest as error:
            raise InvalidUsage(
                f"{self.settings} is not valid YAML as it is read here: {error.message}",
                hint=error.hint or "Restore it from a backup.",
            ) from error
        if not isinstance(document, dict):
            raise InvalidUsage(f"{self.settings} is not a mapping.", hint="Correct it, or restore it from a backup.")
        if isinstance(url := document.get("database"), str) and holds_password(url):
            raise InvalidUsage(
                f"{self.settings}: database: a file of settings is no place for a password.",
                hint="Take it out of the URL, and name a file that holds it: database_password_file; or give the whole URL in "
                "CONCORD_COORDINATOR_DATABASE.",
            )
        self._check_kinds(document)
        try:
            settings = Settings(**document)
        except ValidationError as error:
            problem = error.errors(include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            variable, what = f"{PREFIX}{place}".upper(), problem["msg"].removeprefix("Value error, ")
            if variable in {name.upper() for name in os.environ}:
                raise InvalidUsage(
                    f"The environment variable {variable}: {what}.", hint="Correct it, or unset it."
                ) from None
            raise InvalidUsage(f"{self.settings}: {place}: {what}.", hint="Correct that field.") from None
        if settings.federation != document.get("federation", settings.federation):
            raise InvalidUsage(
                f"The environment variable {PREFIX}FEDERATION says {settings.federation}, and this home is one of "
                f"{document['federation']}.",
                hint="Unset it, or use another home: a federation's name stands in every certificate and cannot change.",
            )
        if settings.metrics and collide(settings.listen, settings.metrics):
            both = {settings.listen, settings.metrics}
            where = f"both {settings.listen}" if len(both) == 1 else f"{settings.listen} and {settings.metrics}"
            raise InvalidUsage(
                f"listen and metrics are {where}, and two things cannot listen at one address.",
                hint="Give metrics another port, or leave it empty for none.",
            )
        return settings

    def _check_kinds(self, document: dict[Any, Any]) -> None:
        """Of the file alone: a variable is always text. Raises InvalidUsage for a field that nothing reads, and for a number that
        is none: ``yes``, or digits in quotes."""
        for name, value in document.items():
            field = Settings.model_fields.get(name)
            if field is None:
                raise InvalidUsage(
                    f"{self.settings}: {str(name)[:100]}: there is no such setting.",
                    hint=f"Take it out. This version knows {', '.join(Settings.model_fields)}.",
                )
            if field.annotation in {int, float} and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise InvalidUsage(
                    f"{self.settings}: {name}: it is not a number.", hint="Write it out in digits, without quotes."
                )

    def read_key(self, name: str) -> bytes:
        """Raises InvalidUsage when the key is missing, or readable by others."""
        return read_private(self.key(name), "The key")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises InvalidUsage when another process runs on this home."""
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InvalidUsage(
                f"Another coordinator runs on {self.root}.", hint="Stop it first, or use another home."
            ) from error
        try:
            yield
        finally:
            os.close(descriptor)


def read_whole(path: Path, limit: int) -> bytes:
    """A file, links followed. Raises OSError; InvalidUsage for a folder, a pipe or a device, and for more than ``limit`` bytes."""
    # Opening a pipe would wait for whoever writes to it.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise InvalidUsage(f"{path} is not a file.", hint="Put the file there that it is to be.")
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise InvalidUsage(f"{path} is larger than {limit} bytes.", hint="Put the file there that it is to be.")
    return data


def read_private(path: Path, what: str) -> bytes:
    """A file with a secret. Raises InvalidUsage when it is missing, or readable by others."""
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InvalidUsage(f"{what} {path} can be read by others.", hint=f"Run: chmod 600 {path}")
        return read_whole(path, SECRET_LIMIT)
    except FileNotFoundError as error:
        raise InvalidUsage(f"{what} {path} is missing.", hint="Restore it from a backup.") from error
    except OSError as error:
        raise InvalidUsage(f"{what} {path} cannot be read: {error.strerror}.", hint="Check the path.") from error


def holds_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password) or "password=" in urlsplit(url).query
    except ValueError:
        return False


def write_private(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Writes a file with mode 0600 so that it is whole or absent. Raises InvalidUsage when it exists and may not be replaced."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and not replace:
        raise InvalidUsage(
            f"{path} is there already.", hint="Nothing was changed. Use another folder, or move it away."
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
