"""Tiny random models of the shapes of five well-known ones, each with its kind of tokenizer."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    Pooling,
    Transformer,
)
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import (
    BertConfig,
    BertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from services.inference.description import SimilarityName
from services.inference.golden import golden_texts

MAX_TOKENS = 48
_WIDTH = 32
_ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
_BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SIZES: dict[str, Any] = {
    "hidden_size": _WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    # As wide as this the vectors of different texts differ.
    "initializer_range": 0.2,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's parts, in the order of the pipeline."""

    tokenizer: Callable[[], PreTrainedTokenizerFast]
    encoder: Callable[[int], torch.nn.Module]
    """Takes the size of the vocabulary."""
    pooling: str
    dense: bool = False
    normalize: bool = True
    similarity: SimilarityName = "cosine"


def save_shape(shape: Shape, folder: Path) -> Path:
    """Writes the model as sentence-transformers does; the folder that it is in."""
    torch.manual_seed(5)
    tokenizer = shape.tokenizer()
    source = folder / "transformer"
    tokenizer.save_pretrained(source)
    shape.encoder(len(tokenizer)).save_pretrained(source)  # type: ignore[operator]
    modules: list[torch.nn.Module] = [
        Transformer(str(source), max_seq_length=MAX_TOKENS),
        Pooling(_WIDTH, pooling_mode=shape.pooling),
    ]
    if shape.dense:
        modules.append(Dense(_WIDTH, _WIDTH, activation_function=torch.nn.Tanh()))
    if shape.normalize:
        modules.append(Normalize())
    model = SentenceTransformer(modules=modules, device="cpu", similarity_fn_name=shape.similarity)
    model.save_pretrained(str(folder / "model"))
    return folder / "model"


def _wordpiece() -> PreTrainedTokenizerFast:
    """As BERT's: [CLS] text [SEP], types of tokens, the padding is token 0."""
    tokenizer = _bert_pieces(_BERT_SPECIALS, "[UNK]")
    return _wrapped(tokenizer, ("[CLS]", "[SEP]", "[PAD]", "[UNK]"), types=True)


def _wordpiece_of_mpnet() -> PreTrainedTokenizerFast:
    """As MPNet's: BERT's pieces between RoBERTa's marks; the padding is token 1."""
    tokenizer = _bert_pieces(_ROBERTA_SPECIALS, "<unk>")
    return _wrapped(tokenizer, ("<s>", "</s>", "<pad>", "<unk>"), types=False)


def _bert_pieces(specials: list[str], unknown: str) -> Tokenizer:
    """Letters and frequent words. The library's trainer gives other pieces in every process."""
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in golden_texts():
        split = splitter.pre_tokenize_str(normalizer.normalize_str(text))
        words.update(word for word, _ in split)
    letters = sorted({letter for word in words for letter in word})
    frequent = sorted(words, key=lambda word: (-words[word], word))[:200]
    pieces = [*specials, *letters, *(f"##{letter}" for letter in letters), *frequent]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _byte_pairs() -> PreTrainedTokenizerFast:
    """As RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=600,
        special_tokens=_ROBERTA_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(golden_texts(), trainer)
    return _wrapped(tokenizer, ("<s>", "</s>", "<pad>", "<unk>"), types=False)


def _unigram() -> PreTrainedTokenizerFast:
    """As XLM-RoBERTa's, which comes from SentencePiece."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("  ", " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = UnigramTrainer(
        vocab_size=900,
        special_tokens=_ROBERTA_SPECIALS,
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(golden_texts(), trainer)
    return _wrapped(tokenizer, ("<s>", "</s>", "<pad>", "<unk>"), types=False)


def _wrapped(
    tokenizer: Tokenizer, marks: tuple[str, str, str, str], *, types: bool
) -> PreTrainedTokenizerFast:
    start, end, pad, unknown = marks
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in (start, end)],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"] if types else None
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        cls_token=start,
        sep_token=end,
        pad_token=pad,
        unk_token=unknown,
        model_max_length=MAX_TOKENS,
        model_input_names=names or ["input_ids", "attention_mask"],
    )


def _bert(vocabulary: int) -> BertModel:
    return BertModel(BertConfig(vocab_size=vocabulary, max_position_embeddings=64, **_SIZES))


def _bert_padded_by_one(vocabulary: int) -> BertModel:
    return BertModel(
        BertConfig(vocab_size=vocabulary, max_position_embeddings=64, pad_token_id=1, **_SIZES)
    )


def _mpnet(vocabulary: int) -> MPNetModel:
    return MPNetModel(MPNetConfig(vocab_size=vocabulary, max_position_embeddings=64, **_SIZES))


def _roberta(vocabulary: int) -> RobertaModel:
    return RobertaModel(
        RobertaConfig(
            vocab_size=vocabulary, max_position_embeddings=64, type_vocab_size=1, **_SIZES
        )
    )


SHAPES: dict[str, Shape] = {
    "all-MiniLM": Shape(_wordpiece, _bert, "mean"),
    "all-mpnet": Shape(_wordpiece_of_mpnet, _mpnet, "mean"),
    "multi-qa-mpnet-dot": Shape(
        _wordpiece_of_mpnet, _mpnet, "cls", normalize=False, similarity="dot"
    ),
    "all-distilroberta": Shape(_byte_pairs, _roberta, "mean"),
    "LaBSE": Shape(_wordpiece, _bert, "cls", dense=True),
    "multilingual-MiniLM": Shape(_unigram, _bert_padded_by_one, "mean", normalize=False),
}
