"""What `diptych models` says of ONNX graphs, exported or released: no weights to read, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import WeightsError

if TYPE_CHECKING:
    from diptych.backends import ExportedEncoder
    from diptych.backends.exported.released import ReleasedModel


def find_graphs(model: str) -> Path | ReleasedModel | None:
    """What a name means if it means ONNX graphs: an exported folder, or a released model; else None."""
    from diptych.backends.exported.finding import find_released
    from diptych.backends.exported.folder import is_exported
    from diptych.weights.names import named_path

    folder = named_path(model)
    return folder if folder is not None and is_exported(folder) else find_released(model)


def describe_graphs(found: Path | ReleasedModel) -> dict[str, Any]:
    """Graphs as plain values, in the order in which one asks."""
    from diptych.backends.exported.folder import read_export

    if isinstance(found, Path):
        spec, layout, files = read_export(found), "diptych export", dict(read_export(found).sizes)
    else:
        spec, layout = found.spec, found.layout
        paths = dict.fromkeys([*found.image.graph.files, *found.text.graph.files])
        files = {path.relative_to(found.folder).as_posix(): path.stat().st_size for path in paths}
    told: dict[str, Any] = {
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
    if not isinstance(found, Path):
        towers = {"image": found.image, "text": found.text}
        told["graphs"] = {
            name: f"{', '.join(map(str, tower.graph.inputs))} -> {tower.signature.output}"
            for name, tower in towers.items()
        }
    return told


def verify_graphs(found: Path | ReleasedModel) -> ExportedEncoder:
    """Graphs opened and computed once: a picture and two texts, which have to differ.

    Raises
    ------
    WeightsError
        A runtime refuses them, or every input gives the same row.
    """
    from diptych.backends import ExportedEncoder
    from diptych.backends.conversion.samples import TEXTS, drawn_pictures

    encoder = ExportedEncoder(found)
    images = encoder.encode_images(drawn_pictures(2, side=encoder.input_size))
    texts = encoder.encode_texts(TEXTS[:2])
    for name, rows in (("image", images), ("text", texts)):
        if abs(rows[0] - rows[1]).max() < 1e-6:
            raise WeightsError(f"the {name} tower of {encoder.spec.name} gives one row for every input")
    return encoder


def immich_rows() -> list[dict[str, Any]]:
    """One row for each model that Immich offers."""
    from dataclasses import asdict

    from diptych.backends.exported.immich import list_immich_models

    return [{**asdict(model), "repository": model.repository} for model in list_immich_models()]
