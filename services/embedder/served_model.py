"""One model as the embedder serves it: an engine behind a queue of its own."""

from dataclasses import dataclass

from services.embedder.calls import InputType
from services.embedder.spaces import ModelSpaces, OutputSpace, VectorForm
from services.embedder.splitter import PassageSplitter
from services.inference.batcher import Batcher, QueueLimits
from services.inference.cost import calibrate
from services.inference.loading import EngineOptions, LoadedModel, load_model
from services.inference.quantization import Int8Ranges
from services.inference.source import ModelSource
from sirdar.errors import FailedPrecondition, InvalidArgument


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How models are run and served, the same for all of an embedder."""

    engine: EngineOptions
    queue: QueueLimits
    passage_tokens: int
    """The longest passage of a split document; 0: the model's window."""
    passage_overlap_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """A loaded model with what is made once for all its calls."""

    loaded: LoadedModel
    batcher: Batcher
    splitter: PassageSplitter
    spaces: ModelSpaces
    prompts: dict[str, str]
    """By name: the model's own, and always the query's and the documents'."""

    def prompt(self, input_type: InputType, name: str | None) -> str:
        """The text to put in front. Raises InvalidArgument for a name that is unknown."""
        if name is None:
            description = self.loaded.description
            if input_type is InputType.QUERY:
                return description.query_prompt
            if input_type is InputType.DOCUMENT:
                return description.document_prompt
            return description.default_prompt
        prompt = self.prompts.get(name)
        if prompt is None:
            raise InvalidArgument.field(
                "prompt_name",
                f"is {name!r}; the prompts of {self.loaded.source.name} are "
                f"{', '.join(sorted(self.prompts))}",
                reason="UNKNOWN_PROMPT",
            )
        return prompt

    def space(self, form: VectorForm, prompt: str, expected_fingerprint: str) -> OutputSpace:
        """The space of an answer in this form behind a prompt.

        Raises InvalidArgument for dimensions that the model does not have, and
        FailedPrecondition when the caller expects another space.
        """
        space = self.spaces.space(form, prompt)
        if expected_fingerprint and expected_fingerprint != space.fingerprint:
            raise FailedPrecondition(
                f"the vectors would be of space {space.fingerprint}, not of the expected "
                f"{expected_fingerprint}; they must not be compared: serve the model that the "
                "collection was made with, or index it again",
                reason="SPACE_MISMATCH",
                metadata={"fingerprint": space.fingerprint},
            )
        return space

    def close(self) -> None:
        """Frees the model; its batcher has ended before."""
        self.loaded.close()


def load_served_model(source: ModelSource, options: ServingOptions) -> ServedModel:
    """Loads, warms, checks and measures a model; blocks.

    Raises NotFound or FailedPrecondition, with the fix, when it cannot be loaded.
    """
    loaded = load_model(source, options.engine)
    try:
        return _served(loaded, options)
    except BaseException:
        loaded.close()
        raise


def _served(loaded: LoadedModel, options: ServingOptions) -> ServedModel:
    description = loaded.description
    cost = calibrate(
        loaded.engine, pad_token_id=description.pad_token_id, max_tokens=description.max_tokens
    )
    window = description.max_tokens
    plain = (description.default_prompt, description.query_prompt, description.document_prompt)
    return ServedModel(
        loaded,
        Batcher(
            loaded.source.label,
            loaded.engine,
            pad_token_id=description.pad_token_id,
            dimensions=description.dimensions,
            limits=options.queue,
            cost=cost,
        ),
        PassageSplitter(
            loaded.tokenizer,
            prompt=description.document_prompt,
            window_tokens=min(options.passage_tokens or window, window),
            overlap_tokens=options.passage_overlap_tokens,
        ),
        ModelSpaces(
            loaded.fingerprint,
            dimensions=description.dimensions,
            normalized=description.normalized,
            ranges=Int8Ranges.calibrate(loaded.golden.vectors),
            plain_prompts=frozenset(plain),
        ),
        {
            "query": description.query_prompt,
            "document": description.document_prompt,
            **dict(description.prompts),
        },
    )
