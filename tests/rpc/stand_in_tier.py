"""A tier without content: what `sirdar up` is tested with. Run with `python -m`.

Which tier it stands for follows from the one port that it is given. Its model
setting tells it to misbehave.
"""

import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.runtime.server import TierServer, run
from services.runtime.settings import ServerSettings, load_settings, server_config

NAME = next(
    (
        name
        for name in ("gateway", "embedder", "retriever", "reranker")
        if f"SIRDAR_{name.upper()}_PORT" in os.environ
    ),
    "gateway",
)


class StandInSettings(ServerSettings):
    model_config = server_config(NAME)

    model: str = ""
    data_folder: str = ""
    follow: str = ""
    http_port: int = 0
    embedder_address: str = ""
    reranker_address: str = ""
    retriever_addresses: tuple[str, ...] = ()


@asynccontextmanager
async def wire(settings: StandInSettings, server: TierServer) -> AsyncIterator[None]:
    yield


def main() -> None:
    settings = load_settings(StandInSettings)
    if settings.model == "broken":
        sys.exit("there is no model called broken")
    if settings.model == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)
    run(NAME, StandInSettings, wire)


if __name__ == "__main__":
    main()
