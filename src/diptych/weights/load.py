"""Load a checkpoint by name: find, fetch, read and verify it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from diptych.errors import UnknownModelError, WeightsError
from diptych.inputs.config import TokenizerConfig
from diptych.model.config import CLIPConfig, TimmConfig
from diptych.weights.download import Hub, hub_check_description
from diptych.weights.fitting import expected_shapes
from diptych.weights.folders import (
    build_checkpoint,
    read_file,
    read_folder,
    read_text_encoder,
    warn_of_config,
)
from diptych.weights.foreign_configs import read_json
from diptych.weights.names import HUB, LOCAL, resolve
from diptych.weights.native import SPEC_FILE, WEIGHTS_FILE, read_checkpoint, read_spec
from diptych.weights.open_clip import read as open_clip
from diptych.weights.openai.pickled import read_state
from diptych.weights.registry import Release, find_release
from diptych.weights.resizing import resize_checkpoint
from diptych.weights.spec import Checkpoint, tokenizer_file
from diptych.weights.transformers import m_clip
from diptych.weights.transformers import read as transformers
from diptych.weights.transformers.roberta import TOKENIZER_REPOSITORY, XLM_R_VOCABULARY, roberta_tokenizer

_GRAPHS_OWNER = "immich-app/"  # its repositories contain ONNX graphs
# The tokenizer that CLIPA's configs name.
BERT_REPOSITORY = "google-bert/bert-base-uncased"
DEFAULT_FOLDER = Path(__file__).parent / "default"


def load_checkpoint(
    name: str | Path = "default",
    pretrained: str | Path | None = None,
    *,
    image_size: int | None = None,
    context_length: int | None = None,
    cache_dir: str | Path | None = None,
) -> Checkpoint:
    """Find, fetch, read and verify a model's weights.

    Parameters
    ----------
    name : str or Path
        - "default": the model inside this package, which needs no network;
        - an architecture, with `pretrained`: `"ViT-B-32", "openai"`;
        - one of OpenAI's names: `"ViT-B/32"`, `"ViT-L/14@336px"`;
        - a repository of the hub: `"hf-hub:org/repo"`, `"hf-hub:org/repo@revision"`;
        - a folder: a training run, or our, open_clip's or transformers' format (`"local-dir:path"`, or the
          path itself);
        - a file of weights.
    pretrained : str or Path, optional
        A tag, or a file or folder of weights for the architecture. A config beside the weights is followed;
        one that contradicts the architecture is refused. If `name` is an M-CLIP text encoder (a folder or a
        repository): the model whose image encoder it was trained for, as in `"ViT-B-32 openai"`.
    image_size, context_length : int, optional
        Another image size in pixels or context length in tokens: positional embeddings are resized
        (`diptych.weights.resizing`). By default the model's own.
    cache_dir : str or Path, optional
        Folder for downloads; by default the hub client's cache.

    Returns
    -------
    Checkpoint
        Weights under our names, in the precision they are stored in, and their specification.

    Raises
    ------
    UnknownModelError
        No model has this name; the message lists similar names.
    WeightsError
        The files cannot be read, or do not fit the architecture.
    ChecksumError
        A file does not have its published hash, or a part was changed since the model was saved.
    DownloadError
        The hub was needed and is not reachable.

    Examples
    --------
    >>> load_checkpoint("ViT-B-23", "openai")
    Traceback (most recent call last):
        ...
    diptych.errors.UnknownModelError: unknown model 'ViT-B-23'. Did you mean ViT-B-32, ViT-S-32 or \
