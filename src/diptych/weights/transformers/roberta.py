"""Text towers of RoBERTa's kind, as open_clip's and M-CLIP's configs name them: shape, tokenizer, names.

Both name a model of transformers and say nothing of its shape. The shapes of the released ones stand here, as
their own `config.json` states them; for any other that file must lie in a folder of that name beside the
weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from diptych.errors import InputError, UnknownModelError, WeightsError
from diptych.inputs.config import TokenizerConfig
from diptych.model.config import RobertaConfig
from diptych.model.presets.table import mlp_ratio
from diptych.weights.foreign import Keys, read_json
from diptych.weights.spec import State
from diptych.weights.transformers.read import ACTIVATIONS, BOOKKEEPING, CONFIG_FILE

Pooler = Literal["mean", "first", "tanh"]
Head = Literal["none", "linear", "mlp", "affine"]

# Where the one token table of all XLM-R models lies.
TOKENIZER_REPOSITORY = "FacebookAI/xlm-roberta-base"
XLM_R_VOCABULARY = 250002
_SHARED = {
    "model_type": "xlm-roberta",
    "vocab_size": XLM_R_VOCABULARY,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
BASES: dict[str, dict[str, Any]] = {"xlm-roberta-base": _SHARED, "xlm-roberta-large": {**_SHARED, **_LARGE}}
# Counters from 0 that older versions of transformers kept among the weights.
_DROPPED = re.compile(r"text\.transformer\.embeddings\.(position|token_type)_ids")
_MARK = "text.transformer.embeddings."


def base_config(name: Any, folder: Path | None) -> Mapping[str, Any]:
    """The `config.json` of the model that a config names as its text tower.

    Raises
    ------
    UnknownModelError
        It is neither a model known here nor a folder beside the weights.
    """
    if isinstance(name, str):
        if (known := BASES.get(name.removeprefix("FacebookAI/"))) is not None:
            return known
        inside = folder is not None and name != "" and ".." not in Path(name).parts
        if folder is not None and inside and not Path(name).is_absolute():
            path = folder / name / CONFIG_FILE
            if path.is_file():
                return read_json(path)
    raise UnknownModelError(
        f"this model's text tower is {name!r}, whose shape is not known here: known are "
        f"{', '.join(BASES)}; of another the {CONFIG_FILE} must lie in a folder of that name beside the "
        "weights"
    )


def read_tower(
    config: Mapping[str, Any], *, pooler: Pooler, head: Head, context_length: int | None = None
) -> RobertaConfig:
    """The shape, from the `config.json` of transformers' `XLMRobertaModel`.

    Parameters
    ----------
    config : mapping
        That file.
    pooler, head : str
        How the text is read, which is not the file's matter.
    context_length : int, optional
        Tokens of a text; by default as many as there are positions for.

    Raises
    ------
    UnknownModelError
        A model of another kind.
    WeightsError
        A key or value that is not understood; the message names it.

    Examples
    --------
    >>> read_tower(BASES["xlm-roberta-large"], pooler="mean", head="affine").context_length
    512
    """
    keys = Keys(config, CONFIG_FILE)
    if (family := keys.take("model_type")) not in ("xlm-roberta", "roberta"):
        raise UnknownModelError(
            f"the text tower is of type {family!r}, which is not built here: expected 'xlm-roberta' or "
            "'roberta'"
        )
    keys.skip(*BOOKKEEPING, "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    keys.skip("output_past", "eos_token_id")
    keys.only("position_embedding_type", "absolute", None)
    pad_id, width = keys.identifier("pad_token_id", 1), keys.whole("hidden_size", 768)
    positions = keys.whole("max_position_embeddings", 512)
    try:
        tower = RobertaConfig(
            context_length=context_length or positions - pad_id - 1,
            vocab_size=keys.whole("vocab_size", 30522),
            width=width,
            heads=keys.whole("num_attention_heads", 12),
            layers=keys.whole("num_hidden_layers", 12),
            mlp_ratio=mlp_ratio(width, keys.whole("intermediate_size", 3072)),
            pad_id=pad_id,
            norm_eps=keys.number("layer_norm_eps", 1e-12),
            activation=ACTIVATIONS[keys.choice("hidden_act", "gelu", ACTIVATIONS)],
            positions=positions,
            token_types=keys.whole("type_vocab_size", 2),
            pooler=pooler,
            head=head,
        )
    except InputError as error:
        raise WeightsError(f"{CONFIG_FILE} of the text tower: {error}") from error
    keys.finish()
    return tower


def tokenizer_of(tower: RobertaConfig) -> TokenizerConfig:
    """What belongs to such a tower: a tokenizer.json, upper and lower case as they are."""
    return TokenizerConfig(
        kind="file",
        vocab_size=tower.vocab_size,
        context_length=tower.context_length,
        pad_id=tower.pad_id,
        clean="whitespace",
    )


def base_of(tower: RobertaConfig) -> str | None:
    """The name of the released model whose shape this is, if it is one's."""
    for name, config in BASES.items():
        like = read_tower(config, pooler=tower.pooler, head=tower.head, context_length=tower.context_length)
        if like == tower:
            return name
    return None


def is_roberta(state: State) -> bool:
    """Whether weights are those of a model with such a tower, by their names."""
    return any(name.startswith(_MARK) for name in state)


def without_counters(state: State) -> State:
    """The weights, without what older files hold beside them."""
    return {name: tensor for name, tensor in state.items() if not _DROPPED.fullmatch(name)}
