"""Every setting, in one place. From `HUB_*` environment variables, then `hub.toml`, then these defaults.

docs/settings.md describes each; a test fails when one is missing there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

Positive = Annotated[int, Field(gt=0)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="HUB_", toml_file="hub.toml", extra="forbid", frozen=True)

    # Where it listens and what it serves from.
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    data_dir: Path = Path("data")
    database_url: SecretStr = SecretStr("")
    admin_login: str = "admin"
    admin_password: SecretStr = SecretStr("")

    # Who may ask, and how often.
    session_hours: Positive = 336
    access_token_hours: Positive = 24
    login_attempts: Positive = 10
    login_window: Positive = 300
    password_length: Positive = 8
    trusted_origins: Annotated[tuple[str, ...], NoDecode] = ()
    trusted_proxies: str = "127.0.0.1"
    principals_remembered: Positive = 10_000

    # Bounds of one request.
    max_body_bytes: Positive = 1_048_576
    max_bulk_body_bytes: Positive = 67_108_864
    max_head_bytes: Positive = 65_536
    max_depth: Annotated[int, Field(ge=1, le=200)] = 32
    max_name_length: Positive = 200
    max_items: Positive = 10_000
    max_matches: Positive = 100_000
    max_filter_nodes: Positive = 1_000
    max_filter_depth: Annotated[int, Field(ge=1, le=100)] = 16
    delta_changes: Positive = 1_000
    idempotency_hours: Positive = 24
    head_timeout: Positive = 30
    body_timeout: Positive = 30
    keep_alive_timeout: Positive = 75
    max_requests: Positive = 1_000

    # Live subscriptions. Times in seconds.
    live_ping_interval: Positive = 25
    live_ping_timeout: Positive = 60
    live_connect_timeout: Positive = 45
    live_max_connections: Positive = 20_000
    live_max_payload: Positive = 1_000_000
    live_max_buffered: Positive = 1_048_576
    live_subscriptions: Positive = 1_000
    live_snapshot: Positive = 10_000
    live_snapshot_mb: Positive = 16
    live_recent: Positive = 10_000
    live_recent_mb: Positive = 64
    live_replay_mb: Positive = 16
    live_position_every: Positive = 20

    # The engine.
    feed_retention_hours: Positive = 72
    feed_retention_mb: Positive = 1_024
    reader_threads: Positive = 4
    stream_chunk_bytes: Positive = 65_536
    stream_timeout: Positive = 300
    read_timeout: Positive = 15
    sweep_interval: Positive = 60

    # Running it.
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    shutdown_grace: Positive = 10
    metrics: bool = True

    @field_validator("trusted_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def engine_url(self) -> str:
        """The database: as set, or a SQLite file in the data folder."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.data_dir / 'hub.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