ViT-M-32? `diptych models list` shows all
    """
    checkpoint = _load(name, pretrained, cache_dir)
    return resize_checkpoint(checkpoint, image_size=image_size, context_length=context_length)


def _load(name: str | Path, pretrained: str | Path | None, cache_dir: str | Path | None) -> Checkpoint:
    if pretrained is not None:
        return _load_pair(name, pretrained, cache_dir)
    resolved = resolve(name)
    if resolved.kind == "default":
        return _load_default()
    if resolved.kind == "repository":
        return _load_repository(resolved.text, cache_dir)
    if resolved.kind == "folder" and resolved.path is not None:
        return read_folder(resolved.path)
    if resolved.kind == "file" and resolved.path is not None:
        return read_file(resolved.path)
    return _load_release(find_release(resolved.text, None), cache_dir)


def load_text_encoder(name: str | Path, *, cache_dir: str | Path | None = None) -> m_clip.TextCheckpoint:
    """Find, fetch and read an M-CLIP text encoder, for `join_text_encoder`.

    Parameters
    ----------
    name : str or Path
        A folder (`"local-dir:path"`, or the path itself), or `"hf-hub:M-CLIP/XLM-Roberta-Large-Vit-B-32"`.
    cache_dir : str or Path, optional
        Folder for downloads.

    Raises
    ------
    UnknownModelError
        The repository does not exist, or contains no M-CLIP text encoder.
    WeightsError
        The folder contains no M-CLIP text encoder.
    DownloadError
        The hub was needed and is not reachable.
    """
    text = str(name)
    if not text.startswith(HUB):
        return read_text_encoder(Path(text.removeprefix(LOCAL)))
    return _fetch_text_encoder(Hub(text.removeprefix(HUB), cache_dir=cache_dir))


def _fetch_text_encoder(hub: Hub) -> m_clip.TextCheckpoint:
    config = hub.fetch(transformers.CONFIG_FILE)
    tower, _ = m_clip.read_config(read_json(config))
    licence = hub.announce(*transformers.WEIGHTS_FILES)
    tokenizer_folder = _fetch_tokenizer(hub, roberta_tokenizer(tower))
    _fetch_weights(hub, transformers.WEIGHTS_FILES)
    return read_text_encoder(
        config.parent,
        licence=licence,
        source=f"https://huggingface.co/{hub.repository}",
        tokenizer_folder=tokenizer_folder,
    )


def _fetch_tokenizer(hub: Hub, tokenizer: TokenizerConfig) -> Path | None:
    """Fetch a tokenizer's file, from the repository or from that of its base model; return its folder."""
    if (file := tokenizer_file(tokenizer)) is None:
        return None
    path = hub.find(file)
    if path is None and tokenizer.vocab_size == XLM_R_VOCABULARY:
        path = Hub(TOKENIZER_REPOSITORY, cache_dir=hub.cache_dir, licence="mit").fetch(file)
    elif path is None and tokenizer.strip_sep_token:  # CLIPA
        path = Hub(BERT_REPOSITORY, cache_dir=hub.cache_dir, licence="apache-2.0").fetch(file)
    return None if path is None else path.parent


def _join_image_encoder(
    texts: m_clip.TextCheckpoint, image_model: str, cache_dir: str | Path | None
) -> Checkpoint:
    """Join a text encoder with the image encoder of a model: `ViT-B/32`, `ViT-B-32 openai`, or a path."""
    # A path may contain spaces, so it is tried before name and tag.
    if Path(image_model.removeprefix(LOCAL)).exists():
        checkpoint = load_checkpoint(image_model, cache_dir=cache_dir)
    else:
        checkpoint = load_checkpoint(*image_model.split(maxsplit=1), cache_dir=cache_dir)
    return m_clip.join_text_encoder(checkpoint, texts)


def _find_text_encoder(name: str, cache_dir: str | Path | None) -> m_clip.TextCheckpoint | None:
    """Load an M-CLIP text encoder by name; None if the name is that of something else."""
    if name.startswith("hf-hub:M-CLIP/"):  # recognised by name, so that other repositories are not fetched
        return load_text_encoder(name, cache_dir=cache_dir)
    config = Path(name.removeprefix(LOCAL)) / transformers.CONFIG_FILE
    if config.is_file() and read_json(config).get("model_type") == m_clip.MODEL_TYPE:
        return load_text_encoder(name)
    return None


def _load_pair(name: str | Path, pretrained: str | Path, cache_dir: str | Path | None) -> Checkpoint:
    if (texts := _find_text_encoder(str(name), cache_dir)) is not None:
        return _join_image_encoder(texts, str(pretrained), cache_dir)
    resolved = resolve(name)
    if resolved.kind != "architecture":
        raise UnknownModelError(
            f"{str(name)!r} has weights already: leave out {str(pretrained)!r}, or name an architecture"
        )
    path = Path(str(pretrained).removeprefix(LOCAL))
    if path.is_dir():
        return read_folder(path, architecture=resolved.text)
    if path.is_file():
        return read_file(path, resolved.text)
    if isinstance(pretrained, Path) or path.suffix in (".pt", ".pth", ".bin", ".safetensors"):
        raise WeightsError(f"{path} is not a file")
    return _load_release(find_release(resolved.text, str(pretrained)), cache_dir)


