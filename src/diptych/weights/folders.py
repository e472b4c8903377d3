"""Folders and single files of any project: which kind one is, and its weights under our names, verified.

A config beside the weights is always followed. Where the caller names an architecture that the config
contradicts, the two are refused with both values. Each reader ends in `fit`, so what comes out has exactly
the names and shapes of its architecture.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import ModelError, WeightsError
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.model.config import CLIPConfig, ViTConfig
from diptych.model.presets.table import preset
from diptych.weights.download import sha256
from diptych.weights.fitting import contradictions, fit, fitting_presets
from diptych.weights.foreign import read_json
from diptych.weights.identity import identity_of
from diptych.weights.native import SPEC_FILE, WEIGHTS_FILE, read_checkpoint, read_spec
from diptych.weights.open_clip import read as open_clip
from diptych.weights.open_clip.timm_vit import PREFIX, from_timm
from diptych.weights.openai.archive import is_torchscript
from diptych.weights.openai.infer import infer_openai
from diptych.weights.openai.pickled import read_state
from diptych.weights.registry import OPENAI_ARCHIVES, preprocess_for, tokenizer_for
from diptych.weights.spec import Checkpoint, ModelSpec, State
from diptych.weights.transformers import m_clip
from diptych.weights.transformers import read as transformers
from diptych.weights.transformers.names import from_transformers, has_transformers_names

# Entries of OpenAI's archives that are no parameters.
_NOT_PARAMETERS = ("input_resolution", "context_length", "vocab_size")
_Parts = tuple[CLIPConfig, PreprocessConfig, TokenizerConfig]


def read_folder(
    folder: Path,
    *,
    architecture: str | None = None,
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
    architecture : str, optional
        What the caller says it is; the config in the folder must agree.
    name, licence, source : str, optional
        For the description of a foreign model.
    tokenizer_folder : Path, optional
        Where the file of a foreign model's tokenizer lies, if not here.

    Raises
    ------
    WeightsError
        The folder holds no model that can be read, or another than the one named.
    """
    for ours in (folder, folder / "model"):
        if (ours / SPEC_FILE).is_file():
            checkpoint = read_checkpoint(ours)
            _refuse_contradiction(architecture, checkpoint.spec.architecture, ours / SPEC_FILE)
            return checkpoint
    refuse_graphs(folder)
    for file, read in _CONFIGS.items():
        if (folder / file).is_file():
            parts = read(folder)
            break
    else:
        held = sorted(path.name for path in folder.iterdir())[:8]
        raise WeightsError(
            f"{folder} holds no model: expected {SPEC_FILE} (ours, here or in model/), "
            f"{open_clip.CONFIG_FILE} (open_clip) or {transformers.CONFIG_FILE} (transformers), "
            f"found {', '.join(held) or 'nothing'}"
        )
    _refuse_contradiction(architecture, parts[0], folder / file)
    _warn_of_other_config(folder, file, parts)
    if file == open_clip.CONFIG_FILE:
        state = read_state(_first(folder, open_clip.WEIGHTS_FILES))
    else:
        state = _read_shards(folder)
    spec = _spec(name or folder.resolve().name, parts, licence=licence, source=source or str(folder))
    return finish(spec, _our_names(state), folder=tokenizer_folder or folder, source=str(folder))


def refuse_graphs(folder: Path) -> None:
    """Raise where a folder holds ONNX graphs and no weights.

    Raises
    ------
    WeightsError
        It does; the message says what can be done with them.
    """
    graphs = [*folder.glob("*/*.onnx"), *folder.glob("*.onnx")]
    weights = any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
    if graphs and not weights:
        raise WeightsError(
            f"{folder} holds ONNX graphs ({graphs[0].relative_to(folder)}), which are run as they are: there "
            "are no weights to train, convert or export. diptych.load, --model, models show and models "
            "verify take them"
        )


def _read_open_clip_config(folder: Path) -> _Parts:
    return open_clip.read_config(read_json(folder / open_clip.CONFIG_FILE), folder)


def _read_transformers_config(folder: Path) -> _Parts:
    config = read_json(folder / transformers.CONFIG_FILE)
    if config.get("model_type") == m_clip.MODEL_TYPE:
        raise WeightsError(
            f"{folder} holds the texts of an M-CLIP only: name the model whose pictures they were taught "
            f"to fit as well, as in load({str(folder)!r}, 'ViT-B-32 openai')"
        )
    return transformers.read_config(
        config, transformers.read_preprocess_file(folder), transformers.read_tokenizer_file(folder)
    )


# In the order in which a folder is searched.
_CONFIGS = {
    open_clip.CONFIG_FILE: _read_open_clip_config,
    transformers.CONFIG_FILE: _read_transformers_config,
}


def _refuse_contradiction(named: str | None, stated: CLIPConfig, config: Path) -> None:
    """Raise WeightsError where a config says otherwise than the architecture that the caller names."""
    if named is None:
        return
    if differences := contradictions(preset(named), stated):
        raise WeightsError(
            f"{named!r} contradicts {config}: {'; '.join(differences)} (by the name, by the config). Leave "
            f"out {named!r} to follow the config, or name an architecture that agrees with it"
        )


