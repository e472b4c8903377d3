"""Read folders and files of any supported project: detect the format, rename the weights, verify them.

A config beside the weights is always followed; an architecture that the caller names must agree with it.
Every reader ends in `fit`, so a checkpoint has exactly the names and shapes of its architecture.
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
from diptych.weights.fitting import architecture_differences, fit, fitting_presets
from diptych.weights.foreign_configs import read_json
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

# Entries of OpenAI's archives that are not parameters.
_NOT_PARAMETERS = ("input_resolution", "context_length", "vocab_size")
_Configs = tuple[CLIPConfig, PreprocessConfig, TokenizerConfig]


def read_folder(
    folder: Path,
    *,
    architecture: str | None = None,
    name: str | None = None,
    licence: str = "unknown",
    source: str = "",
    tokenizer_folder: Path | None = None,
) -> Checkpoint:
    """Read a model from a folder in our format, a training run's, open_clip's or transformers'.

    Parameters
    ----------
    folder : Path
        Folder with a config and weights.
    architecture : str, optional
        Architecture named by the caller; the config in the folder must agree.
    name, licence, source : str, optional
        Description of a model in another project's format.
    tokenizer_folder : Path, optional
        Folder of the tokenizer's file, if another.

    Raises
    ------
    WeightsError
        The folder contains no model that can be read, or another than the one named.
    """
    for home in (folder, folder / "model"):  # the second: a training run
        if (home / SPEC_FILE).is_file():
            checkpoint = read_checkpoint(home)
            _check_architecture(architecture, checkpoint.spec.architecture, home / SPEC_FILE)
            return checkpoint
    reject_graph_folder(folder)
    for file, read in _CONFIGS.items():
        if (folder / file).is_file():
            configs = read(folder)
            break
    else:
        names = sorted(path.name for path in folder.iterdir())[:8]
        raise WeightsError(
            f"{folder} holds no model: expected {SPEC_FILE} (diptych, here or in model/), "
            f"{open_clip.CONFIG_FILE} (open_clip) or {transformers.CONFIG_FILE} (transformers), "
            f"found {', '.join(names) or 'nothing'}"
        )
    _check_architecture(architecture, configs[0], folder / file)
    _warn_of_other_config(folder, file, configs)
    if file == open_clip.CONFIG_FILE:
        state = read_state(_first_file(folder, open_clip.WEIGHTS_FILES))
    else:
        state = _read_sharded_state(folder)
    spec = _spec(name or folder.resolve().name, configs, licence=licence, source=source or str(folder))
    return build_checkpoint(
        spec, _to_native_names(state), folder=tokenizer_folder or folder, source=str(folder)
    )


def reject_graph_folder(folder: Path) -> None:
    """Raise if a folder contains ONNX graphs and no weights.

    Raises
    ------
    WeightsError
        The folder does; the message says which commands accept it.
    """
    graphs = [*folder.glob("*/*.onnx"), *folder.glob("*.onnx")]
    weights = any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
    if graphs and not weights:
        raise WeightsError(
            f"{folder} holds ONNX graphs ({graphs[0].relative_to(folder)}), which can only be run: there are "
            "no weights to train, convert or export. diptych.load, --model, models show and models verify "
            "take them"
        )


def _read_open_clip_config(folder: Path) -> _Configs:
    return open_clip.read_config(read_json(folder / open_clip.CONFIG_FILE), folder)


def _read_transformers_config(folder: Path) -> _Configs:
    config = read_json(folder / transformers.CONFIG_FILE)
    if config.get("model_type") == m_clip.MODEL_TYPE:
        raise WeightsError(
            f"{folder} holds only an M-CLIP text encoder: also name the model whose image encoder it was "
            f"trained for, as in load({str(folder)!r}, 'ViT-B-32 openai')"
        )
    return transformers.read_config(
        config, transformers.read_preprocess_file(folder), transformers.read_tokenizer_file(folder)
    )


# Readers by config file, in the order in which a folder is searched.
_CONFIGS = {
    open_clip.CONFIG_FILE: _read_open_clip_config,
    transformers.CONFIG_FILE: _read_transformers_config,
}


def _check_architecture(named: str | None, stated: CLIPConfig, config: Path) -> None:
    """Raise WeightsError if the architecture that the caller names differs from the config's."""
    if named is None:
        return
    if differences := architecture_differences(preset(named), stated):
        raise WeightsError(
            f"{named!r} contradicts {config}: {'; '.join(differences)} (first the name's value, then the "
            f"config's). Leave out {named!r} to follow the config, or name an architecture that agrees"
        )


