"""All settings. `HUB_*` environment variables come first, then `hub.toml`, then these defaults.

docs/settings.md describes each; a test fails if one is missing there.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from auth.mailboxes import is_mailbox
from auth.origins import own_origin, parse_trusted
from hub.fetching.rules import Exemption, parse_ports
from hub.http.proxies import check_proxies, is_prefix
from stores.bounds import Limit

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]

FILE: Final = "hub.toml"
PREFIX: Final = "HUB_"
STORE_PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}\Z")
OF_THE_COMMAND_LINE: Final = ("HUB_URL", "HUB_TOKEN")
"""Variables of the command line, which are not settings."""


class BadSettings(Exception):
    """The settings are invalid. The text is one line that names the location of the mistake."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, toml_file=FILE, extra="forbid", frozen=True)

    # Addresses, data and the first administrator.
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    root_path: str = ""
    data_dir: Path = Path("data")
    database_url: SecretStr = SecretStr("")
    secret_key: SecretStr = SecretStr("")
    admin_login: str = "admin"
    admin_password: SecretStr = SecretStr("")

    # Sign-in and access.
    session_hours: Positive = 336
    access_token_hours: Positive = 24
    login_attempts: Annotated[Positive, Limit("login", "attempts", "429")] = 10
    login_window: Positive = 300
    login_queue: Annotated[Positive, Limit("process", "logins", "429")] = 16
    password_length: Positive = 8
    # At least what OWASP recommends for the passes that argon2 makes over it, three.
    password_memory_kib: Annotated[int, Field(ge=12_288, le=1_048_576)] = 65_536
    reset_ends_tokens: bool = True
    register_code_seconds: Annotated[int, Field(ge=1, le=86_400)] = 600
    trusted_origins: Annotated[tuple[str, ...], NoDecode] = ()
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    trusted_proxies: str = "127.0.0.1"
    principals_remembered: Annotated[Positive, Limit("process", "credentials", "the oldest goes")] = 10_000

    # Mail.
    smtp_url: SecretStr = SecretStr("")
    mail_from: str = "hub@localhost"
    public_url: str = ""

    # Requests to other servers.
    fetch_allow: Annotated[tuple[str, ...], NoDecode] = ()
    fetch_ports: str = "80,443"
    fetch_hosts: str = ""
    # The listings API.
    listings_store_prefix: str = ""

    # Answers.
    compression: Literal["auto", "always", "off"] = "auto"

    # Bounds of one request.
    max_auth_body_bytes: Annotated[Positive, Limit("request", "bytes", "413")] = 16_384
    max_body_bytes: Annotated[Positive, Limit("request", "bytes", "413")] = 1_048_576
    max_bulk_body_bytes: Annotated[Positive, Limit("request", "bytes", "413")] = 67_108_864
    max_head_bytes: Annotated[Positive, Limit("request", "bytes", "431")] = 65_536
    max_depth: Annotated[int, Field(ge=1, le=200), Limit("entity", "levels", "400")] = 32
    max_entity_bytes: Annotated[Positive, Limit("entity", "bytes", "400")] = 3_500_000
    max_entity_nodes: Annotated[Positive, Limit("entity", "values", "400")] = 100_000
    max_body_nodes: Annotated[Positive, Limit("request", "values", "400")] = 1_000_000
    max_name_length: Annotated[Positive, Limit("field name", "characters", "400")] = 200
    max_items: Annotated[Positive, Limit("request", "entities", "400")] = 10_000
    max_matches: Annotated[Positive, Limit("request", "entities", "400")] = 100_000
    max_long_lists_per_user: Annotated[Positive, Limit("user", "long lists", "429")] = 32
    max_slow_reads_per_user: Annotated[Positive, Limit("user", "slow reads that wait", "503")] = 32
    max_tokens_per_user: Annotated[Positive, Limit("user", "tokens", "400")] = 1_000
    max_keys_per_user: Annotated[Positive, Limit("user", "keys", "400")] = 1_000
    max_sessions_per_user: Annotated[Positive, Limit("user", "sessions", "the oldest goes")] = 1_000
    max_filter_nodes: Annotated[Positive, Limit("filter", "conditions", "400")] = 1_000
    max_filter_depth: Annotated[int, Field(ge=1, le=100), Limit("filter", "levels", "400")] = 16
    delta_changes: Annotated[Positive, Limit("request", "changes", "`more`")] = 1_000
    idempotency_hours: Positive = 24
    head_timeout: Annotated[Positive, Limit("request", "seconds", "408")] = 30
    body_timeout: Annotated[Positive, Limit("request", "seconds", "408")] = 30
    keep_alive_timeout: Annotated[Positive, Limit("connection", "seconds", "closed")] = 75
    write_timeout: Annotated[Positive, Limit("connection", "seconds", "broken off")] = 30
    max_connections: Annotated[Positive, Limit("process", "connections", "closed")] = 50_000
    max_connections_per_address: Annotated[NotNegative, Limit("address", "connections", "503")] = 1_024
    max_buffered_bytes: Annotated[Positive, Limit("process", "bytes", "503")] = 268_435_456
    max_requests: Annotated[Positive, Limit("process", "requests", "503")] = 1_000

    # The listings API.
    tombstone_days: Annotated[Positive, Limit("store of listings", "days", "400")] = 90

    # Live subscriptions; times in seconds.
    live_ping_interval: Positive = 25
    live_ping_timeout: Annotated[Positive, Limit("connection", "seconds", "closed")] = 60
    live_connect_timeout: Annotated[Positive, Limit("connection", "seconds", "closed")] = 45
    live_max_connections: Annotated[Positive, Limit("process", "connections", "refused")] = 20_000
    live_max_connections_per_address: Annotated[NotNegative, Limit("address", "connections", "refused")] = 1_000
    live_max_payload: Annotated[Positive, Limit("message", "bytes", "closed")] = 1_000_000
    live_max_buffered: Annotated[Positive, Limit("connection", "bytes", "`lagging`")] = 1_048_576
    live_subscriptions: Annotated[Positive, Limit("connection", "subscriptions", "400")] = 1_000
    live_snapshot: Annotated[Positive, Limit("acknowledgement", "entities", "400")] = 10_000
    live_snapshot_mb: Annotated[Positive, Limit("acknowledgement", "MiB", "400")] = 3
    live_recent: Annotated[Positive, Limit("process", "changes", "the oldest goes")] = 10_000
    live_recent_mb: Annotated[Positive, Limit("process", "MiB", "the oldest goes")] = 64
    live_replay_mb: Annotated[Positive, Limit("process", "MiB", "the oldest goes")] = 16
    live_position_every: Positive = 20

    # The engine.
    feed_retention_hours: Annotated[Positive, Limit("database", "hours", "410")] = 72
    feed_retention_mb: Annotated[Positive, Limit("database", "MiB", "410")] = 1_024
    sqlite_log_mb: Annotated[Positive, Limit("database", "MiB", "long lists: 503, or broken off")] = 1_024
    reader_threads: Annotated[Positive, Limit("process on SQLite", "long reads at a time", "waits, then 503")] = 4
    stream_chunk_bytes: Annotated[Positive, Limit("piece of a list", "bytes", "sent")] = 65_536
    stream_timeout: Annotated[Positive, Limit("request", "seconds", "broken off")] = 300
    read_timeout: Annotated[Positive, Limit("read", "seconds", "503")] = 15
    sweep_interval: Positive = 60

    # Operation.
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    shutdown_grace: Annotated[Positive, Limit("process", "seconds", "broken off")] = 10
    metrics: Literal["local", "public", "off"] = "local"

    @field_validator("public_url")
    @classmethod
    def _is_web_address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must be the address of the hub, such as https://hub.example.com")
        return value

    @field_validator("listings_store_prefix")
    @classmethod
    def _is_store_prefix(cls, value: str) -> str:
        if value and not STORE_PREFIX.match(value):
            raise ValueError("must be 1 to 40 letters, digits, - or _, beginning with a letter")
        return value

    @field_validator("mail_from")
    @classmethod
    def _is_mailbox(cls, value: str) -> str:
        if not is_mailbox(value):
            raise ValueError("must be one e-mail address, such as hub@example.com")
        return value

    @field_validator("trusted_origins", "allowed_hosts", "fetch_allow", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(parse_trusted(text)) for text in value)

    @field_validator("root_path")
    @classmethod
    def _check_root(cls, value: str) -> str:
        if value.rstrip("/") and not is_prefix(value.rstrip("/")):
            raise ValueError(f"{value!r} is not a path such as /hub")
        return value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: str) -> str:
        check_proxies(value)
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if "/" in text or "*" in text or own_origin("http", text) is None:
                raise ValueError(f"{text!r} is not a host: write a name, or name:port, such as hub.example.org")
        return value

    @field_validator("fetch_allow")
    @classmethod
    def _check_exemptions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Exemption.parse(text)
        return value

    @field_validator("fetch_ports")
    @classmethod
    def _check_ports(cls, value: str) -> str:
        parse_ports(value)
        return value

    @field_validator("metrics", mode="before")
    @classmethod
    def _name_metrics(cls, value: object) -> object:
        """Accept true and false, the values of an earlier version of this setting."""
        words: dict[object, str] = {True: "local", False: "off", "true": "local", "false": "off"}
        return words.get(value.lower() if isinstance(value, str) else value, value)

    @property
    def engine_url(self) -> str:
        """The database URL: the setting, or a SQLite file in the data folder."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.data_dir / 'hub.db'}"

    @property
    def database_address(self) -> str:
        """The database URL without user, password and options, even if it is malformed; the path of a SQLite file is
        absolute."""
        url = self.engine_url
        if url.startswith("sqlite:///"):
            return f"sqlite:///{Path(url.removeprefix('sqlite:///')).resolve()}"
        # For `urlsplit`, "#" or "[" in a password would end the address, or be an error.
        scheme, _, rest = url.partition(":")
        server, _, options = rest.removeprefix("//").partition("?")
        if "@" in options:  # the "?" may be part of the password
            return f"{scheme}://…"
        return f"{scheme}://{server.rpartition('@')[2]}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # A folder that this user may not enter, such as root's home, contains no settings file for it.
        file = Path(FILE) if os.access(".", os.X_OK) else None
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)


def read_settings(**given: Any) -> Settings:
    """Return the settings in force; `given` takes precedence. Raises BadSettings."""
    try:
        return Settings(**given)
    except ValidationError as error:
        raise BadSettings("; ".join(describe(mistake, given) for mistake in error.errors())) from error
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"{FILE}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"{FILE}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise BadSettings(f"{FILE}: {error.strerror}") from error


def describe(mistake: ErrorDetails, given: Iterable[str]) -> str:
    """Return the text for one mistake, under the name of the option, variable or line of the file that contains it."""
    name = str(mistake["loc"][0]) if mistake["loc"] else ""
    if name in given:
        return f"--{name.replace('_', '-')}: {reason(mistake)}"
    variable = f"{PREFIX}{name}".upper()
    if variable in (each.upper() for each in os.environ):
        return f"{variable}: {reason(mistake)}"
    if mistake["type"] != "extra_forbidden":
        return f"{FILE}: {name}: {reason(mistake)}"
    if isinstance(mistake["input"], dict):
        return f"{FILE}: there is no table [{name}]: write the settings without a table"
    meant = name.lower().removeprefix(PREFIX.lower())
    if meant in Settings.model_fields:
        return f"{FILE}: there is no setting {name}: in this file it is {meant}"
    return f"{FILE}: there is no setting {name}{suggestion(meant, Settings.model_fields)}"


REASONS: Final = {
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text in quotation marks",
    "path_type": "must be text in quotation marks",
    "tuple_type": "must be text, or a list of texts",
    "value_error": "{error}",
}
"""The text for each of pydantic's types of errors. The context of the error replaces the names in braces."""


def reason(mistake: ErrorDetails) -> str:
    """Return why a value is wrong. The value is not quoted: it may be a secret."""
    text = REASONS.get(mistake["type"], mistake["msg"])
    return text.format(**mistake.get("ctx", {})) if mistake["type"] in REASONS else text


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean port?``, or an empty string if no known name is close."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def unknown_variables(names: Iterable[str]) -> dict[str, str]:
    """Return the `HUB_` variables among `names` that are not settings, each with a suggestion."""
    known = [f"{PREFIX}{name}".upper() for name in Settings.model_fields] + list(OF_THE_COMMAND_LINE)
    ours = [name for name in names if name.upper().startswith(PREFIX) and name.upper() not in known]
    return {name: suggestion(name.upper(), known) for name in sorted(ours)}


def file_data_dir() -> Path:
    """Return the data folder that a command uses if neither an option nor a variable names one."""
    try:
        return Path(TomlConfigSettingsSource(Settings)().get("data_dir", Settings.model_fields["data_dir"].default))
    except (ValueError, OSError, TypeError):
        return Path(Settings.model_fields["data_dir"].default)
