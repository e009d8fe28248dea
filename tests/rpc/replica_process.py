"""A retriever that may be killed: run with `python -m`, the port as its argument."""

import asyncio
import sys

from services.runtime.server import serve
from services.runtime.settings import ServerSettings
from tests.rpc.failing_tiers import FailingRetriever, retriever_wire


async def main(port: int) -> None:
    wire = retriever_wire(FailingRetriever(delay_seconds=0.002))
    async with serve("retriever", ServerSettings(port=port, log_level="error"), wire):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
