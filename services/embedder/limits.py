"""What is too much, or not allowed, in one message."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.embedder.calls import SourceDocument
from sirdar.errors import InvalidArgument, SirdarError


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """The most that one message may hold."""

    texts: int
    text_characters: int
    documents: int
    document_bytes: int

    def check_texts(self, texts: Sequence[str]) -> dict[int, SirdarError]:
        """Which texts cannot be embedded and why, by their index.

        Raises InvalidArgument for no or too many texts.
        """
        _check_count("texts", len(texts), self.texts)
        errors: dict[int, SirdarError] = {}
        for index, text in enumerate(texts):
            if len(text) > self.text_characters:
                errors[index] = InvalidArgument.field(
                    f"texts[{index}]",
                    f"has {len(text)} characters, the limit is {self.text_characters}; "
                    "embed long texts as documents",
                )
            elif "\0" in text:
                errors[index] = InvalidArgument.field(f"texts[{index}]", "must not contain NUL")
        return errors

    def check_documents(self, documents: Sequence[SourceDocument]) -> dict[int, SirdarError]:
        """As `check_texts`, for documents."""
        _check_count("documents", len(documents), self.documents)
        errors: dict[int, SirdarError] = {}
        for index, document in enumerate(documents):
            error = self._document_error(f"documents[{index}]", document)
            if error is not None:
                errors[index] = error
        return errors

    def _document_error(self, field: str, document: SourceDocument) -> SirdarError | None:
        if not document.text or document.text.isspace():
            return InvalidArgument.field(f"{field}.text", "must not be empty", reason="EMPTY")
        size = _utf8_bytes(document.title) + _utf8_bytes(document.text)
        if size > self.document_bytes:
            return InvalidArgument.field(
                field,
                f"has {size} bytes, the limit is {self.document_bytes}; "
                "cut it into several documents",
            )
        for name, value in (("title", document.title), ("text", document.text)):
            if "\0" in value:
                return InvalidArgument.field(f"{field}.{name}", "must not contain NUL")
        return None


def _utf8_bytes(text: str) -> int:
    # Asked in constant time; other text has to be encoded, 1 ms a megabyte.
    return len(text) if text.isascii() else len(text.encode())


def _check_count(field: str, count: int, limit: int) -> None:
    if count == 0:
        raise InvalidArgument.field(field, "must not be empty", reason="EMPTY")
    if count > limit:
        raise InvalidArgument.field(field, f"has {count} items, the limit is {limit} a message")
