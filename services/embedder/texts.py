"""Texts to vectors: checked, let in, tokenized, computed."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.embedder.calls import TextsCall, Truncation
from services.embedder.limits import EmbeddingLimits
from services.embedder.models import Models
from services.embedder.served_model import ServedModel
from services.embedder.spaces import OutputSpace
from services.inference.batch import TokenizedItem
from sirdar.errors import InvalidArgument, SirdarError


@dataclass(frozen=True, slots=True, eq=False)
class TextVectors:
    """What became of the texts of a call."""

    model: ServedModel
    space: OutputSpace
    texts: Sequence[str]
    errors: dict[int, SirdarError]
    """By the index of the text."""
    vectors: list[bytes]
    """Of the texts without errors, in order, as they travel."""
    items: list[TokenizedItem]
    """What the model got of these texts."""


class TextEmbedder:
    """Texts to vectors, by the models that are served."""

    def __init__(self, models: Models, limits: EmbeddingLimits) -> None:
        self._models = models
        self._limits = limits

    async def embed(self, call: TextsCall) -> TextVectors:
        """A vector or an error for each text.

        Raises NotFound for the model, FailedPrecondition for the space,
        InvalidArgument for what is wrong with the call, and ResourceExhausted and
        DeadlineExceeded as the batcher does.
        """
        model = self._models.find(call.model.name, call.model.revision)
        prompt = model.prompt(call.input_type, call.prompt_name)
        space = model.space(call.form, prompt, call.model.expected_fingerprint)
        texts = call.texts
        errors = self._limits.check_texts(texts)
        places = [index for index in range(len(texts)) if index not in errors]
        if errors:
            texts = [texts[index] for index in places]
        tokenizer = model.loaded.tokenizer
        tokens = tokenizer.estimate(texts, prompt)
        # Asked before the texts are tokenized: to refuse is cheap.
        with model.batcher.admit(len(texts), tokens, call.work) as admission:
            items = await tokenizer.encode_off_loop(
                texts, prompt, keep_end=call.truncation is Truncation.START
            )
            refused = _refused(places, items, call.truncation, tokenizer.max_tokens)
            if refused:
                errors.update(refused)
                fit = [row for row, index in enumerate(places) if index not in refused]
                places, items = [places[row] for row in fit], [items[row] for row in fit]
            result = await admission.run(items)
        vectors = space.encode(result.rows)
        if result.failures:
            errors.update((places[row], error) for row, error in result.failures.items())
            vectors = [data for row, data in enumerate(vectors) if row not in result.failures]
            items = [item for row, item in enumerate(items) if row not in result.failures]
        return TextVectors(model, space, call.texts, errors, vectors, items)


def _refused(
    places: Sequence[int], items: Sequence[TokenizedItem], truncation: Truncation, window: int
) -> dict[int, SirdarError]:
    """Errors of what the model cannot take or the caller does not want cut."""
    refused: dict[int, SirdarError] = {}
    for index, item in zip(places, items, strict=True):
        if item.truncated and truncation is Truncation.REFUSE:
            refused[index] = InvalidArgument.field(
                f"texts[{index}]",
                f"is longer than the model's window of {window} tokens; cut it, let it be cut "
                "(truncation END or START), or embed it as a document",
                reason="TEXT_TOO_LONG",
            )
        elif not item.tokens:
            refused[index] = InvalidArgument.field(
                f"texts[{index}]", "has no tokens for this model, which has no vector for nothing"
            )
    return refused
