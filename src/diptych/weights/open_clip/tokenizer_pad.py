"""Which id fills up the texts of a foreign tokenizer.

open_clip pads with the `pad_token` of the tokenizer that its config names, and its SigLIP models see that
padding. The folder says which token it is; for the tokenizers of released models, whose files may not be
there yet, it is known by their names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.weights.foreign import read_json

FILE = "tokenizer.json"
# Both name the pad token; the second is older.
_NOTES = ("tokenizer_config.json", "special_tokens_map.json")

# By beginnings of `hf_tokenizer_name`; the first that fits counts.
_KNOWN = (
    ("bert-base-uncased", 0),
    ("facebook/xlm-v-base", 1),
    ("google/mt5", 0),
    ("FacebookAI/xlm-roberta", 1),
    ("xlm-roberta", 1),
    ("roberta", 1),
)


def find_pad_id(name: str, folder: Path | None, *, stated: int | None = None) -> int:
    """The id that fills up a text.

    Parameters
    ----------
    name : str
        What the config calls the tokenizer (`hf_tokenizer_name`).
    folder : Path, optional
        Where the tokenizer's files lie.
    stated : int, optional
        What the config says of the text tower, which counts where the folder names no token.

    Raises
    ------
    WeightsError
        The folder names a pad token that its table does not have.
    """
    token = _pad_token(folder) if folder is not None else None
    if folder is not None and token is not None and (folder / FILE).is_file():
        return _id_of(token, folder / FILE)
    if stated is not None:
        return stated
    if "SigLIP" in name:
        return 0 if "SigLIP2" in name else 1  # Gemma's <pad>; the end token of SigLIP's own tables
    return next((pad for beginning, pad in _KNOWN if name.startswith(beginning)), 0)


def _pad_token(folder: Path) -> str | None:
    for note in _NOTES:
        if (folder / note).is_file():
            token = read_json(folder / note).get("pad_token")
            content = token.get("content") if isinstance(token, Mapping) else token
            if isinstance(content, str):
                return content
    return None


def _id_of(token: str, path: Path) -> int:
    """A token's id: among the added ones, or in the table itself."""
    table = _read_table(path)
    for added in table.get("added_tokens") or []:
        if isinstance(added, Mapping) and added.get("content") == token and isinstance(added.get("id"), int):
            return int(added["id"])
    model = table.get("model")
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(vocabulary, Mapping) and token in vocabulary:
        return int(vocabulary[token])
    if isinstance(vocabulary, list):  # unigram: pieces with their scores
        for number, piece in enumerate(vocabulary):
            if isinstance(piece, list) and piece and piece[0] == token:
                return number
    raise WeightsError(f"{path} has no token {token!r}, with which {path.parent} says that texts are padded")


def _read_table(path: Path) -> Mapping[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as a tokenizer.json: {error}") from error
    return table if isinstance(table, Mapping) else {}
