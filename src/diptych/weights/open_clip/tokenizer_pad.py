"""Find the padding id of the tokenizer that an open_clip config names.

open_clip pads with the `pad_token` of that tokenizer, and its SigLIP models attend to the padding. The
tokenizer's files say which token it is; for released models, whose files may not be downloaded yet, the id is
listed here by the tokenizer's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.weights.foreign_configs import read_json

TOKENIZER_FILE = "tokenizer.json"
# Both state the padding token; the second is the older format.
_CONFIG_FILES = ("tokenizer_config.json", "special_tokens_map.json")

# Padding id by prefix of `hf_tokenizer_name`; the first match counts.
_PAD_IDS = (
    ("bert-base-uncased", 0),
    ("facebook/xlm-v-base", 1),
    ("google/mt5", 0),
    ("FacebookAI/xlm-roberta", 1),
    ("xlm-roberta", 1),
    ("roberta", 1),
)


def find_pad_id(name: str, folder: Path | None, *, stated: int | None = None) -> int:
    """Find the padding id.

    Parameters
    ----------
    name : str
        Name of the tokenizer in the config (`hf_tokenizer_name`).
    folder : Path, optional
        Folder of the tokenizer's files.
    stated : int, optional
        The config's `pad_id` of the text tower, used if the folder does not state a token.

    Raises
    ------
    WeightsError
        The folder states a padding token that is not in its vocabulary.
    """
    token = _pad_token(folder) if folder is not None else None
    if folder is not None and token is not None and (folder / TOKENIZER_FILE).is_file():
        return _token_id(token, folder / TOKENIZER_FILE)
    if stated is not None:
        return stated
    if "SigLIP" in name:
        return 0 if "SigLIP2" in name else 1  # Gemma's <pad>; the end token of SigLIP's own vocabularies
    return next((pad_id for prefix, pad_id in _PAD_IDS if name.startswith(prefix)), 0)


def _pad_token(folder: Path) -> str | None:
    """Padding token that the tokenizer's config files state, if any."""
    for file in _CONFIG_FILES:
        if (folder / file).is_file():
            token = read_json(folder / file).get("pad_token")
            # A string, or an object with its text under "content".
            content = token.get("content") if isinstance(token, Mapping) else token
            if isinstance(content, str):
                return content
    return None


def _token_id(token: str, path: Path) -> int:
    """Id of a token, from the added tokens or the vocabulary of a tokenizer.json."""
    content = _read_tokenizer_file(path)
    for added in content.get("added_tokens") or []:
        if isinstance(added, Mapping) and added.get("content") == token and isinstance(added.get("id"), int):
            return int(added["id"])
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(vocabulary, Mapping) and token in vocabulary:
        return int(vocabulary[token])
    if isinstance(vocabulary, list):  # unigram: a list of [token, score]
        for index, entry in enumerate(vocabulary):
            if isinstance(entry, list) and entry and entry[0] == token:
                return index
    raise WeightsError(f"{path} has no token {token!r}, which {path.parent} states as its padding token")


def _read_tokenizer_file(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as a tokenizer.json: {error}") from error
    return content if isinstance(content, Mapping) else {}
