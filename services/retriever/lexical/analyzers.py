"""How words are made of text, by language; for documents and queries alike."""

import re
import unicodedata
from functools import cache

import tantivy

NO_LANGUAGE = "none"
LANGUAGES = {
    "ar": "Arabic",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hu": "Hungarian",
    "it": "Italian",
    "nl": "Dutch",
    "no": "Norwegian",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "ta": "Tamil",
    "tr": "Turkish",
}
"""ISO 639-1 codes of the languages whose words are stemmed, with the stemmer's name."""

# Longer runs of letters and digits are no words: encoded data, mostly.
_MAX_WORD_BYTES = 100
# Scripts that are written without spaces: each of their characters is a word. Kana, Han with
# its extensions, Thai, Lao, Burmese and Khmer.
_SPACELESS = re.compile(
    "[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)


def is_language(language: str) -> bool:
    return language == NO_LANGUAGE or language in LANGUAGES


@cache
def analyzer(language: str) -> tantivy.TextAnalyzer:
    """Runs of letters and digits: lower case, stemmed in the language, accents folded.

    Folded last, because the stemmers know the accents of their language.
    """
    steps = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    steps = steps.filter(tantivy.Filter.remove_long(_MAX_WORD_BYTES))
    steps = steps.filter(tantivy.Filter.lowercase())
    if language != NO_LANGUAGE:
        steps = steps.filter(tantivy.Filter.stemmer(LANGUAGES[language]))
    return steps.filter(tantivy.Filter.ascii_fold()).build()


def prepared(text: str) -> str:
    """The text as the analyzer is given it: one way to write each character, and spaces
    around those that are words of their own."""
    if text.isascii():
        return text
    return _SPACELESS.sub(r" \g<0> ", unicodedata.normalize("NFKC", text))
