"""Names the client distribution that the server is built with."""

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ClientDependencyHook(MetadataHookInterface):
    """In a checkout the server depends on the client beside it, elsewhere on its release."""

    def update(self, metadata: dict[str, Any]) -> None:
        client = Path(self.root) / "clients" / "python"
        source = f" @ {client.as_uri()}" if client.is_dir() else f"=={metadata['version']}"
        metadata["dependencies"] = [f"sirdar{source}", *self.config["dependencies"]]
