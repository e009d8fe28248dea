"""What the tiers are told with each call: its id, and whom it is for."""

from contextvars import ContextVar
from urllib.parse import quote

from services.runtime.interceptors import CALLER, REQUEST_ID, request_id

# Metadata has 8 KiB in all; names that differ only after so many characters share.
_TENANT_CHARACTERS = 256
_tenant: ContextVar[str] = ContextVar("tenant", default="")


def call_for(namespace: str) -> None:
    """Tells the tiers whom the calls after this are for: their work is shared fairly between
    tenants, and not between the gateways that they come through."""
    _tenant.set(quote(namespace, safe="")[:_TENANT_CHARACTERS])


def tenant() -> str:
    """Whom the calls are for."""
    return _tenant.get()


def metadata() -> tuple[tuple[str, str], ...]:
    tenant = _tenant.get()
    if tenant:
        return (REQUEST_ID, request_id()), (CALLER, tenant)
    return ((REQUEST_ID, request_id()),)