def _warn_of_other_config(folder: Path, followed: str, configs: _Configs) -> None:
    """Warn if a folder has configs of two projects that differ."""
    for file in _CONFIGS:
        if file != followed:
            warn_of_config(folder / file, configs[0], configs[1], followed=followed)


def warn_of_config(
    config: Path, architecture: CLIPConfig, preprocess: PreprocessConfig, *, followed: str
) -> None:
    """Warn if a config file differs from the configuration that is used instead.

    Parameters
    ----------
    config : Path
        `open_clip_config.json` or `config.json`. It may be missing or not that of a CLIP.
    architecture, preprocess
        The configuration in use.
    followed : str
        Its origin, for the message.
    """
    try:
        stated, transform, _ = _CONFIGS[config.name](config.parent)
    except ModelError:  # missing; or timm's config.json, which has the same name and no text tower
        return
    differences = architecture_differences(architecture, stated)
    for field in dataclasses.fields(preprocess):
        used, other = getattr(preprocess, field.name), getattr(transform, field.name)
        if used != other and field.name != "size":  # the size is compared as the architecture's
            differences.append(f"{field.name} is {used} and {other}")
    if differences:
        warnings.warn(
            f"{config.parent}: {followed} is followed, and {config.name} contradicts it: "
            f"{'; '.join(differences)}",
            stacklevel=2,
        )


def read_text_encoder(
    folder: Path, *, licence: str = "unknown", source: str = "", tokenizer_folder: Path | None = None
) -> m_clip.TextCheckpoint:
    """Read an M-CLIP text encoder from a folder.

    Raises
    ------
    WeightsError
        The folder contains none.
    """
    if not (folder / transformers.CONFIG_FILE).is_file():
        raise WeightsError(f"{folder} holds no {transformers.CONFIG_FILE}: expected an M-CLIP text encoder")
    return m_clip.build_text_checkpoint(
        read_json(folder / transformers.CONFIG_FILE),
        _read_sharded_state(folder),
        name=(source.rpartition("/")[2] or folder.resolve().name),
        folder=tokenizer_folder or folder,
        licence=licence,
        source=source or str(folder),
    )


def read_file(path: Path, name: str | None = None) -> Checkpoint:
    """Read a model from a single file of weights.

    Parameters
    ----------
    path : Path
        `.safetensors`, `.pt`, `.pth`, `.bin`, or one of OpenAI's archives.
    name : str, optional
        The architecture; needed unless the file is an archive like OpenAI's or has a config beside it.

    Raises
    ------
    WeightsError
        The file cannot be read, its architecture is unknown, or it does not fit the one named.
    """
    if path.name == WEIGHTS_FILE and (path.parent / SPEC_FILE).is_file():
        checkpoint = read_checkpoint(path.parent)
        _check_architecture(name, checkpoint.spec.architecture, path.parent / SPEC_FILE)
        return checkpoint
    state = read_state(path)
    if (beside := _read_spec_beside(path, state)) is not None:
        spec, config = beside
        _check_architecture(name, spec.architecture, config)
        return build_checkpoint(spec, _to_native_names(state), folder=path.parent, source=str(path))
    if is_torchscript(path):
        return _read_openai(path, state, name)
    state = _to_native_names(state)
    if name is None:
        fitting = fitting_presets(state)
        names = ", ".join(name for base in fitting for name in (base, f"{base}-quickgelu"))
        raise WeightsError(
            f"{path} does not state its architecture: name it first, as in "
            f"load('ViT-B-32', {str(path)!r}). "
            + (f"By its shapes it may be {names}" if fitting else "No preset has these shapes")
        )
    architecture = preset(name)
    spec = _spec(name, _default_configs(architecture), source=str(path))
    return build_checkpoint(spec, state, folder=path.parent, source=str(path))