def _load_default() -> Checkpoint:
    if not (DEFAULT_FOLDER / SPEC_FILE).is_file():
        raise UnknownModelError(
            f"the default model is missing from this installation ({DEFAULT_FOLDER}): reinstall diptych, or "
            "name a model, a folder or a file"
        )
    return read_checkpoint(DEFAULT_FOLDER)


def _load_release(release: Release, cache_dir: str | Path | None) -> Checkpoint:
    if release.layout != "open_clip":
        return _load_repository(release.repository, cache_dir, release)
    spec = release.spec()
    _check_buildable(spec.architecture)
    files = (release.file,) if release.file else open_clip.WEIGHTS_FILES
    hub = Hub(release.hub_repository, cache_dir=cache_dir, licence=release.licence)
    hub.announce(*files)
    path = hub.fetch(*files)
    state = open_clip.from_open_clip(read_state(path))
    # Only if the config is there: it is not fetched, as the table of releases has open_clip's own values.
    warn_of_config(
        path.parent / open_clip.CONFIG_FILE,
        spec.architecture,
        spec.preprocess,
        followed=f"the tag {release.tag!r}",
    )
    tokenizer_folder = _fetch_tokenizer(hub, spec.tokenizer)
    checkpoint = build_checkpoint(spec, state, folder=tokenizer_folder, source=f"{release.name} ({path})")
    return dataclasses.replace(checkpoint, checked=hub_check_description(path))


def _check_buildable(architecture: CLIPConfig) -> None:
    """Raise before a large download if timm is missing, or has no architecture of that name."""
    if isinstance(architecture.vision, TimmConfig):
        expected_shapes(architecture)


def _load_repository(
    repository: str, cache_dir: str | Path | None, release: Release | None = None
) -> Checkpoint:
    """Load a repository of the hub: its config says which other files it needs."""
    if repository.startswith(_GRAPHS_OWNER):
        raise UnknownModelError(
            f"{repository!r} holds ONNX graphs, which can only be run: there are no weights to train, "
            "convert or export. diptych.load, --model, models show and models verify take it"
        )
    hub = Hub(repository, cache_dir=cache_dir, licence=release.licence if release else None)
    config = hub.fetch(open_clip.CONFIG_FILE, transformers.CONFIG_FILE, SPEC_FILE)
    if config.name == SPEC_FILE:
        hub.announce(WEIGHTS_FILE)
        hub.fetch(WEIGHTS_FILE)
        if (file := tokenizer_file(read_spec(config.parent)[0].tokenizer)) is not None:
            hub.fetch(file)
        return read_folder(config.parent)
    if read_json(config).get("model_type") == m_clip.MODEL_TYPE:
        if (image_model := m_clip.IMAGE_MODELS.get(hub.repository)) is None:
            raise UnknownModelError(
                f"{hub.repository!r} holds only a text encoder: also name the model whose image encoder it "
                f"was trained for, as in load('hf-hub:{hub.repository}', 'ViT-B-32 openai')"
            )
        return _join_image_encoder(_fetch_text_encoder(hub), image_model, cache_dir)
    reader = open_clip if config.name == open_clip.CONFIG_FILE else transformers
    # The config is checked before gigabytes of weights are fetched.
    architecture, _, tokenizer = reader.read_config(read_json(config))
    _check_buildable(architecture)
    licence = hub.announce(*reader.WEIGHTS_FILES)
    extras = transformers.PREPROCESS_FILES if reader is transformers else ()
    for extra in (*extras, transformers.TOKENIZER_CONFIG) if tokenizer.kind == "file" else extras:
        hub.find(extra)
    tokenizer_folder = _fetch_tokenizer(hub, tokenizer)
    weights = _fetch_weights(hub, reader.WEIGHTS_FILES)
    name = release.name if release else repository
    source = f"https://huggingface.co/{hub.repository}"
    checkpoint = read_folder(
        config.parent, name=name, licence=licence, source=source, tokenizer_folder=tokenizer_folder
    )
    return dataclasses.replace(checkpoint, checked=hub_check_description(*weights))


def _fetch_weights(hub: Hub, names: tuple[str, ...]) -> list[Path]:
    """Fetch the first of these files, or all the shards that it lists."""
    path = hub.fetch(*names)
    if path.name.endswith(".index.json"):
        return [hub.fetch(shard) for shard in transformers.shards(path)]
    return [path]
