"""Hears that something was committed."""

import os
from collections.abc import Callable
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from threading import Thread

import psycopg
import structlog
from prometheus_client import Gauge
from psycopg import sql

from services.retriever.store.postgres.address import Address
from services.retriever.store.postgres.connection import Connection, connect
from sirdar.errors import SirdarError

UP = Gauge("sirdar_retriever_store_up", "1 while PostgreSQL answers.", ["store"])

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# What a message that was lost costs those who follow.
_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 0.5


class Listener:
    """Calls `heard` for each message, when it connects anew, and at an interval anyway; from a
    thread of its own."""

    def __init__(self, address: Address, heard: Callable[[], None]) -> None:
        self._address = address
        self._heard = heard
        self._up = UP.labels(str(address))
        self._closing = False
        self._woken, self._wake = os.pipe()
        self._thread = Thread(target=self._run, name="store-listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        os.write(self._wake, b".")
        self._thread.join()
        os.close(self._wake)
        os.close(self._woken)

    def _run(self) -> None:
        while not self._closing:
            try:
                connection = connect(self._address)
            except SirdarError as error:
                self._up.set(0)
                log.warning("the store cannot be listened to", error=error.message)
                self._heard()
                self._wait(None, _PAUSE_SECONDS)
                continue
            with suppress(psycopg.Error), connection:
                connection.execute(
                    sql.SQL("LISTEN {}").format(sql.Identifier(self._address.channel))
                )
                self._up.set(1)
                self._heard()
                self._listen(connection)
            self._up.set(0)

    def _listen(self, connection: Connection) -> None:
        """Raises psycopg.Error when the connection is lost."""
        while not self._closing:
            self._wait(connection, _LOOK_SECONDS)
            connection.pgconn.consume_input()
            while connection.pgconn.notifies() is not None:
                pass
            self._heard()

    def _wait(self, connection: Connection | None, seconds: float) -> None:
        with DefaultSelector() as selector:
            selector.register(self._woken, EVENT_READ)
            if connection is not None:
                selector.register(connection.fileno(), EVENT_READ)
            selector.select(seconds)
