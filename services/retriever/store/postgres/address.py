"""Which database and which of its schemas a store is in."""

from dataclasses import dataclass, field

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sirdar.errors import FailedPrecondition

# A connection that hangs is given up after these, unless the URL says otherwise.
_PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


@dataclass(frozen=True, slots=True)
class Address:
    """`url` is what libpq takes, `postgresql://user@host:port/database`. `schema` is in lower
    case; `cluster` names those who share the store."""

    url: str = field(repr=False)
    schema: str = "sirdar"
    cluster: str = "sirdar"

    @property
    def conninfo(self) -> str:
        """Raises FailedPrecondition where the URL is none."""
        return make_conninfo(**{**_PATIENCE, "application_name": "sirdar", **self._parts()})

    @property
    def channel(self) -> str:
        """Where it is told that something was committed."""
        return f"sirdar_{self.schema}"

    def __str__(self) -> str:
        """Without its password."""
        parts = self._parts()
        host, port = parts.get("host", "localhost"), parts.get("port", "5432")
        return f"{host}:{port}/{parts.get('dbname', '')}, schema {self.schema}"

    def _parts(self) -> dict[str, str]:
        try:
            return {
                key: str(value)
                for key, value in conninfo_to_dict(self.url).items()
                if value is not None
            }
        except psycopg.ProgrammingError as error:
            raise FailedPrecondition(
                f"`store` is no address of PostgreSQL: {error}; it is "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
                reason="BAD_STORE_ADDRESS",
            ) from None
