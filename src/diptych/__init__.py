"""Diptych: train, evaluate and use CLIP models.

An image encoder and a text encoder map images and texts into a shared embedding space, so that images can be
classified and searched by text::

    import diptych

    model = diptych.load()                        # the default model, part of the package; no download
    classifier = model.classifier(["dog", "cat"])
    classifier.add("beaver")                      # a new class is a new text, nothing is trained
    classifier.predict("photo.jpg")

Names are imported at first use: `import diptych` alone does not import torch. A `Searcher` searches a
`Store`, the collection of pictures that ``diptych index`` fills; `train` trains a model as a `TrainConfig`
describes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diptych.lazy import lazy_attributes

if TYPE_CHECKING:
    from diptych.backends import load
    from diptych.catalog import Searcher, Store
    from diptych.embedding.batches import embed_images, embed_texts
    from diptych.encoder import Encoder
    from diptych.errors import DiptychError
    from diptych.evaluation import evaluate_retrieval, evaluate_zero_shot
    from diptych.media import load_image
    from diptych.training import TrainConfig, train
    from diptych.weights import list_models
    from diptych.zeroshot import TEMPLATES, ZeroShotClassifier

    __version__: str

__all__ = [
    "load", "list_models", "Encoder", "ZeroShotClassifier", "TEMPLATES", "load_image", "embed_images",
    "embed_texts", "evaluate_zero_shot", "evaluate_retrieval", "Store", "Searcher", "TrainConfig", "train",
    "DiptychError", "__version__",
]  # fmt: skip

_MODULES = {
    "load": "backends", "list_models": "weights", "Encoder": "encoder",
    "ZeroShotClassifier": "zeroshot", "TEMPLATES": "zeroshot", "load_image": "media",
    "embed_images": "embedding.batches", "embed_texts": "embedding.batches",
    "evaluate_zero_shot": "evaluation", "evaluate_retrieval": "evaluation", "Store": "catalog",
    "Searcher": "catalog", "TrainConfig": "training", "train": "training", "DiptychError": "errors",
}  # fmt: skip


if not TYPE_CHECKING:  # a type checker that sees __getattr__ would accept any misspelt name
    _lazy = lazy_attributes(__name__, _MODULES)

    def __getattr__(name: str) -> Any:
        """Import a name at its first use; the version comes from the installed package's metadata."""
        if name == "__version__":
            from importlib.metadata import version

            globals()[name] = version("diptych")
            return globals()[name]
        return _lazy(name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
