"""Will a model understand the language of a text? Said to the person who typed it, in a sentence, or not at
all.

A model trained on English captions gives a vector for any text and is silent about having understood nothing:
its byte-pair table spells letters it never saw byte by byte, and words of other languages come out as noise.
A text shows its language by its script, and in Latin letters by words that English does not have. Judged with
caution: English, names, single words and texts with little evidence pass without a word. What the languages
of a model are is stated by its description; where nobody says, CLIP's own table means English and a table of
a hundred thousand pieces or more means many languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from diptych.inputs.long_texts import counted_long_texts
from diptych.inputs.stop_words import ENGLISH, NAMES, STOP_WORDS
from diptych.inputs.tokenizer import Tokenizer

MANY = "mul"  # the code of ISO 639-2 for several languages
# English tables have 32,000 to 50,000 pieces, multilingual ones 250,000 and more.
LARGE_TABLE = 100_000
ENOUGH = 2.0  # weight of the words that make a language
SAMPLE = 6  # letters that show whether a table has a script
# First word of a letter's Unicode name -> how the script is called, which languages are written in it, and
# letters that make a text; Greek letters are also symbols.
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


def not_understood(text: str, tokenizer: Tokenizer, languages: Sequence[str] = ()) -> str | None:
    """Why a model will not understand a text, in a sentence; None where nothing speaks against it.

    Parameters
    ----------
    text : str
        As the person typed it.
    tokenizer : Tokenizer
        The model's.
    languages : sequence of str
        Codes of the languages the model was trained on, if its description states them; "mul" for many.

    Returns
    -------
    str or None

    Examples
    --------
    >>> from diptych.inputs import load_tokenizer
    >>> print(not_understood("ein Hund im Schnee", load_tokenizer()))
    'ein Hund im Schnee' looks German, and this model reads English: say it in English, or load a \
multilingual model, such as ViT-B-16-SigLIP2 (webli) or xlm-roberta-base-ViT-B-32 (laion5b_s13b_b90k)
    >>> not_understood("a dog in Baden-Baden", load_tokenizer()) is None
    True
    """
    read = tuple(languages) or _languages_of(tokenizer)
    if MANY in read or not isinstance(text, str):
        return None
    script = script_of(text)
    if script is not None:
        return _by_script(text, script, tokenizer, read)
    found = latin_languages(text)
    if not found or not read or set(found) & set(read):
        return None
    looks = " or ".join(NAMES[code] for code in found[:3])
    return f"{_shown(text)} looks {looks}, and this model reads {_named(read)}: {_WAY_OUT}"


def first_not_understood(
    texts: Iterable[str], tokenizer: Tokenizer, languages: Sequence[str] = ()
) -> str | None:
    """The first complaint of `not_understood` over several texts, such as labels.

    Single words say little alone, so at the end they are judged together, too.

    Examples
    --------
    >>> from diptych.inputs import load_tokenizer
    >>> print(first_not_understood(["Hund", "Katze", "Pferd"], load_tokenizer())[:33])
    'Hund, Katze, Pferd' looks German
    """
    every = list(texts)
    together = [", ".join(every)] if len(every) > 1 else []
    said = (not_understood(text, tokenizer, languages) for text in every + together)
    return next((sentence for sentence in said if sentence is not None), None)


def script_of(text: str) -> str | None:
    """The script of most letters, by the first word of their Unicode names; None for Latin and what is short.

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
        script = kana[0]  # only Japanese mixes the two
    return script if total >= _SCRIPTS[script][2] else None


def latin_languages(text: str) -> list[str]:
    """Codes of the languages that a text in Latin letters shows; several where the evidence is equal.

    Examples
    --------
    >>> latin_languages("un chien dans la neige"), latin_languages("the dog of Rio de la Plata")
    (['fr'], [])
    """
    words = _WORD.findall(unicodedata.normalize("NFC", text))
    # A name has capitals; so have German nouns, and the first word of a sentence.
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
    """What the token table alone says; empty where it says nothing."""
    config = tokenizer.config
    if config.kind == "clip":
        return ("en",)
    return (MANY,) if config.vocab_size >= LARGE_TABLE else ()


def _by_script(text: str, script: str, tokenizer: Tokenizer, read: Sequence[str]) -> str | None:
    name, written, _ = _SCRIPTS[script]
    if set(written.split()) & set(read):
        return None
    sample = "".join(letter for letter in text if letter.isalpha())[:SAMPLE]
    with counted_long_texts(silent=True):  # a model of very short texts may cut even these
        ids = tokenizer.encode(sample)[0]
    if not read:
        back = tokenizer.decode(ids)
        if 2 * sum(letter in back for letter in sample.lower()) >= len(sample):
            return None  # the table has these letters, and nobody says what the model was trained on
        why = "its table of tokens lacks the letters"
    else:
        ends = sum(end is not None for end in (tokenizer.start_id, tokenizer.end_id))
        each = (len(ids) - ends) / len(sample)
        why = f"it reads {_named(read)}, and takes {each:.1f} tokens for each of these letters"
    return f"{_shown(text)} is in {name}, which this model will not understand ({why}): {_WAY_OUT}"


def _named(codes: Sequence[str]) -> str:
    return ", ".join(NAMES.get(code, code) for code in codes)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
