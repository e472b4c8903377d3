"""Find released ONNX models by name: a folder, a name of Immich's, a repository of the hub.

Only the needed files of a repository are fetched. `immich` and `transformers_js` read them. No torch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.backends.exported import immich, transformers_js
from diptych.backends.exported.folder import is_exported
from diptych.backends.exported.graph_file import read_graph
from diptych.errors import InputError, UnknownModelError
from diptych.weights.foreign_configs import read_json
from diptych.weights.names import HUB, named_path
from diptych.weights.transformers.read import CONFIG_FILE

if TYPE_CHECKING:
    from diptych.backends.exported.released import ReleasedModel
    from diptych.weights.download import Hub

# Owners and prefixes of repositories that are read as ONNX graphs. Others may have weights, for torch.
TRANSFORMERS_JS_OWNERS = ("Xenova/", "onnx-community/", "jinaai/jina-clip-")


def find_released(
    name: str | Path, *, precision: str | None = None, cache_dir: str | Path | None = None
) -> ReleasedModel | None:
    """Find a released ONNX model, and fetch it if needed; None if the name is that of something else.

    Parameters
    ----------
    name : str or path
        A folder, `"hf-hub:immich-app/NAME"`, `"hf-hub:jinaai/jina-clip-v2"`, `"hf-hub:Xenova/NAME"`, or a
        name of Immich's, `"ViT-B-32__openai"`.
    precision : {"float32", "float16", "int8"}, optional
        Precision of the graphs, if there are several; by default the best available.
    cache_dir : path, optional
        Folder for downloads.

    Raises
    ------
    WeightsError, InputError
        The folder is invalid, or lacks that precision.
    UnknownModelError, DownloadError, ChecksumError
        As for any repository of the hub.
    """
    text = str(name)
    if text.startswith(HUB):
        return _from_hub(text.removeprefix(HUB), precision, cache_dir)
    folder = named_path(name)
    if folder is None:  # an architecture takes precedence over a folder of that name
        return None
    if folder.is_dir():
        return None if is_exported(folder) else read_released(folder, precision=precision)
    if any(text == model.name for model in immich.list_immich_models()):
        return _from_hub(f"{immich.ORGANISATION}/{text}", precision, cache_dir)
    return None


def read_released(
    folder: Path,
    *,
    precision: str | None = None,
    name: str | None = None,
    licence: str = "unknown",
    source: str = "",
) -> ReleasedModel | None:
    """Read the model in a folder of a released layout; None if it is another kind of folder.

    Raises
    ------
    WeightsError, InputError
        As for `find_released`.
    """
    if immich.is_immich(folder):
        if precision not in (None, "float32"):
            raise InputError(f"{folder} holds no graphs in {precision}; it holds float32")
        model = immich.read_immich(folder, name=name, licence=licence, source=source)
        model_name = model.spec.name.rpartition("/")[2]
        languages = [known.languages for known in immich.list_immich_models() if known.name == model_name]
        return replace(model, spec=replace(model.spec, languages=tuple(languages)))
    if transformers_js.is_transformers_js(folder) and not _holds_weights(folder):
        return transformers_js.read_transformers_js(
            folder, precision=precision, name=name, licence=licence, source=source
        )
    return None


def _holds_weights(folder: Path) -> bool:
    """Whether a folder has weights besides graphs, except a jina-clip, whose weights need its own code."""
    if not any((*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin"))):
        return False
    return read_json(folder / CONFIG_FILE).get("model_type") != "jina_clip"


def _from_hub(repository: str, precision: str | None, cache_dir: str | Path | None) -> ReleasedModel | None:
    """Fetch a repository in a released layout, only its needed files; None if it is another kind."""
    from diptych.weights.download import Hub

    if not repository.startswith((f"{immich.ORGANISATION}/", *TRANSFORMERS_JS_OWNERS)):
        return None
    hub = Hub(repository, cache_dir=cache_dir)
    is_immich = repository.startswith(f"{immich.ORGANISATION}/")
    known = [model.name for model in immich.list_immich_models()]
    if is_immich and hub.repository.partition("/")[2] not in known:
        raise UnknownModelError(
            f"Immich has no search model of that name: {repository!r}. It has {', '.join(known)}"
        )
    small = immich.SMALL_FILES if is_immich else transformers_js.SMALL_FILES
    folder = hub.fetch(small[0]).parent
    graphs = immich.GRAPHS if is_immich else _graphs_on(hub, precision)
    licence = hub.announce(*graphs)
    for file in small[1:]:
        hub.fetch(file)
    for file in graphs:
        graph = read_graph(hub.fetch(file), root=folder, data_needed=False)
        for data_file in graph.data_files:
            hub.fetch(data_file.relative_to(folder).as_posix())
    return read_released(
        folder,
        precision=precision,
        name=hub.repository,
        licence=licence,
        source=f"https://huggingface.co/{hub.repository}",
    )


def _graphs_on(hub: Hub, precision: str | None) -> tuple[str, ...]:
    """Names of the graphs of a precision on the hub, or of the best available one."""
    candidates = [precision] if precision is not None else list(transformers_js.SUFFIXES)
    for candidate in candidates:
        if candidate not in transformers_js.SUFFIXES:
            raise InputError(
                f"precision {candidate!r}: expected one of {', '.join(transformers_js.SUFFIXES)}"
            )
        for names in transformers_js.graph_names(candidate):
            if all(hub.find(name) is not None for name in names):
                return names
    raise UnknownModelError(
        f"the repository {hub.repository!r} holds no ONNX graphs in {' or '.join(candidates)}"
    )
