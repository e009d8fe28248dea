"""What an orchestrator asks: does the process live, and may it be sent requests."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from fastapi import APIRouter, Request, Response

from gateway.http.answers import json_answer
from gateway.http.operations import Operation, Operations
from services.runtime.server import TierServer

_LIMIT_SECONDS = 2.0


class Tier(Protocol):
    @property
    def name(self) -> str: ...
    async def serving(self, limit_seconds: float) -> bool: ...


def probes_router(
    server: TierServer, needed: Sequence[Tier], optional: Sequence[Tier], operations: Operations
) -> APIRouter:
    """`needed` tiers decide readiness; without an `optional` one answers are degraded only."""
    router = APIRouter(tags=["Health"])

    @router.get("/healthz", openapi_extra=_operation(operations, "alive"))
    async def alive(request: Request) -> Response:
        """The process lives. 200 also while it drains: it must not be killed for that."""
        return json_answer({"status": "alive"}, 200)

    @router.get("/readyz", openapi_extra=_operation(operations, "ready"))
    async def ready(request: Request) -> Response:
        """The gateway and the tiers that it needs are SERVING; 503 otherwise, and who is not."""
        tiers = [*needed, *optional]
        serving = await asyncio.gather(*(tier.serving(_LIMIT_SECONDS) for tier in tiers))
        states = {
            tier.name: "SERVING" if up else "NOT_SERVING"
            for tier, up in zip(tiers, serving, strict=True)
        }
        ready = server.serving and all(serving[: len(needed)])
        states["gateway"] = "SERVING" if server.serving else "NOT_SERVING"
        status = "ready" if ready else "not ready"
        return json_answer({"status": status, "tiers": states}, 200 if ready else 503)

    return router


def _operation(operations: Operations, status: str) -> Operation:
    answer = {
        "type": "object",
        "properties": {
            "status": {"type": "string"},
            "tiers": {
                "type": "object",
                "additionalProperties": {"enum": ["SERVING", "NOT_SERVING"]},
            },
        },
    }
    return operations.describe("", answer=answer, answer_example={"status": status})