def _to_native_names(state: State) -> State:
    """Weights under our names, from those of any supported project."""
    return from_transformers(state) if has_transformers_names(state) else open_clip.from_open_clip(state)


def _default_configs(config: CLIPConfig) -> _Configs:
    """An architecture with the default preprocessing and tokenizer of its family."""
    return config, preprocess_for(config), tokenizer_for(config)


def build_checkpoint(spec: ModelSpec, state: State, *, folder: Path | None = None, source: str) -> Checkpoint:
    """Check the weights strictly and compute their identity."""
    # Only ViTs that are built here get our names; towers that timm builds keep timm's.
    if isinstance(spec.architecture.vision, ViTConfig) and any(name.startswith(PREFIX) for name in state):
        state = from_timm(state)
    fitted = fit(spec.architecture, state, source=source)
    return Checkpoint(spec=spec, state=fitted, identity=identity_of(spec, fitted, folder), folder=folder)


def _read_spec_beside(path: Path, state: State) -> tuple[ModelSpec, Path] | None:
    """Specification from the config beside a weights file, and that config's path; None if there is none."""
    folder = path.parent
    if (folder / SPEC_FILE).is_file():
        # Licence and architecture hold for the whole folder, the training summary only for its main file.
        spec = dataclasses.replace(read_spec(folder)[0], source=str(path), training={})
        return spec, folder / SPEC_FILE
    # With configs of two projects, the one whose parameter names the weights have.
    files = [file for file in _CONFIGS if (folder / file).is_file()]
    if has_transformers_names(state):
        files.reverse()
    for file in files:
        if file == transformers.CONFIG_FILE and not _is_clip_config(folder / file):
            continue  # many programs have a config.json
        return _spec(folder.resolve().name, _CONFIGS[file](folder), source=str(path)), folder / file
    return None


def _is_clip_config(path: Path) -> bool:
    return read_json(path).get("model_type") in transformers.FAMILIES


def _read_openai(path: Path, state: State, name: str | None) -> Checkpoint:
    """Read an archive like OpenAI's; released ones are recognised by their hash."""
    state = {key: tensor for key, tensor in state.items() if key not in _NOT_PARAMETERS}
    config = infer_openai(state, source=str(path))
    known = OPENAI_ARCHIVES.get(sha256(path))
    if name is not None:
        fit(preset(name), state, source=str(path))
        if not known and preset(name).activation != config.activation:
            warnings.warn(
                f"{path} is an archive like OpenAI's, and those have {config.activation}: it is loaded with "
                f"that, although {name!r} has {preset(name).activation}. Name '{name}-quickgelu' instead",
                stacklevel=2,
            )
    spec = _spec(
        f"{known} openai" if known else path.stem,
        _default_configs(config),
        licence="mit" if known else "unknown",
        source="https://github.com/openai/CLIP" if known else str(path),
    )
    checkpoint = build_checkpoint(spec, state, source=str(path))
    return dataclasses.replace(checkpoint, checked="the SHA-256 OpenAI states") if known else checkpoint


def _read_sharded_state(folder: Path) -> State:
    """Weights of a transformers folder, in one file or several."""
    path = _first_file(folder, transformers.WEIGHTS_FILES)
    if not path.name.endswith(".index.json"):
        return read_state(path)
    table = transformers.weight_map(path)
    state: State = {}
    for file in transformers.shards(path):
        state.update(read_state(folder / file))
    if missing := [name for name in table if name not in state]:
        raise WeightsError(f"{path} lists {missing[0]!r}, which is missing from {table[missing[0]]}")
    return state


def _first_file(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder} holds a config but no weights: expected one of {', '.join(names)}")


def _spec(
    name: str,
    configs: _Configs,
    *,
    licence: str = "unknown",
    source: str,
    training: Mapping[str, Any] | None = None,
) -> ModelSpec:
    config, preprocess, tokenizer = configs
    return ModelSpec(
        name=name,
        architecture=config,
        preprocess=preprocess,
        tokenizer=tokenizer,
        licence=licence,
        source=source,
        training=training or {},
    )
