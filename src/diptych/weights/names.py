"""Resolve model names for loading, `--model`, training and recipes.

Nothing is read or fetched here. A name is tried as, in this order: "default", `hf-hub:ORG/REPO`, an
architecture or OpenAI's spelling of one (`diptych.model.presets.table`), `local-dir:PATH`, a path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diptych.errors import InputError, UnknownModelError, WeightsError
from diptych.model.config import CLIPConfig
from diptych.model.presets.table import is_architecture, preset
from diptych.weights.open_clip.names import reason_not_loaded
from diptych.weights.registry import suggest

HUB, LOCAL = "hf-hub:", "local-dir:"


@dataclass(frozen=True)
class ModelName:
    """A resolved name.

    Parameters
    ----------
    kind : {"default", "architecture", "repository", "folder", "file"}
        "architecture" has no weights by itself: it needs a tag of released weights, unless it is one of
        OpenAI's names, which imply OpenAI's weights.
    text : str
        Name of the architecture or repository, without a prefix; else the text as given.
    path : Path, optional
        Path of a folder or file.
    """

    kind: Literal["default", "architecture", "repository", "folder", "file"]
    text: str
    path: Path | None = None


def resolve(name: str | Path) -> ModelName:
    """Resolve a name.

    Parameters
    ----------
    name : str or Path
        "default", "hf-hub:ORG/REPO", "local-dir:PATH", an architecture, or a path. An architecture takes
        precedence over a folder of that name, which is written "./NAME" or given as a `Path`.

    Raises
    ------
    UnknownModelError
        The name is unknown; the message lists similar names, or says why open_clip's model of that name is
        not supported.
    WeightsError
        The path does not exist.

    Examples
    --------
    >>> resolve("ViT-B-32-quickgelu").kind, resolve("hf-hub:timm/vit@main").text
    ('architecture', 'timm/vit@main')
    >>> resolve("ViT-B-23")
    Traceback (most recent call last):
        ...
    diptych.errors.UnknownModelError: unknown model 'ViT-B-23'. Did you mean ViT-B-32, ViT-S-32 or \
ViT-M-32? `diptych models list` shows all
    """
    text = str(name)
    if isinstance(name, str):
        if text == "default":
            return ModelName("default", text)
        if text.startswith(HUB):
            return ModelName("repository", text.removeprefix(HUB))
        if is_architecture(text):
            return ModelName("architecture", text)
    path = named_path(name) or Path(text)
    if path.is_dir():
        return ModelName("folder", text, path)
    if path.is_file():
        return ModelName("file", text, path)
    if is_architecture(text):  # given as a Path
        return ModelName("architecture", text)
    if text.startswith(LOCAL) or isinstance(name, Path):
        raise WeightsError(f"{path} is neither a folder nor a file")
    architecture, graphs, tag = text.partition("__")
    if graphs and is_architecture(architecture):
        raise UnknownModelError(
            f"{text!r} is Immich's name of ONNX graphs, which can only be run (diptych.load, --model). "
            f"The weights of the same model are {architecture!r}, {tag.replace('-', '_')!r} (--pretrained)"
        )
    if reason := reason_not_loaded(text):
        raise UnknownModelError(f"{text!r} is a model of open_clip that is not loaded here: {reason}")
    if text.startswith(".") or "/" in text or "\\" in text:
        suggestion = suggest(text)
        raise UnknownModelError(
            f"there is no such folder or file: {text!r} (a repository of the hub is 'hf-hub:ORG/REPO')"
            + (f". {suggestion}" if "Did you mean" in suggestion else "")
        )
    raise UnknownModelError(f"unknown model {text!r}. {suggest(text)}")


def named_path(name: str | Path) -> Path | None:
    """The path that a name stands for, existing or not; None if it is no path.

    Examples
    --------
    >>> named_path("local-dir:runs/mine").as_posix(), named_path("RN50"), named_path("./RN50").name
    ('runs/mine', None, 'RN50')
    """
    text = str(name)
    if isinstance(name, str) and (text == "default" or text.startswith(HUB) or is_architecture(text)):
        return None
    return Path(text.removeprefix(LOCAL))


def resolve_architecture(name: str) -> CLIPConfig:
    """Resolve a name to an architecture to be trained from random weights.

    Raises
    ------
    UnknownModelError
        The name is unknown.
    InputError
        The name is that of weights, from which training can start.

    Examples
    --------
    >>> resolve_architecture("ViT-B/32").activation
    'quick_gelu'
    """
    resolved = resolve(name)
    if resolved.kind != "architecture":
        raise InputError(
            f"{name!r} names weights ({resolved.kind}): expected an architecture such as 'ViT-B-32' (random "
            f"weights). To start from these weights: --from {name}, or start={name!r}"
        )
    return preset(resolved.text)
