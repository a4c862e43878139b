"""Settings: one validated object, read from ORCHESTRATOR_* variables or given as keywords."""

from __future__ import annotations

import os
from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from orchestrator.errors import ConfigurationError

#: Half of PostgreSQL's documented practical jsonb comfort; larger payloads belong in object storage, by reference.
MAX_PAYLOAD = 1_048_576
#: The levels of log records, the least first.
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Settings(BaseSettings):
    """All settings of a process; every one is ORCHESTRATOR_<NAME> in the environment. Durations are seconds."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_", frozen=True, extra="forbid")

    #: SQLAlchemy URL of the ledger, on psycopg 3.
    database_url: SecretStr | None = None
    #: Whether a pooler such as PgBouncer in transaction mode is between: then nothing is left in a session.
    pooler: bool = False
    #: Celery broker URL: redis://, rediss://, sentinel://, amqp:// or amqps://.
    broker_url: SecretStr | None = None
    #: Transport options of the broker, as JSON, such as {"master_name": "orchestrator"} for Sentinels.
    broker_options: dict[str, Any] = Field(default_factory=dict)
    #: PEM file of the authorities that the certificate of a rediss:// or amqps:// broker must come from; the machine's
    #: own without it.
    broker_ca: str | None = None
    #: Import names, comma-separated, of the modules and packages that hold definitions and activities.
    modules: Annotated[tuple[str, ...], NoDecode] = ()
    #: Queue of steps that name none.
    default_queue: str = "orchestrator"
    #: Queue of the sweeps.
    sweep_queue: str = "orchestrator.sweeps"
    #: Tenant of calls that name none.
    tenant: str = "default"
    #: Changed content under a published version becomes a new version instead of an error.
    dev_mode: bool = False
    #: Largest input or output, in bytes of JSON.
    max_payload: PositiveInt = MAX_PAYLOAD
    #: A segment yields to the broker after this long, so that long executions do not starve others.
    segment_budget: PositiveFloat = 1.0
    #: Database connections of a process that starts and watches executions. A worker's processes have two each.
    pool_size: PositiveInt = 2
    #: How long a statement waits for a lock, an idempotency key held in somebody's open transaction included.
    lock_timeout: PositiveFloat = 10.0
    #: A worker node says that it lives this often.
    heartbeat_interval: PositiveFloat = 2.0
    #: A node silent for this long is dead.
    dead_after: PositiveFloat = 10.0
    #: A step with which so many owners have died is failed instead of given to another.
    max_crashes: PositiveInt = 3
    #: Connectors by name: the path of a YAML or JSON file, or JSON text. Secrets in it are references.
    connectors: Annotated[str | dict[str, Any] | None, NoDecode] = None
    #: Keys that encrypt the ledger's secrets and seal secret fields, comma-separated; the first encrypts, all decrypt.
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    #: Private networks that definitions may reach by HTTP, comma-separated, such as 10.1.0.0/16.
    http_allow_networks: Annotated[tuple[str, ...], NoDecode] = ()
    #: Whether a script that asks for it may be executed where the kernel cannot isolate it. It then sees and may do all
    #: that the worker may: only where every author of definitions is trusted.
    script_allow_unisolated: bool = False
    #: Folders, comma-separated, that scripts are shown read-only besides the system's programs and libraries, such as
    #: an interpreter's under /opt.
    script_folders: Annotated[tuple[str, ...], NoDecode] = ()
    #: Least level of what is kept of attempts' logs in the ledger: DEBUG, INFO, WARNING, ERROR or CRITICAL.
    log_level: str = "INFO"
    #: Most records that are kept of one attempt's log.
    log_limit: PositiveInt = 1_000
    #: How often due timers are looked for; 0 switches the sweep off.
    sweep_timers: float = Field(default=1.0, ge=0)
    #: How often dead owners are looked for; 0 switches the sweep off.
    sweep_owners: float = Field(default=2.0, ge=0)
    #: How often overtaken ready steps are looked for; 0 switches the sweep off.
    sweep_overtaken: float = Field(default=2.0, ge=0)
    #: How often executions without a next step are looked for; 0 switches the sweep off.
    sweep_stalled: float = Field(default=5.0, ge=0)
    #: How often attempts and executions past their timeout are looked for; 0 switches the sweep off.
    sweep_deadlines: float = Field(default=1.0, ge=0)
    #: How often incidents are opened and resolved; 0 switches the sweep off.
    sweep_incidents: float = Field(default=5.0, ge=0)
    #: Executions that ended this long ago are purged, in seconds, with nodes, fires and closed incidents as old. By
    #: default nothing is.
    retention: PositiveFloat | None = None
    #: How often what is too old is looked for; 0 switches the sweep off.
    sweep_retention: float = Field(default=60.0, ge=0)
    #: Steps that are ready for this long in a queue that no living worker consumes make an incident.
    queue_unconsumed_after: PositiveFloat = 30.0

    @field_validator("modules", "secret_keys", "http_allow_networks", "script_folders", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.upper() not in LOG_LEVELS:
            raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
        return value.upper()

    @field_validator("http_allow_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    @field_validator("database_url")
    @classmethod
    def _psycopg(cls, value: SecretStr | None) -> SecretStr | None:
        """Accept the postgres:// forms that hosting platforms hand out."""
        if value is None:
            return None
        url = value.get_secret_value()
        for prefix in ("postgres://", "postgresql://"):
            if url.startswith(prefix):
                return SecretStr("postgresql+psycopg://" + url.removeprefix(prefix))
        if not url.startswith("postgresql+psycopg://"):
            raise ValueError("must be a PostgreSQL URL, postgresql://user:password@host:5432/name")
        return value

    def require_database_url(self) -> str:
        """The ledger's URL; ConfigurationError when none is set."""
        if self.database_url is None:
            raise ConfigurationError("no database: set ORCHESTRATOR_DATABASE_URL, or try `orchestrator dev`")
        return self.database_url.get_secret_value()

    def require_broker_url(self) -> str:
        """The broker's URL; ConfigurationError when none is set."""
        if self.broker_url is None:
            raise ConfigurationError("no broker: set ORCHESTRATOR_BROKER_URL, or try `orchestrator dev`")
        return self.broker_url.get_secret_value()


def load(**overrides: Any) -> Settings:
    """Settings from the environment and keywords; ConfigurationError names each wrong one."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [f"ORCHESTRATOR_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise ConfigurationError("\n".join(lines)) from None


def variable(name: str) -> str | None:
    """A variable of the process's environment, for the secrets that connectors name; None when it is not set."""
    return os.environ.get(name)
