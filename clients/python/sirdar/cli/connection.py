"""Where the command line's gateway is."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sirdar.client import AsyncClient, Client
    from sirdar.client.cluster import ClusterClient
    from sirdar.errors import SirdarError

DEFAULT_ADDRESS = "127.0.0.1:7700"

# gRPC's words for it, by version.
_UNRESOLVED = re.compile("errors resolving|DNS resolution failed|lookup error")


@dataclass(frozen=True, slots=True)
class Connection:
    """The global options of the command."""

    address: str
    namespace: str
    timeout_seconds: float
    # PEM files; without `ca_file` there is no TLS.
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def open(self, address: str | None = None) -> "Client":
        """A client of the gateway, or of another tier's address."""
        from sirdar.client import Client, Tls

        tls = Tls(self.ca_file, self.certificate_file, self.key_file) if self.ca_file else None
        return Client(
            address or self.address,
            namespace=self.namespace,
            timeout_seconds=self.timeout_seconds,
            tls=tls,
        )

    def open_async(self) -> "AsyncClient":
        """A client of the gateway for asyncio."""
        from sirdar.client import AsyncClient, Tls

        tls = Tls(self.ca_file, self.certificate_file, self.key_file) if self.ca_file else None
        return AsyncClient(
            self.address,
            namespace=self.namespace,
            timeout_seconds=self.timeout_seconds,
            tls=tls,
        )

    def open_cluster(self) -> "ClusterClient":
        """A client for those who run a cluster."""
        from sirdar.client import Tls
        from sirdar.client.cluster import ClusterClient

        tls = Tls(self.ca_file, self.certificate_file, self.key_file) if self.ca_file else None
        return ClusterClient(self.address, timeout_seconds=self.timeout_seconds, tls=tls)

    def explain(self, error: "SirdarError") -> str:
        """The error as one sentence with the fix."""
        from sirdar.client.channel import never_sent
        from sirdar.errors import DeadlineExceeded, Unavailable

        if never_sent(error):
            return (
                f"no Sirdar answers at {self.address}: start one with `sirdar up`, "
                "or name another with --address"
            )
        if isinstance(error, Unavailable) and _UNRESOLVED.search(error.message):
            return f"the name in {self.address} cannot be resolved: correct --address"
        if isinstance(error, DeadlineExceeded) and error.message.startswith("Deadline"):
            return f"no answer within {self.timeout_seconds:g} s: allow more with --timeout"
        return error.message
