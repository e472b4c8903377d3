"""RoBERTa text towers in open_clip's and M-CLIP's formats: architecture, tokenizer, parameter names.

Both configs only name a model of transformers. The architectures of the released ones are listed here, from
their `config.json`; for any other that file must be in a folder of that name beside the weights.
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
from diptych.weights.foreign_configs import ConfigKeys, read_json
from diptych.weights.spec import State
from diptych.weights.transformers.read import ACTIVATIONS, BOOKKEEPING, CONFIG_FILE

Pooler = Literal["mean", "first", "tanh"]
Head = Literal["none", "linear", "mlp", "affine"]

# Repository of the tokenizer that all XLM-R models share.
TOKENIZER_REPOSITORY = "FacebookAI/xlm-roberta-base"
XLM_R_VOCABULARY = 250002
_BASE = {
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
BASES: dict[str, dict[str, Any]] = {"xlm-roberta-base": _BASE, "xlm-roberta-large": {**_BASE, **_LARGE}}
# Position ids 0, 1, 2, ... that older versions of transformers stored among the weights.
_POSITION_IDS = re.compile(r"text\.transformer\.embeddings\.(position|token_type)_ids")
_NAME_PREFIX = "text.transformer.embeddings."


def base_config(name: Any, folder: Path | None) -> Mapping[str, Any]:
    """`config.json` of the model that another config names as its text tower.

    Raises
    ------
    UnknownModelError
        The name is neither that of a listed model nor that of a folder beside the weights.
    """
    if isinstance(name, str):
        if (known := BASES.get(name.removeprefix("FacebookAI/"))) is not None:
            return known
        # Only a folder inside the model's own: the name comes from a file that may be hostile.
        inside = folder is not None and name != "" and ".." not in Path(name).parts
        if folder is not None and inside and not Path(name).is_absolute():
            path = folder / name / CONFIG_FILE
            if path.is_file():
                return read_json(path)
    raise UnknownModelError(
        f"this model's text tower is {name!r}, whose architecture is not known: known are "
        f"{', '.join(BASES)}; for another one put its {CONFIG_FILE} into a folder of that name beside the "
        "weights"
    )


def read_tower(
    config: Mapping[str, Any], *, pooler: Pooler, head: Head, context_length: int | None = None
) -> RobertaConfig:
    """Architecture from the `config.json` of transformers' `XLMRobertaModel`.

    Parameters
    ----------
    config : mapping
        Content of the file.
    pooler, head : str
        Pooling and projection, which are not in the file.
    context_length : int, optional
        Tokens of a text; by default as many as there are positions.

    Raises
    ------
    UnknownModelError
        The model is not a RoBERTa.
    WeightsError
        A key or value is not supported; the message names it.

    Examples
    --------
    >>> read_tower(BASES["xlm-roberta-large"], pooler="mean", head="affine").context_length
    512
    """
    keys = ConfigKeys(config, CONFIG_FILE)
    if (family := keys.take("model_type")) not in ("xlm-roberta", "roberta"):
        raise UnknownModelError(
            f"the text tower is of type {family!r}, which is not supported: expected 'xlm-roberta' or "
            "'roberta'"
        )
    keys.skip(*BOOKKEEPING, "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    keys.skip("output_past", "eos_token_id")
    keys.only("position_embedding_type", "absolute", None)
    pad_id, width = keys.token_id("pad_token_id", 1), keys.integer("hidden_size", 768)
    # Includes the pad_id + 1 rows that text never uses.
    positions = keys.integer("max_position_embeddings", 512)
    try:
        tower = RobertaConfig(
            context_length=context_length or positions - pad_id - 1,
            vocab_size=keys.integer("vocab_size", 30522),
            width=width,
            heads=keys.integer("num_attention_heads", 12),
            layers=keys.integer("num_hidden_layers", 12),
            mlp_ratio=mlp_ratio(width, keys.integer("intermediate_size", 3072)),
            pad_id=pad_id,
            norm_eps=keys.number("layer_norm_eps", 1e-12),
            activation=ACTIVATIONS[keys.choice("hidden_act", "gelu", ACTIVATIONS)],
            positions=positions,
            token_types=keys.integer("type_vocab_size", 2),
            pooler=pooler,
            head=head,
        )
    except InputError as error:
        raise WeightsError(f"{CONFIG_FILE} of the text tower: {error}") from error
    keys.finish()
    return tower


def roberta_tokenizer(tower: RobertaConfig) -> TokenizerConfig:
    """Tokenizer of such a tower: a tokenizer.json, case-sensitive."""
    return TokenizerConfig(
        kind="file",
        vocab_size=tower.vocab_size,
        context_length=tower.context_length,
        pad_id=tower.pad_id,
        clean="whitespace",
    )


def base_model_name(tower: RobertaConfig) -> str | None:
    """Name of the released model with this architecture; None if there is none."""
    for name, config in BASES.items():
        base = read_tower(config, pooler=tower.pooler, head=tower.head, context_length=tower.context_length)
        if base == tower:
            return name
    return None


def is_roberta(state: State) -> bool:
    """Whether weights are those of a model with a RoBERTa text tower, by their names."""
    return any(name.startswith(_NAME_PREFIX) for name in state)


def drop_position_ids(state: State) -> State:
    """Weights without the position ids of older files."""
    return {name: tensor for name, tensor in state.items() if not _POSITION_IDS.fullmatch(name)}
