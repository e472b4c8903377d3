"""Diptych: pictures and sentences in one space.

One encoder for pictures and one for texts place both in one space, so that whatever can be said in words can
be looked for in pictures::

    import diptych

    model = diptych.load()                        # the default model, inside the package; no network
    classifier = model.classifier(["dog", "cat"])
    classifier.add("beaver")                      # a new class is a new sentence, nothing is trained
    classifier.predict("photo.jpg")

Names are imported at their first use: `import diptych` alone loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diptych.lazy import lazy_attributes

if TYPE_CHECKING:
    from diptych.backends import load
    from diptych.embedding.batches import embed_images, embed_texts
    from diptych.encoder import Encoder
    from diptych.errors import DiptychError
    from diptych.evaluation import evaluate_retrieval, evaluate_zero_shot
    from diptych.media import load_image
    from diptych.weights import list_models
    from diptych.zeroshot import TEMPLATES, ZeroShotClassifier

    __version__: str

__all__ = [
    "load",
    "list_models",
    "Encoder",
    "ZeroShotClassifier",
    "TEMPLATES",
    "load_image",
    "embed_images",
    "embed_texts",
    "evaluate_zero_shot",
    "evaluate_retrieval",
    "DiptychError",
    "__version__",
]

_MODULES = {
    "load": "backends",
    "list_models": "weights",
    "Encoder": "encoder",
    "ZeroShotClassifier": "zeroshot",
    "TEMPLATES": "zeroshot",
    "load_image": "media",
    "embed_images": "embedding.batches",
    "embed_texts": "embedding.batches",
    "evaluate_zero_shot": "evaluation",
    "evaluate_retrieval": "evaluation",
    "DiptychError": "errors",
}


if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours
    _lazy = lazy_attributes(__name__, _MODULES)

    def __getattr__(name: str) -> Any:
        """Import a name at its first use; the version is read from what is installed."""
        if name == "__version__":
            from importlib.metadata import version

            globals()[name] = version("diptych")
            return globals()[name]
        return _lazy(name)


def __dir__() -> list[str]:
    """The names of the face beside what is loaded already."""
    return sorted({*globals(), *__all__})
