"""Descriptions of ONNX graphs, exported or released, for `diptych models`; needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import WeightsError

if TYPE_CHECKING:
    from diptych.backends import ExportedEncoder
    from diptych.backends.exported.released import ReleasedModel


def find_graphs(model: str) -> Path | ReleasedModel | None:
    """Find the ONNX graphs that a name stands for: an exported folder or a released model; else None."""
    from diptych.backends.exported.finding import find_released
    from diptych.backends.exported.folder import is_exported
    from diptych.weights.names import named_path

    folder = named_path(model)
    return folder if folder is not None and is_exported(folder) else find_released(model)


def describe_graphs(graphs: Path | ReleasedModel) -> dict[str, Any]:
    """Facts about ONNX graphs as JSON values, the most important first."""
    from diptych.backends.exported.folder import read_export

    if isinstance(graphs, Path):
        spec, layout, files = read_export(graphs), "diptych export", dict(read_export(graphs).sizes)
    else:
        spec, layout = graphs.spec, graphs.layout
        paths = dict.fromkeys([*graphs.image.graph.files, *graphs.text.graph.files])
        files = {path.relative_to(graphs.folder).as_posix(): path.stat().st_size for path in paths}
    facts: dict[str, Any] = {
        "name": spec.name,
        "identity": spec.identity,
        "licence": spec.licence,
        "source": spec.source,
        "layout": layout,
        "dim": spec.dim,
        "logit_scale": spec.logit_scale,
        "logit_bias": spec.logit_bias,
        "languages": list(spec.languages),
        "files": files,
        "preprocess": spec.preprocess.to_dict(),
        "tokenizer": spec.tokenizer.to_dict(),
        "architecture": dict(spec.architecture),
    }
    if not isinstance(graphs, Path):
        towers = {"image": graphs.image, "text": graphs.text}
        facts["graphs"] = {
            name: f"{', '.join(map(str, tower.graph.inputs))} -> {tower.signature.output}"
            for name, tower in towers.items()
        }
    return facts


def verify_graphs(graphs: Path | ReleasedModel) -> ExportedEncoder:
    """Open the graphs and encode two pictures and two texts, whose embeddings must differ.

    Raises
    ------
    WeightsError
        The runtime refuses them, or both inputs give the same embedding.
    """
    from diptych.backends import ExportedEncoder
    from diptych.backends.conversion.samples import TEXTS, synthetic_images

    encoder = ExportedEncoder(graphs)
    images = encoder.encode_images(synthetic_images(2, side=encoder.input_size))
    texts = encoder.encode_texts(TEXTS[:2])
    for name, embeddings in (("image", images), ("text", texts)):
        if abs(embeddings[0] - embeddings[1]).max() < 1e-6:
            raise WeightsError(
                f"the {name} tower of {encoder.spec.name} gives the same embedding for every input"
            )
    return encoder


def immich_rows() -> list[dict[str, Any]]:
    """One dictionary for each model that Immich offers."""
    from dataclasses import asdict

    from diptych.backends.exported.immich import list_immich_models

    return [{**asdict(model), "repository": model.repository} for model in list_immich_models()]
