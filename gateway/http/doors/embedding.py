"""Texts to vectors for the doors."""

import math
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.backends import Embedder
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument, NotFound, SirdarError, from_status
from sirdar.v1 import common_pb2, embedder_pb2

# The embedder takes this many texts a message by default.
MAX_TEXTS = 2_048


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """A text's vector: little-endian float32 bytes."""

    data: bytes
    tokens: int
    truncated: bool

    def components(self) -> list[float]:
        values = array("f", self.data)
        if sys.byteorder == "big":
            values.byteswap()
        return values.tolist()

    def unit(self) -> list[float]:
        """The components at length 1."""
        values = self.components()
        length = math.hypot(*values)
        if length == 0 or abs(length - 1) < 1e-4:
            return values
        return [value / length for value in values]


class TextEmbedder:
    def __init__(self, embedder: Embedder, settings: GatewaySettings) -> None:
        self._embedder = embedder
        self._limit_seconds = settings.index_timeout_seconds

    async def models(self) -> list[common_pb2.ModelInfo]:
        return await self._embedder.models(self._limit_seconds)

    async def model(self, name: str) -> common_pb2.ModelInfo:
        """The served model of this name; empty: the default one.

        Raises NotFound: vectors of another model than asked for would be
        worse than none.
        """
        models = await self.models()
        for model in models:
            if model.model.name == name or (not name and model.is_default):
                return model
        served = ", ".join(repr(model.model.name) for model in models)
        raise NotFound(
            f"no embedder serves the model {name!r}; served: {served}",
            reason="MODEL_NOT_FOUND",
            metadata={"model": name},
        )

    async def embed(
        self,
        texts: Sequence[str],
        model: common_pb2.ModelInfo,
        *,
        queries: bool = False,
        field: str = "input",
    ) -> list[EmbeddedText]:
        """A vector a text, in order; `field` is where the caller has the texts. Raises the error
        of the first text that has one."""
        if not 1 <= len(texts) <= MAX_TEXTS:
            raise InvalidArgument.field(field, f"has {len(texts)} texts; 1 to {MAX_TEXTS} go")
        kind = embedder_pb2.INPUT_TYPE_QUERY if queries else embedder_pb2.INPUT_TYPE_DOCUMENT
        embeddings = await self._embedder.embed_texts(texts, model.model, kind, self._limit_seconds)
        return [
            _embedded(embedding, f"{field}[{place}]" if len(texts) > 1 else field)
            for place, embedding in enumerate(embeddings)
        ]


def _embedded(embedding: embedder_pb2.TextEmbedding, field: str) -> EmbeddedText:
    if embedding.HasField("error"):
        raise _of_input(from_status(embedding.error), field)
    return EmbeddedText(embedding.vector.data, embedding.tokens, embedding.truncated)


def _of_input(error: SirdarError, field: str) -> SirdarError:
    """The error of one text, by its place in the caller's input."""
    if not isinstance(error, InvalidArgument):
        return error
    description = error.fields[0].description if error.fields else error.message
    return InvalidArgument.field(field, description, reason=error.reason)
