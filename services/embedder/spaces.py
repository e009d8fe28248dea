"""The spaces that one model's vectors can be answered in."""

import enum
import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.inference.engine import normalize
from services.inference.quantization import Int8Ranges, pack_signs
from sirdar.errors import InvalidArgument


class VectorDtype(enum.Enum):
    """How components are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class VectorForm:
    """What a caller asks of vectors."""

    dtype: VectorDtype = VectorDtype.FLOAT32
    dimensions: int | None = None
    """Only the first so many; None: all."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class OutputSpace:
    """One form of a model's vectors, and how they are brought into it."""

    dtype: VectorDtype
    dimensions: int
    fingerprint: str
    cut: bool
    """Fewer dimensions than the model has."""
    normalized: bool
    ranges: Int8Ranges | None
    """Set for int8."""

    def encode(self, rows: NDArray[np.float32]) -> list[bytes]:
        """The model's rows, [n, all its dimensions], as they travel: little-endian components."""
        if self.cut:
            rows = rows[:, : self.dimensions]
            rows = normalize(rows) if self.normalized else np.ascontiguousarray(rows)
        if self.dtype is VectorDtype.FLOAT32:
            values: NDArray[np.generic] = rows.astype("<f4", copy=False)
        elif self.dtype is VectorDtype.FLOAT16:
            values = rows.astype("<f2")
        elif self.ranges is not None:
            values = self.ranges.quantize(rows)
        else:
            values = pack_signs(rows)
        # One copy for all rows: a slice of it takes a third of the time of a row's tobytes().
        data = values.tobytes()
        size = len(data) // max(1, len(values))
        return [data[start : start + size] for start in range(0, len(data), size or 1)]


class ModelSpaces:
    """The forms of one model's vectors, made when they are first asked for."""

    def __init__(
        self,
        fingerprint: str,
        *,
        dimensions: int,
        normalized: bool,
        ranges: Int8Ranges,
        plain_prompts: frozenset[str],
    ) -> None:
        """`fingerprint` is that of all dimensions as float32.

        `plain_prompts` are the texts of the prompts that share it: the query's,
        the documents' and the one for neither.
        """
        self.ranges = ranges
        self._fingerprint = fingerprint
        self._dimensions = dimensions
        self._normalized = normalized
        self._plain_prompts = plain_prompts
        self._known: dict[tuple[VectorForm, str], OutputSpace] = {}
        self.plain = self.space(VectorForm(), next(iter(plain_prompts)))

    def space(self, form: VectorForm, prompt: str) -> OutputSpace:
        """The space of vectors in this form behind a prompt, given by its text.

        Raises InvalidArgument for dimensions that the model does not have.
        """
        known = self._known.get((form, prompt))
        if known is None:
            # As many as a model has prompts, dtypes and dimensions.
            known = self._known[form, prompt] = self._make(form, prompt)
        return known

    def _make(self, form: VectorForm, prompt: str) -> OutputSpace:
        dimensions = self._dimensions if form.dimensions is None else form.dimensions
        if not 1 <= dimensions <= self._dimensions:
            raise InvalidArgument.field(
                "dimensions",
                f"is {dimensions}; ask for 1 to {self._dimensions}, or leave it unset for all",
            )
        cut = dimensions < self._dimensions
        ranges = None
        if form.dtype is VectorDtype.INT8:
            ranges = self.ranges.cut(dimensions, normalized=self._normalized)
        return OutputSpace(
            form.dtype,
            dimensions,
            self._derived(form.dtype, dimensions if cut else None, prompt),
            cut=cut,
            normalized=self._normalized,
            ranges=ranges,
        )

    def _derived(self, dtype: VectorDtype, cut_to: int | None, prompt: str) -> str:
        """The model's own fingerprint, or 32 hex digits of a hash over it and what differs."""
        differences: dict[str, object] = {}
        if cut_to is not None:
            differences["dimensions"] = cut_to
        if dtype is VectorDtype.INT8:
            differences["int8"] = self.ranges.digest()
        elif dtype is VectorDtype.BINARY:
            differences["binary"] = True
        if prompt not in self._plain_prompts:
            differences["prompt"] = prompt
        if not differences:
            return self._fingerprint
        parts = json.dumps([self._fingerprint, differences], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()[:32]
