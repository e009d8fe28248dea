"""The schema of a store: brought to this version when it is opened, and back by `move`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.connection import Connection, connect, storage_error
from sirdar.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    import sqlalchemy

VERSION_TABLE = "sirdar_version"
REVISIONS = ("0001", "0002", "0003", "0004")
"""The steps of `migrations`, in their order."""
NOTHING = "base"
_MIGRATIONS = Path(__file__).parent / "migrations"
# Any number, the same for all who open stores.
_LOCK = 0x53495244


def prepare(address: Address) -> None:
    """Makes the tables, or brings them to this version; one who opens the store at a time.

    Raises FailedPrecondition for tables of a newer version, of another program
    or of another cluster, Unavailable.
    """
    with connect(address) as connection, _refusing(address):
        if _version(connection, address) != REVISIONS[-1]:
            move(address, REVISIONS[-1])
        _check_cluster(connection, address)


def move(address: Address, revision: str) -> None:
    """Brings the tables to a revision, up or down, in one transaction; `NOTHING` removes them
    and all that is in them. Nobody may use the store meanwhile.

    Raises InvalidArgument for a revision that is not known, FailedPrecondition.
    """
    if revision not in (*REVISIONS, NOTHING):
        raise InvalidArgument.field(
            "revision", f"must be {NOTHING} or one of {', '.join(REVISIONS)}, not {revision}"
        )
    # Only where something is to be done: they take 0.4 s to import.
    from sqlalchemy import NullPool, create_engine  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(address.conninfo),
        poolclass=NullPool,
    )
    try:
        with engine.begin() as transaction:
            _move(transaction, address, revision)
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise storage_error(error.orig, address) from error
        raise


def _move(transaction: "sqlalchemy.Connection", address: Address, revision: str) -> None:
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    transaction.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    there = transaction.exec_driver_sql("SELECT to_regnamespace(%s)", (f'"{address.schema}"',))
    if there.scalar() is None:
        # Not IF NOT EXISTS: that asks for the right to make one also where it is there.
        transaction.exec_driver_sql(f'CREATE SCHEMA "{address.schema}"')
    transaction.exec_driver_sql(f'SET LOCAL search_path = "{address.schema}"')
    raw = transaction.connection.dbapi_connection
    assert isinstance(raw, psycopg.Connection)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes.update(connection=transaction, schema=address.schema)
    steps = (NOTHING, *REVISIONS)
    at, to = steps.index(_version(raw, address) or NOTHING), steps.index(revision)
    if to < at:
        command.downgrade(config, revision)
    elif to > at:
        command.upgrade(config, revision)
    if revision != NOTHING:
        transaction.exec_driver_sql(
            "INSERT INTO store SELECT replace(gen_random_uuid()::text, '-', ''), %s"
            " WHERE NOT EXISTS (SELECT 1 FROM store)",
            (address.cluster,),
        )


def _version(connection: Connection, address: Address) -> str:
    """The revision that the tables have; empty: there are none. Raises FailedPrecondition."""
    row = connection.execute(
        "SELECT to_regclass(%s), (SELECT count(*) FROM pg_class WHERE relnamespace ="
        " to_regnamespace(%s))",
        (f'"{address.schema}".{VERSION_TABLE}', f'"{address.schema}"'),
    ).fetchone()
    table, relations = row or (None, 0)
    if table is None:
        if relations:
            raise FailedPrecondition(
                f"the schema at {address} holds the tables of another program; choose another "
                "`store_schema`",
                reason="NOT_A_STORE",
            )
        return ""
    found = connection.execute(
        sql.SQL("SELECT version_num FROM {}.{}").format(
            sql.Identifier(address.schema), sql.Identifier(VERSION_TABLE)
        )
    ).fetchone()
    if found is None:
        return ""
    if found[0] not in REVISIONS:
        raise FailedPrecondition(
            f"the store at {address} has format {found[0]}, written by a newer version; this one "
            f"reads up to {REVISIONS[-1]}: upgrade, or choose another `store_schema`",
            reason="NEWER_FORMAT",
        )
    return str(found[0])


def _check_cluster(connection: Connection, address: Address) -> None:
    found = connection.execute(
        sql.SQL("SELECT cluster FROM {}.store").format(sql.Identifier(address.schema))
    ).fetchone()
    if found is not None and found[0] != address.cluster:
        raise FailedPrecondition(
            f"the store at {address} is of the cluster {found[0]!r}, and this is a retriever of "
            f"{address.cluster!r}: give each cluster a `store_schema` of its own in this "
            "database, or name the same `store_cluster`",
            reason="STORE_OF_ANOTHER_CLUSTER",
        )


@contextmanager
def _refusing(address: Address) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise storage_error(error, address) from error
