"""Folders and single files of any project: which kind one is, and its weights under our names, verified.

Each reader ends in `fit`, so what comes out has exactly the names and shapes of its architecture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.model.config import CLIPConfig
from diptych.weights import m_clip, open_clip, transformers
from diptych.weights.archive import is_torchscript
from diptych.weights.download import sha256
from diptych.weights.fitting import fit, fitting_presets
from diptych.weights.identity import identity_of
from diptych.weights.infer import infer_openai
from diptych.weights.native import SPEC_FILE, WEIGHTS_FILE, read_checkpoint, read_json, read_spec
from diptych.weights.pickled import read_state
from diptych.weights.registry import OPENAI_ARCHIVES, architecture, tokenizer_for
from diptych.weights.spec import Checkpoint, ModelSpec, State
from diptych.weights.transformers_names import from_transformers

# Entries of OpenAI's archives that are no parameters.
_NOT_PARAMETERS = ("input_resolution", "context_length", "vocab_size")


def read_folder(
    folder: Path,
    *,
    name: str | None = None,
    licence: str = "unknown",
    source: str = "",
    tokenizer_folder: Path | None = None,
) -> Checkpoint:
    """A model from a folder: ours, a run's, open_clip's or transformers'.

    Parameters
    ----------
    folder : Path
        Holds a config and weights.
    name, licence, source : str, optional
        For the description of a foreign model.
    tokenizer_folder : Path, optional
        Where the file of a foreign model's tokenizer lies, if not here.

    Raises
    ------
    WeightsError
        The folder holds no model that can be read.
    """
    for ours in (folder, folder / "model"):
        if (ours / SPEC_FILE).is_file():
            return read_checkpoint(ours)
    name = name or folder.resolve().name
    if (folder / open_clip.CONFIG_FILE).is_file():
        parts = open_clip.read_config(read_json(folder / open_clip.CONFIG_FILE), folder)
        state = open_clip.read_names(read_state(_first(folder, open_clip.WEIGHTS_FILES)))
    elif (folder / transformers.CONFIG_FILE).is_file():
        config = read_json(folder / transformers.CONFIG_FILE)
        if config.get("model_type") == m_clip.MODEL_TYPE:
            raise WeightsError(
                f"{folder} holds the texts of an M-CLIP only: name the model whose pictures they were taught "
                f"to fit as well, as in load({str(folder)!r}, 'ViT-B-32 openai')"
            )
        parts = transformers.read_config(
            config, transformers.read_preprocess_file(folder), transformers.read_tokenizer_file(folder)
        )
        state = from_transformers(_read_shards(folder))
    else:
        held = sorted(path.name for path in folder.iterdir())[:8]
        raise WeightsError(
            f"{folder} holds no model: expected {SPEC_FILE} (ours, here or in model/), "
            f"{open_clip.CONFIG_FILE} (open_clip) or {transformers.CONFIG_FILE} (transformers), "
            f"found {', '.join(held) or 'nothing'}"
        )
    spec = _spec(name, parts, licence=licence, source=source or str(folder))
    return finish(spec, state, folder=tokenizer_folder or folder, source=str(folder))


def read_texts(
    folder: Path, *, licence: str = "unknown", source: str = "", tokenizer_folder: Path | None = None
) -> m_clip.TextCheckpoint:
    """The text encoder in a folder of M-CLIP's.

    Raises
    ------
    WeightsError
        The folder holds none.
    """
    if not (folder / transformers.CONFIG_FILE).is_file():
        raise WeightsError(f"{folder} holds no {transformers.CONFIG_FILE}: expected an M-CLIP text encoder")
    return m_clip.text_checkpoint(
        read_json(folder / transformers.CONFIG_FILE),
        _read_shards(folder),
        name=(source.rpartition("/")[2] or folder.resolve().name),
        folder=tokenizer_folder or folder,
        licence=licence,
        source=source or str(folder),
    )


def read_file(path: Path, name: str | None = None) -> Checkpoint:
    """A model from a single file of weights.

    Parameters
    ----------
    path : Path
        `.safetensors`, `.pt`, `.pth`, `.bin`, or one of OpenAI's archives.
    name : str, optional
        The architecture; needed unless the file is an archive of OpenAI's kind or lies beside its config.

    Raises
    ------
    WeightsError
        The file cannot be read, its architecture is unknown, or it does not fit the one named.
    """
    if name is None and path.name == WEIGHTS_FILE and (path.parent / SPEC_FILE).is_file():
        return read_checkpoint(path.parent)
    state = read_state(path)
    if is_torchscript(path):
        return _read_openai(path, state, name)
    state = open_clip.read_names(state)
    if name is None and (beside := _spec_beside(path)) is not None:
        return finish(beside, state, folder=path.parent, source=str(path))
    if name is None:
        fitting = fitting_presets(state)
        names = ", ".join(name for base in fitting for name in (base, f"{base}-quickgelu"))
        raise WeightsError(
            f"{path} does not say what it is the weights of: name the architecture first, as in "
            f"load('ViT-B-32', {str(path)!r}). "
            + (f"By its shapes it may be {names}" if fitting else "By its shapes it is no preset")
        )
    config = architecture(name)
    spec = _spec(name, (config, _preprocess(config), tokenizer_for(config)), source=str(path))
    return finish(spec, state, folder=path.parent, source=str(path))


def finish(spec: ModelSpec, state: State, *, folder: Path | None = None, source: str) -> Checkpoint:
    """Strictly fitted weights, with their identity."""
    fitted = fit(spec.architecture, state, source=source)
    return Checkpoint(spec=spec, state=fitted, identity=identity_of(spec, fitted, folder), folder=folder)


def _spec_beside(path: Path) -> ModelSpec | None:
    """What the config beside a file says of its weights, if there is one."""
    if (path.parent / SPEC_FILE).is_file():
        # Licence and shape hold for the folder; how the weights were trained was told of model.safetensors.
        return dataclasses.replace(read_spec(path.parent)[0], source=str(path), training={})
    if (path.parent / open_clip.CONFIG_FILE).is_file():
        parts = open_clip.read_config(read_json(path.parent / open_clip.CONFIG_FILE), path.parent)
        return _spec(path.parent.resolve().name, parts, source=str(path))
    return None


def _read_openai(path: Path, state: State, name: str | None) -> Checkpoint:
    """An archive of OpenAI's kind; one they released is known by its hash."""
    state = {key: tensor for key, tensor in state.items() if key not in _NOT_PARAMETERS}
    config = infer_openai(state, source=str(path))
    if name is not None:
        fit(architecture(name), state, source=str(path))
    known = OPENAI_ARCHIVES.get(sha256(path))
    spec = _spec(
        f"{known} openai" if known else path.stem,
        (config, _preprocess(config), tokenizer_for(config)),
        licence="mit" if known else "unknown",
        source="https://github.com/openai/CLIP" if known else str(path),
    )
    read = finish(spec, state, source=str(path))
    return dataclasses.replace(read, checked="the SHA-256 OpenAI states") if known else read


def _read_shards(folder: Path) -> State:
    path = _first(folder, transformers.WEIGHTS_FILES)
    if not path.name.endswith(".index.json"):
        return read_state(path)
    table = transformers.weight_map(path)
    state: State = {}
    for file in transformers.shards(path):
        state.update(read_state(folder / file))
    if missing := [name for name in table if name not in state]:
        raise WeightsError(f"{path} promises {missing[0]!r}, which {table[missing[0]]} does not hold")
    return state


def _first(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder} holds a config but no weights: expected one of {', '.join(names)}")


def _spec(
    name: str,
    parts: tuple[CLIPConfig, PreprocessConfig, TokenizerConfig],
    *,
    licence: str = "unknown",
    source: str,
    training: Mapping[str, Any] | None = None,
) -> ModelSpec:
    config, preprocess, tokenizer = parts
    return ModelSpec(
        name=name,
        architecture=config,
        preprocess=preprocess,
        tokenizer=tokenizer,
        licence=licence,
        source=source,
        training=training or {},
    )


def _preprocess(config: CLIPConfig) -> PreprocessConfig:
    return PreprocessConfig(size=config.vision.image_size)
