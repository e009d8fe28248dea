"""Where the parts of a snapshot are in its location."""

from dataclasses import dataclass

from services.retriever.store.records import Generation


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one generation of one store."""

    store: str
    generation: Generation

    @property
    def folder(self) -> str:
        return f"{self.store}/{self.generation.key}"

    @property
    def manifests(self) -> str:
        return f"{self.folder}/manifests"

    @property
    def objects(self) -> str:
        return f"{self.folder}/objects"
