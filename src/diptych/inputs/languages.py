"""Warn about texts in a language that the model does not know.

A model trained on English captions returns an embedding for any text, but it is meaningless for other
languages. The language is detected from the script, and for Latin letters from words that English does not
have. Detection is cautious: English, names, single words and texts with little evidence cause no warning. The
languages of a model come from its description; without one, CLIP's own vocabulary means English, and a
vocabulary of 100,000 tokens or more means many languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from diptych.inputs.long_texts import counted_long_texts
from diptych.inputs.stop_words import ENGLISH, NAMES, STOP_WORDS
from diptych.inputs.tokenizer import Tokenizer

MANY = "mul"  # ISO 639-2 code for multiple languages
# English vocabularies have 32,000 to 50,000 tokens, multilingual ones 250,000 and more.
LARGE_TABLE = 100_000
ENOUGH = 2.0  # minimum total weight of stop words to detect a language
SAMPLE = 6  # letters encoded to test whether a vocabulary covers a script
# First word of a letter's Unicode name -> name of the script, languages written in it, and the minimum number
# of letters to detect it (more for Greek, whose letters are also used as symbols).
_SCRIPTS = {
    "CYRILLIC": ("Cyrillic", "ru uk bg sr mk be kk ky mn tg", 2),
    "GREEK": ("Greek", "el", 4),
    "ARABIC": ("Arabic", "ar fa ur ps ku sd ug", 2),
    "HEBREW": ("Hebrew", "he yi", 2),
    "DEVANAGARI": ("Devanagari", "hi mr ne sa", 2),
    "BENGALI": ("Bengali", "bn as", 2),
    "GURMUKHI": ("Gurmukhi", "pa", 2),
    "GUJARATI": ("Gujarati", "gu", 2),
    "TAMIL": ("Tamil", "ta", 2),
    "TELUGU": ("Telugu", "te", 2),
    "KANNADA": ("Kannada", "kn", 2),
    "MALAYALAM": ("Malayalam", "ml", 2),
    "SINHALA": ("Sinhala", "si", 2),
    "THAI": ("Thai", "th", 2),
    "LAO": ("Lao", "lo", 2),
    "KHMER": ("Khmer", "km", 2),
    "MYANMAR": ("Burmese", "my", 2),
    "GEORGIAN": ("Georgian", "ka", 2),
    "ARMENIAN": ("Armenian", "hy", 2),
    "ETHIOPIC": ("Ethiopic", "am ti", 2),
    "HANGUL": ("Korean", "ko", 1),
    "HIRAGANA": ("Japanese", "ja", 1),
    "KATAKANA": ("Japanese", "ja", 1),
    "CJK": ("Chinese or Japanese", "zh ja", 1),
}
_WORD = re.compile(r"[^\W\d_]+")
_WAY_OUT = (
    "say it in English, or load a multilingual model, such as ViT-B-16-SigLIP2 (webli) or "
    "xlm-roberta-base-ViT-B-32 (laion5b_s13b_b90k)"
)


def language_mismatch(text: str, tokenizer: Tokenizer, languages: Sequence[str] = ()) -> str | None:
    """Explain why a model will not understand the language of a text; None if no mismatch is detected.

    Parameters
    ----------
    text : str
        As typed by the user.
    tokenizer : Tokenizer
        The tokenizer of the model.
    languages : sequence of str
        Codes of the languages that the model was trained on, if known; "mul" for many.

    Examples
    --------
    >>> from diptych.inputs import load_tokenizer
    >>> print(language_mismatch("ein Hund im Schnee", load_tokenizer()))
    'ein Hund im Schnee' looks German, and this model reads English: say it in English, or load a \