def _warn_of_other_config(folder: Path, followed: str, parts: _Parts) -> None:
    """Say so where a folder of two projects' configs has them say different things."""
    for file in _CONFIGS:
        if file != followed:
            warn_of_config(folder / file, parts[0], parts[1], followed=followed)


def warn_of_config(
    config: Path, architecture: CLIPConfig, preprocess: PreprocessConfig, *, followed: str
) -> None:
    """Warn where a config says otherwise than what is followed; nothing where it is absent or of no CLIP.

    Parameters
    ----------
    config : Path
        `open_clip_config.json` or `config.json`, there or not.
    architecture, preprocess
        What is followed instead.
    followed : str
        Where that comes from, for the message.
    """
    try:
        stated, transform, _ = _CONFIGS[config.name](config.parent)
    except ModelError:  # absent; or timm's config.json, which has the same name and says nothing of texts
        return
    differences = contradictions(architecture, stated)
    for field in dataclasses.fields(preprocess):
        ours, theirs = getattr(preprocess, field.name), getattr(transform, field.name)
        if ours != theirs and field.name != "size":  # the side is the architecture's
            differences.append(f"{field.name} is {ours} and {theirs}")
    if differences:
        warnings.warn(
            f"{config.parent}: {followed} is followed, and {config.name} contradicts it: "
            f"{'; '.join(differences)}",
            stacklevel=2,
        )


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
    if path.name == WEIGHTS_FILE and (path.parent / SPEC_FILE).is_file():
        checkpoint = read_checkpoint(path.parent)
        _refuse_contradiction(name, checkpoint.spec.architecture, path.parent / SPEC_FILE)
        return checkpoint
    state = read_state(path)
    if (beside := _spec_beside(path, state)) is not None:
        spec, config = beside
        _refuse_contradiction(name, spec.architecture, config)
        return finish(spec, _our_names(state), folder=path.parent, source=str(path))
    if is_torchscript(path):
        return _read_openai(path, state, name)
    state = _our_names(state)
    if name is None:
        fitting = fitting_presets(state)
        names = ", ".join(name for base in fitting for name in (base, f"{base}-quickgelu"))
        raise WeightsError(
            f"{path} does not say what it is the weights of: name the architecture first, as in "
            f"load('ViT-B-32', {str(path)!r}). "
            + (f"By its shapes it may be {names}" if fitting else "By its shapes it is no preset")
        )
    architecture = preset(name)
    spec = _spec(name, _usual_parts(architecture), source=str(path))
    return finish(spec, state, folder=path.parent, source=str(path))


def _our_names(state: State) -> State:
    """Weights under our names, whichever of the projects named them."""
    return from_transformers(state) if has_transformers_names(state) else open_clip.read_names(state)


def _usual_parts(config: CLIPConfig) -> _Parts:
    """An architecture with the preprocessing and tokenizer that its family has."""
    return config, preprocess_for(config), tokenizer_for(config)


def finish(spec: ModelSpec, state: State, *, folder: Path | None = None, source: str) -> Checkpoint:
    """Strictly fitted weights, with their identity."""
    if isinstance(spec.architecture.vision, ViTConfig) and any(name.startswith(PREFIX) for name in state):
        state = from_timm(state)  # other towers of timm keep its names
    fitted = fit(spec.architecture, state, source=source)
    return Checkpoint(spec=spec, state=fitted, identity=identity_of(spec, fitted, folder), folder=folder)


def _spec_beside(path: Path, state: State) -> tuple[ModelSpec, Path] | None:
    """What the config beside a file says of its weights, and which file says so; None if there is none."""
    folder = path.parent
    if (folder / SPEC_FILE).is_file():
        # Licence and shape hold for the folder; the training summary is that of model.safetensors.
        spec = dataclasses.replace(read_spec(folder)[0], source=str(path), training={})
        return spec, folder / SPEC_FILE
    # Of two projects' configs, the one whose names the weights have.
    files = [file for file in _CONFIGS if (folder / file).is_file()]
    if has_transformers_names(state):
        files.reverse()
    for file in files:
        if file == transformers.CONFIG_FILE and not _is_clip_config(folder / file):
            continue  # many programs keep a config.json
        return _spec(folder.resolve().name, _CONFIGS[file](folder), source=str(path)), folder / file
    return None


def _is_clip_config(path: Path) -> bool:
    return read_json(path).get("model_type") in transformers.FAMILIES


def _read_openai(path: Path, state: State, name: str | None) -> Checkpoint:
    """An archive of OpenAI's kind; one they released is known by its hash."""
    state = {key: tensor for key, tensor in state.items() if key not in _NOT_PARAMETERS}
    config = infer_openai(state, source=str(path))
    known = OPENAI_ARCHIVES.get(sha256(path))
    if name is not None:
        fit(preset(name), state, source=str(path))
        if not known and preset(name).activation != config.activation:
            warnings.warn(
                f"{path} is an archive of OpenAI's kind, which all have {config.activation}: it is read so, "
                f"though {name!r} has {preset(name).activation}. Name '{name}-quickgelu' to say the same",
                stacklevel=2,
            )
    spec = _spec(
        f"{known} openai" if known else path.stem,
        _usual_parts(config),
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
    parts: _Parts,
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
