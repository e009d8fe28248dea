"""Padded rows that are made where they are computed. Imports torch."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from services.inference.batch import TokenizedItem
from services.inference.description import Description

Shape = tuple[int, int]
"""Rows and width."""


class DeviceRows:
    """A module that is fed tokens one behind the other.

    The host is what a GPU waits for: to pad 500 items of 64 tokens took it 5 ms, to compute them
    takes the GPU 3. So it only puts their tokens together.
    """

    def __init__(self, module: torch.nn.Module, description: Description) -> None:
        self._module = module
        self._inputs = description.inputs
        self._pad_token_id = description.pad_token_id
        self._normalized = description.normalized

    def numbers(self, shape: Shape) -> int:
        """How many int64 a batch of a shape is put into."""
        rows, width = shape
        return 2 * rows + 2 * rows * width

    def put(self, items: Sequence[TokenizedItem], shape: Shape, out: NDArray[np.int64]) -> None:
        """Writes lengths and starts of all rows, then token ids, then type ids, into [numbers].

        There may be fewer items than rows, and none may be longer than the width.
        """
        rows, width = shape
        count = len(items)
        lengths, starts = out[:rows], out[rows : 2 * rows]
        # Rows without an item have the first token of the first one.
        lengths[:] = 1
        starts[:] = 0
        lengths[:count] = [len(item.token_ids) for item in items]
        np.cumsum(lengths[: count - 1], out=starts[1:count])
        end = starts[count - 1] + lengths[count - 1]
        ids, types = out[2 * rows :].reshape(2, rows * width)
        np.concatenate([item.token_ids for item in items], out=ids[:end])
        if "token_type_ids" in self._inputs:
            np.concatenate([item.type_ids for item in items], out=types[:end])

    def compute(self, there: torch.Tensor, shape: Shape) -> torch.Tensor:
        """The module's output for what was put, float32 [rows, dimensions], on its device.

        Nothing in it waits for the device.
        """
        rows, width = shape
        lengths, starts = there[:rows, None], there[rows : 2 * rows, None]
        ids, types = there[2 * rows :].view(2, rows * width)
        within = torch.arange(width, device=there.device)
        mask = within < lengths
        places = torch.where(mask, starts + within, 0)
        feed = {
            "input_ids": torch.where(mask, ids[places], self._pad_token_id),
            "attention_mask": mask.to(torch.int64),
            "token_type_ids": torch.where(mask, types[places], 0),
        }
        output = self._module(**{name: feed[name] for name in self._inputs}).float()
        return torch.nn.functional.normalize(output, dim=1) if self._normalized else output
