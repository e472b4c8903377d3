"""One call from a name to weights: find, fetch, read, verify."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from diptych.errors import UnknownModelError, WeightsError
from diptych.inputs.config import TokenizerConfig
from diptych.model.config import CLIPConfig, TimmConfig
from diptych.weights.download import Hub, checked_against
from diptych.weights.fitting import expected_shapes
from diptych.weights.folders import finish, read_file, read_folder, read_texts, warn_of_config
from diptych.weights.foreign import read_json
from diptych.weights.names import HUB, LOCAL, resolve
from diptych.weights.native import SPEC_FILE, WEIGHTS_FILE, read_checkpoint, read_spec
from diptych.weights.open_clip import read as open_clip
from diptych.weights.openai.pickled import read_state
from diptych.weights.registry import Release, find
from diptych.weights.resizing import resize_checkpoint
from diptych.weights.spec import Checkpoint, tokenizer_file
from diptych.weights.transformers import m_clip
from diptych.weights.transformers import read as transformers
from diptych.weights.transformers.roberta import TOKENIZER_REPOSITORY, XLM_R_VOCABULARY, tokenizer_of

_GRAPHS_OWNER = "immich-app/"
# The token table that CLIPA's configs name.
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
        - a folder: a run of ours, open_clip's or transformers' (`"local-dir:path"`, or the path itself);
        - a file of weights.
    pretrained : str or Path, optional
        A tag, or a file or folder of weights for the architecture. A config beside the weights is followed;
        one that contradicts the architecture is refused. Where `name` is an M-CLIP text encoder (a folder, or
        a repository): the model whose pictures it was taught to fit, as in `"ViT-B-32 openai"`.
    image_size, context_length : int, optional
        Another side of the pictures in pixels, another length of the texts in tokens: the position tables are
        resized (`diptych.weights.resizing`). By default the model's own.
    cache_dir : str or Path, optional
        Where downloads are kept; by default where the hub's client keeps them.

    Returns
    -------
    Checkpoint
        Weights under our names, in the precision they are stored in, and what travels with them.

    Raises
    ------
    UnknownModelError
        No model of that name; the message lists the near ones.
    WeightsError
        The files cannot be read, or do not fit the architecture.
    ChecksumError
        The bytes are not the ones promised, or a part was changed since the model was saved.
    DownloadError
        The hub was needed and cannot be reached.

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
    meant = resolve(name)
    if meant.kind == "default":
        return _load_default()
    if meant.kind == "repository":
        return _load_repository(meant.text, cache_dir)
    if meant.kind == "folder" and meant.path is not None:
        return read_folder(meant.path)
    if meant.kind == "file" and meant.path is not None:
        return read_file(meant.path)
    return _load_release(find(meant.text, None), cache_dir)


def load_texts(name: str | Path, *, cache_dir: str | Path | None = None) -> m_clip.TextCheckpoint:
    """Find, fetch and read an M-CLIP text encoder, to be joined to pictures by `with_texts_of`.

    Parameters
    ----------
    name : str or Path
        A folder (`"local-dir:path"`, or the path itself), or `"hf-hub:M-CLIP/XLM-Roberta-Large-Vit-B-32"`.
    cache_dir : str or Path, optional
        Where downloads are kept.

    Raises
    ------
    UnknownModelError
        No such repository, or one of another kind.
    WeightsError
        The folder holds no M-CLIP text encoder.
    DownloadError
        The hub was needed and cannot be reached.
    """
    text = str(name)
    if not text.startswith(HUB):
        return read_texts(Path(text.removeprefix(LOCAL)))
    return _fetch_texts(Hub(text.removeprefix(HUB), cache_dir=cache_dir))


def _fetch_texts(hub: Hub) -> m_clip.TextCheckpoint:
    config = hub.fetch(transformers.CONFIG_FILE)
    tower, _ = m_clip.read_config(read_json(config))
    licence = hub.announce(*transformers.WEIGHTS_FILES)
    home = _fetch_tokenizer(hub, tokenizer_of(tower))
    _fetch_weights(hub, transformers.WEIGHTS_FILES)
    return read_texts(
        config.parent,
        licence=licence,
        source=f"https://huggingface.co/{hub.repository}",
        tokenizer_folder=home,
    )


def _fetch_tokenizer(hub: Hub, tokenizer: TokenizerConfig) -> Path | None:
    """The folder of a tokenizer's file: the repository's own, or the one whose table it shares."""
    if (table := tokenizer_file(tokenizer)) is None:
        return None
    path = hub.find(table)
    if path is None and tokenizer.vocab_size == XLM_R_VOCABULARY:
        path = Hub(TOKENIZER_REPOSITORY, cache_dir=hub.cache_dir, licence="mit").fetch(table)
    elif path is None and tokenizer.strip_sep_token:
        path = Hub(BERT_REPOSITORY, cache_dir=hub.cache_dir, licence="apache-2.0").fetch(table)
    return None if path is None else path.parent


def _joined(texts: m_clip.TextCheckpoint, pictures: str, cache_dir: str | Path | None) -> Checkpoint:
    """Texts with the pictures of a model named in one word or two: `ViT-B/32`, `ViT-B-32 openai`, a path."""
    if Path(pictures.removeprefix(LOCAL)).exists():
        return m_clip.with_texts_of(load_checkpoint(pictures, cache_dir=cache_dir), texts)
    return m_clip.with_texts_of(load_checkpoint(*pictures.split(maxsplit=1), cache_dir=cache_dir), texts)


def _texts_in(name: str, cache_dir: str | Path | None) -> m_clip.TextCheckpoint | None:
    """The M-CLIP text encoder of that name, or None where it names something else."""
    if name.startswith("hf-hub:M-CLIP/"):  # of other repositories that are whole, nothing need be fetched
        return load_texts(name, cache_dir=cache_dir)
    config = Path(name.removeprefix(LOCAL)) / transformers.CONFIG_FILE
    if config.is_file() and read_json(config).get("model_type") == m_clip.MODEL_TYPE:
        return load_texts(name)
    return None


def _load_pair(name: str | Path, pretrained: str | Path, cache_dir: str | Path | None) -> Checkpoint:
    if (texts := _texts_in(str(name), cache_dir)) is not None:
        return _joined(texts, str(pretrained), cache_dir)
    meant = resolve(name)
    if meant.kind != "architecture":
        raise UnknownModelError(
            f"{str(name)!r} has its weights already: leave out {str(pretrained)!r}, or name an architecture"
        )
    path = Path(str(pretrained).removeprefix(LOCAL))
    if path.is_dir():
        return read_folder(path, architecture=meant.text)
    if path.is_file():
        return read_file(path, meant.text)
    if isinstance(pretrained, Path) or path.suffix in (".pt", ".pth", ".bin", ".safetensors"):
        raise WeightsError(f"{path} is not a file")
    return _load_release(find(meant.text, str(pretrained)), cache_dir)


def _load_default() -> Checkpoint:
    if not (DEFAULT_FOLDER / SPEC_FILE).is_file():
        raise UnknownModelError(
            f"the default model is not in this installation ({DEFAULT_FOLDER} holds none): reinstall "
            "diptych, or name a model, a folder or a file"
        )
    return read_checkpoint(DEFAULT_FOLDER)


def _load_release(release: Release, cache_dir: str | Path | None) -> Checkpoint:
    if release.layout != "open_clip":
        return _load_repository(release.repository, cache_dir, release)
    spec = release.spec()
    _refuse_unbuildable(spec.architecture)
    files = (release.file,) if release.file else open_clip.WEIGHTS_FILES
    hub = Hub(release.hub_repository, cache_dir=cache_dir, licence=release.licence)
    hub.announce(*files)
    path = hub.fetch(*files)
    state = open_clip.read_names(read_state(path))
    # Not fetched for this: the table of releases is open_clip's own, which its tags follow too.
    warn_of_config(
        path.parent / open_clip.CONFIG_FILE,
        spec.architecture,
        spec.preprocess,
        followed=f"the tag {release.tag!r}",
    )
    home = _fetch_tokenizer(hub, spec.tokenizer)
    read = finish(spec, state, folder=home, source=f"{release.name} ({path})")
    return dataclasses.replace(read, checked=checked_against(path))


def _refuse_unbuildable(architecture: CLIPConfig) -> None:
    """Say before anything large is fetched that timm is missing, or has no tower of that name."""
    if isinstance(architecture.vision, TimmConfig):
        expected_shapes(architecture)


def _load_repository(
    repository: str, cache_dir: str | Path | None, release: Release | None = None
) -> Checkpoint:
    """A whole repository: its config says what else belongs to it."""
    if repository.startswith(_GRAPHS_OWNER):
        raise UnknownModelError(
            f"{repository!r} holds ONNX graphs, which are run as they are: no weights to train, convert or "
            "export. diptych.load, --model, models show and models verify take it"
        )
    hub = Hub(repository, cache_dir=cache_dir, licence=release.licence if release else None)
    config = hub.fetch(open_clip.CONFIG_FILE, transformers.CONFIG_FILE, SPEC_FILE)
    if config.name == SPEC_FILE:
        hub.announce(WEIGHTS_FILE)
        hub.fetch(WEIGHTS_FILE)
        if (table := tokenizer_file(read_spec(config.parent)[0].tokenizer)) is not None:
            hub.fetch(table)
        return read_folder(config.parent)
    if read_json(config).get("model_type") == m_clip.MODEL_TYPE:
        if (pictures := m_clip.PICTURES_OF.get(hub.repository)) is None:
            raise UnknownModelError(
                f"{hub.repository!r} holds texts only: name the model whose pictures these texts were taught "
                f"to fit, as in load('hf-hub:{hub.repository}', 'ViT-B-32 openai')"
            )
        return _joined(_fetch_texts(hub), pictures, cache_dir)
    ours = open_clip if config.name == open_clip.CONFIG_FILE else transformers
    # Before gigabytes are fetched: is it a model that can be built?
    architecture, _, tokenizer = ours.read_config(read_json(config))
    _refuse_unbuildable(architecture)
    licence = hub.announce(*ours.WEIGHTS_FILES)
    extras = transformers.PREPROCESS_FILES if ours is transformers else ()
    for extra in (*extras, transformers.TOKENIZER_CONFIG) if tokenizer.kind == "file" else extras:
        hub.find(extra)
    home = _fetch_tokenizer(hub, tokenizer)
    weights = _fetch_weights(hub, ours.WEIGHTS_FILES)
    name = release.name if release else repository
    source = f"https://huggingface.co/{hub.repository}"
    read = read_folder(config.parent, name=name, licence=licence, source=source, tokenizer_folder=home)
    return dataclasses.replace(read, checked=checked_against(*weights))


def _fetch_weights(hub: Hub, names: tuple[str, ...]) -> list[Path]:
    path = hub.fetch(*names)
    if path.name.endswith(".index.json"):
        return [hub.fetch(shard) for shard in transformers.shards(path)]
    return [path]
