"""The embedder on a GPU, beside sentence-transformers in fp16 there, in one run.

    make bench-gpu

Of the engine, in fp16 and in bf16, of short queries and of texts that fill the model's window:
tokens a second without tokenizing; the share of the time that the GPU was busy, as NVML tells it;
the model's arithmetic over what a product of matrices reaches; and texts a second, tokenizing
counted, over `SentenceTransformer.encode` in fp16, in the better of two batch sizes. Of a server,
in fp16: texts a second at 32 a message and at one, and a short query alone. The last line is JSON.
"""

import argparse
import importlib.util
import os
import sys

# Read at the first text: sentence-transformers tokenizes in all threads where it may.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import torch

from benchmarks.embedder.texts import load_texts
from benchmarks.gpu import engine, server
from benchmarks.gpu.scale import SHORT, Scale
from benchmarks.harness.command import Figures, cpu_model, last_line
from services.embedder.settings import EmbedderSettings
from services.inference.engine import Precision
from services.inference.source import ModelSource, model_folder
from services.runtime.cpu import available_cpus

_PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench-gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="one short turn: to see that it runs")
    scale = SHORT if parser.parse_args().short else Scale()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU that torch can use: run this where there is one")
    if importlib.util.find_spec("pynvml") is None:
        sys.exit("what tells how busy the GPU is, is not installed; run: pip install nvidia-ml-py")
    settings = EmbedderSettings()
    folder = model_folder(ModelSource(settings.model, settings.model_revision))
    texts = load_texts()
    figures: Figures = {}
    for precision in _PRECISIONS:
        figures |= engine.measure(folder, precision, texts, scale)
    figures |= server.measure(texts, scale)
    about: dict[str, str | int] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": str(torch.__version__),
        "cpu": cpu_model(),
        "cores": available_cpus(),
    }
    print(last_line(figures, about))


if __name__ == "__main__":
    main()
