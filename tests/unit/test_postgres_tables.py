"""A store in PostgreSQL is opened, brought up and down, or refused with what to do."""

from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from services.retriever.store.postgres import migrations
from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.store import PostgresStore
from services.retriever.store.postgres.tables import NOTHING, REVISIONS, move
from sirdar.errors import FailedPrecondition, InvalidArgument, SirdarError, Unavailable
from tests.postgres_server import PASSWORD, PostgresServer
from tests.retriever_data import Log, definition, document, write


def opened(address: Address) -> PostgresStore:
    return PostgresStore(address, Log(), max_waiting_bytes=2**24)


def refused(address: Address) -> SirdarError:
    with pytest.raises(SirdarError) as refusal:
        opened(address)
    assert PASSWORD not in str(refusal.value)
    return refusal.value


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def tables(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'sirdar'::regnamespace"
            " AND relkind IN ('r', 'S') ORDER BY relname"
        ).fetchall()
    return [name for (name,) in rows]


def test_the_revisions_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(item.revision for item in reversed(list(scripts.walk_revisions()))) == REVISIONS


def test_a_step_down_and_up_again_keeps_what_was_written(postgres_url: str) -> None:
    store = opened(Address(postgres_url))
    collection = store.create_collection(definition("books")).result()
    write(store, collection, document("d", "the text", 2))
    before = store.embedded_document(collection.generation, "d")
    store.close()
    move(Address(postgres_url), REVISIONS[0])
    assert "writer" not in tables(postgres_url)
    again = opened(Address(postgres_url))
    assert "writer" in tables(postgres_url)
    assert again.embedded_document(collection.generation, "d") == before
    (receipt,) = write(again, collection, document("d", "newer"))
    assert receipt.version == 2
    again.close()


def test_without_members_a_store_keeps_what_was_written(postgres_url: str) -> None:
    address = Address(postgres_url)
    store = opened(address)
    collection = store.create_collection(definition("books")).result()
    write(store, collection, document("d"))
    assert store.register("one", 2).result().active == ("one",)
    store.close()
    move(address, "0002")
    assert not {"member", "replica"} & set(tables(postgres_url))
    again = opened(address)
    assert again.membership().members == ()
    assert again.document(collection.generation, "d").id == "d"
    assert again.register("two", 3).result().replication == 3
    again.close()


def test_the_way_down_ends_with_nothing_and_begins_anew(postgres_url: str) -> None:
    store = opened(Address(postgres_url))
    store.create_collection(definition("books")).result()
    identity = store.identity()
    store.close()
    move(Address(postgres_url), NOTHING)
    assert tables(postgres_url) == ["sirdar_version"]
    again = opened(Address(postgres_url))
    assert again.all_collections() == []
    assert again.identity() != identity
    again.close()
    with pytest.raises(InvalidArgument, match="0001"):
        move(Address(postgres_url), "7")


def test_a_store_of_a_newer_schema_is_refused_and_left_alone(postgres_url: str) -> None:
    opened(Address(postgres_url)).close()
    run(postgres_url, "UPDATE sirdar.sirdar_version SET version_num = '0999'")
    error = refused(Address(postgres_url))
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "NEWER_FORMAT"
    with pytest.raises(FailedPrecondition, match="upgrade"):
        move(Address(postgres_url), REVISIONS[0])
    assert "writer" in tables(postgres_url)


def test_two_clusters_in_one_database_need_a_schema_each(postgres_url: str) -> None:
    first = opened(Address(postgres_url, cluster="first"))
    error = refused(Address(postgres_url, cluster="second"))
    assert error.reason == "STORE_OF_ANOTHER_CLUSTER"
    assert "store_schema" in error.message
    second = opened(Address(postgres_url, schema="second", cluster="second"))
    first.create_collection(definition("books")).result()
    assert second.all_collections() == []
    first.close()
    second.close()


def test_the_tables_of_another_program_are_not_touched(postgres_url: str) -> None:
    run(postgres_url, "CREATE TABLE public.document (words TEXT)")
    assert refused(Address(postgres_url, schema="public")).reason == "NOT_A_STORE"


def test_wrong_credentials_are_told_from_a_server_that_is_not_there(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    for url in (
        postgres_server.url(name, password="wrong"),
        postgres_server.url(name, user="nobody"),
    ):
        error = refused(Address(url))
        assert isinstance(error, FailedPrecondition)
        assert error.reason == "STORE_CREDENTIALS"
    gone = refused(Address(postgres_url.replace(str(postgres_server.port), "1")))
    assert isinstance(gone, Unavailable)
    assert gone.reason == "STORE_UNREACHABLE"
    assert gone.retry_after is not None


def test_a_database_or_an_address_that_is_none_is_named(postgres_server: PostgresServer) -> None:
    missing = refused(Address(postgres_server.url("missing")))
    assert (missing.reason, "missing" in missing.message) == ("STORE_DATABASE_MISSING", True)
    assert refused(Address("postgresql://[")).reason == "BAD_STORE_ADDRESS"


def test_commits_that_would_not_be_durable_are_refused(postgres_url: str) -> None:
    opened(Address(postgres_url)).close()
    name = postgres_url.rpartition("/")[2]
    run(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    error = refused(Address(postgres_url))
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "STORE_NOT_DURABLE"


def test_a_user_who_may_not_make_the_schema_is_told(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    run(postgres_url, "CREATE ROLE reader LOGIN PASSWORD 'not-a-secret'")
    try:
        error = refused(Address(postgres_server.url(name, user="reader")))
        assert error.reason == "STORE_PRIVILEGES"
    finally:
        run(postgres_url, "DROP ROLE reader")


def test_a_user_who_owns_only_the_schema_is_enough(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    run(postgres_url, "CREATE ROLE owner LOGIN PASSWORD 'not-a-secret'")
    run(postgres_url, "CREATE SCHEMA sirdar AUTHORIZATION owner")
    store = opened(Address(postgres_server.url(name, user="owner")))
    assert store.past()
    assert store.opening()
    store.close()
    run(postgres_url, "DROP SCHEMA sirdar CASCADE")
    run(postgres_url, "DROP ROLE owner")