multilingual model, such as ViT-B-16-SigLIP2 (webli) or xlm-roberta-base-ViT-B-32 (laion5b_s13b_b90k)
    >>> language_mismatch("a dog in Baden-Baden", load_tokenizer()) is None
    True
    """
    model_languages = tuple(languages) or _languages_of(tokenizer)
    if MANY in model_languages or not isinstance(text, str):
        return None
    script = script_of(text)
    if script is not None:
        return _script_mismatch(text, script, tokenizer, model_languages)
    detected = latin_languages(text)
    if not detected or not model_languages or set(detected) & set(model_languages):
        return None
    looks = " or ".join(NAMES[code] for code in detected[:3])
    return (
        f"{_excerpt(text)} looks {looks}, and this model reads {_language_names(model_languages)}: {_WAY_OUT}"
    )


def first_language_mismatch(
    texts: Iterable[str], tokenizer: Tokenizer, languages: Sequence[str] = ()
) -> str | None:
    """The first result of `language_mismatch` that is not None for several texts, such as labels.

    Single words give little evidence, so finally all texts are tested together.

    Examples
    --------
    >>> from diptych.inputs import load_tokenizer
    >>> print(first_language_mismatch(["Hund", "Katze", "Pferd"], load_tokenizer())[:33])
    'Hund, Katze, Pferd' looks German
    """
    candidates = list(texts)
    joined = [", ".join(candidates)] if len(candidates) > 1 else []
    messages = (language_mismatch(text, tokenizer, languages) for text in candidates + joined)
    return next((message for message in messages if message is not None), None)


def script_of(text: str) -> str | None:
    """The script of most letters, by the first word of their Unicode names; None for Latin and short texts.

    Examples
    --------
    >>> script_of("собака"), script_of("a дом"), script_of("π"), script_of("猫")
    ('CYRILLIC', 'CYRILLIC', None, 'CJK')
    """
    letters = [unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha()]
    foreign = Counter(script for script in letters if script in _SCRIPTS)
    total = foreign.total()
    if 2 * total <= len(letters):
        return None
    script = max(foreign, key=lambda name: foreign[name])
    if script == "CJK" and (kana := [name for name in ("HIRAGANA", "KATAKANA") if foreign[name]]):
        script = kana[0]  # only Japanese mixes kana and Chinese characters
    return script if total >= _SCRIPTS[script][2] else None


def latin_languages(text: str) -> list[str]:
    """Detect the language of a text in Latin letters; several codes if the evidence is equal, none if weak.

    Examples
    --------
    >>> latin_languages("un chien dans la neige"), latin_languages("the dog of Rio de la Plata")
    (['fr'], [])
    """
    words = _WORD.findall(unicodedata.normalize("NFC", text))
    # Capitalised words are ignored as possible names, except the first word, and in German, whose nouns are
    # capitalised.
    plain = {word.lower() for i, word in enumerate(words) if i == 0 or word.islower()}
    nouns = {word.lower() for word in words if not word.isupper()}
    scores = {
        code: sum(weights.get(word, 0.0) for word in (nouns if code == "de" else plain))
        for code, weights in STOP_WORDS.items()
    }
    best = max(scores.values())
    if best < ENOUGH or best <= len(nouns & ENGLISH):
        return []
    return [code for code, score in scores.items() if score == best]


def _languages_of(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Languages inferred from the vocabulary alone; empty if unknown."""
    config = tokenizer.config
    if config.kind == "clip":
        return ("en",)
    return (MANY,) if config.vocab_size >= LARGE_TABLE else ()


def _script_mismatch(
    text: str, script: str, tokenizer: Tokenizer, model_languages: Sequence[str]
) -> str | None:
    name, written, _ = _SCRIPTS[script]
    if set(written.split()) & set(model_languages):
        return None
    sample = "".join(letter for letter in text if letter.isalpha())[:SAMPLE]
    with counted_long_texts(silent=True):  # with a very short context length even the sample may be truncated
        ids = tokenizer.encode(sample)[0]
    if not model_languages:
        decoded = tokenizer.decode(ids)
        if 2 * sum(letter in decoded for letter in sample.lower()) >= len(sample):
            return None  # the vocabulary has these letters, and the model's languages are unknown
        reason = "its vocabulary lacks the letters"
    else:
        special = sum(end is not None for end in (tokenizer.start_id, tokenizer.end_id))
        tokens_per_letter = (len(ids) - special) / len(sample)
        cost = f"takes {tokens_per_letter:.1f} tokens for each of these letters"
        reason = f"it reads {_language_names(model_languages)}, and {cost}"
    return f"{_excerpt(text)} is in {name}, which this model will not understand ({reason}): {_WAY_OUT}"


def _language_names(codes: Sequence[str]) -> str:
    return ", ".join(NAMES.get(code, code) for code in codes)


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
