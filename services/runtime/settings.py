"""Settings of a server: command line before environment before file before default."""

import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from sirdar.errors import FieldViolation, InvalidArgument

CONFIG_FILE = "CONFIG_FILE"


def server_config(tier: str) -> SettingsConfigDict:
    """The `model_config` of a tier: environment variables start with `SIRDAR_<TIER>_`.

    The value `none` unsets a setting that may be unset.
    `SIRDAR_<TIER>_CONFIG_FILE` names a TOML file with the same keys in lower case.
    """
    return SettingsConfigDict(
        env_prefix=f"SIRDAR_{tier.upper()}_",
        env_ignore_empty=True,
        # The word that unsets what has a default, a port say.
        env_parse_none_str="none",
        cli_parse_none_str="none",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_prog_name=tier,
    )


class ServerSettings(BaseSettings):
    """What every tier can be told."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port of the gRPC server; 0 takes a free one."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of /metrics for Prometheus; unset: none."""
    health_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of a second gRPC server that answers health checks alone, and without TLS, as the
    probes of Kubernetes ask; unset: none."""
    log_format: Literal["console", "json"] = "console"
    """How log lines are written to standard error."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe lines to log; debug logs every call."""
    max_message_bytes: int = Field(default=32 * 2**20, ge=2**16)
    """The largest gRPC message accepted and sent."""
    max_connection_age_seconds: float = Field(default=300.0, gt=0)
    """Connections are closed, gracefully, at about this age, so that callers find new replicas."""
    drain_notice_seconds: float = Field(default=0.0, ge=0)
    """Between NOT_SERVING and the end of streams: the time callers need to notice."""
    drain_grace_seconds: float = Field(default=25.0, ge=0)
    """How long calls in flight may take to finish when the server stops."""
    stuck_seconds: float = Field(default=60.0, gt=0)
    """After so long without progress of a model the health service `liveness` is NOT_SERVING."""
    tls_certificate_file: Path | None = None
    """PEM certificate chain of the server; unset: no TLS."""
    tls_key_file: Path | None = None
    """PEM private key of the server."""
    tls_client_ca_file: Path | None = None
    """PEM roots that sign client certificates; set: clients must present one."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get(f"{settings_cls.model_config['env_prefix']}{CONFIG_FILE}")
        # pydantic-settings passes over a file that is not there.
        if file and not Path(file).is_file():
            raise SettingsError(f"there is no file {file}")
        toml = (TomlConfigSettingsSource(settings_cls, Path(file)),) if file else ()
        return (init_settings, env_settings, *toml)


S = TypeVar("S", bound=ServerSettings)


def load_settings(settings_class: type[S], arguments: Sequence[str] | None = None) -> S:
    """Reads the settings once. `arguments` default to the command line.

    Raises InvalidArgument with the name of each setting that is wrong or unknown.
    """
    _refuse_unknown_variables(settings_class)
    cli = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return settings_class(_cli_parse_args=cli)
    except ValidationError as error:
        fields = [
            FieldViolation(".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()
        ]
    except (SettingsError, tomllib.TOMLDecodeError, OSError) as error:
        raise InvalidArgument(f"settings: {error}", reason="BAD_SETTINGS") from error
    text = "; ".join(f"{field.field}: {field.description}" for field in fields)
    raise InvalidArgument(f"settings: {text}", reason="BAD_SETTINGS", fields=fields)


def _refuse_unknown_variables(settings_class: type[ServerSettings]) -> None:
    """pydantic-settings passes over variables that it does not know; a typo must not."""
    prefix = settings_class.model_config["env_prefix"]
    known = {f"{prefix}{name.upper()}" for name in [*settings_class.model_fields, CONFIG_FILE]}
    unknown = sorted(name for name in os.environ if name.startswith(prefix) and name not in known)
    if unknown:
        fields = [FieldViolation(name, "is not a setting") for name in unknown]
        raise InvalidArgument(
            f"settings: unknown environment variable {', '.join(unknown)}; see --help",
            reason="BAD_SETTINGS",
            fields=fields,
        )
