"""Export and convert the tiny models of all released families, and compare the vectors with torch's.

Takes minutes, most of them for the exporter's traces of timm towers. From the repository's root:

    PYTHONPATH=. python tests/weights/recordings/check_families.py [FAMILY ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from diptych.backends import export, load
from diptych.errors import WeightsError
from diptych.model.presets.timm_shapes import TIMM_VITS
from diptych.weights import load_checkpoint, to_diptych, to_open_clip, to_transformers
from tests.importable_timm import import_timm
from tests.weights.tiny_families import TEXTS, pictures, recorded, tiny_towers, write_folder


def main(families: list[str]) -> None:
    """Print one minus the smallest cosine over both towers for each format of each family."""
    library = import_timm()
    TIMM_VITS.update(tiny_towers())
    for family in families or recorded()["cases"]:
        with tempfile.TemporaryDirectory() as folder:
            print(family, *check(family, Path(folder)), sep="  ", flush=True)
    del library


def check(family: str, folder: Path) -> list[str]:
    """The results of all formats for one family."""
    read = load_checkpoint(write_folder(folder / "read", recorded()["cases"][family]))
    expected = vectors(folder / "read", "torch")
    results = []
    for form, write, runtime in (
        ("export", export, "onnx"),
        ("diptych", to_diptych, "torch"),
        ("open_clip", to_open_clip, "torch"),
        ("transformers", to_transformers, "torch"),
    ):
        try:
            write(read, folder / form)
        except WeightsError:
            results.append(f"{form}: refused")
            continue
        worst = min(
            (a * b).sum(1).min() for a, b in zip(expected, vectors(folder / form, runtime), strict=True)
        )
        results.append(f"{form}: {1 - worst:.0e}")
    return results


def vectors(folder: Path, runtime: str) -> tuple[object, ...]:
    """Vectors of pictures and texts by a model in a folder."""
    encoder = load(folder, runtime=runtime, exact=True)
    return encoder.encode_images(pictures()), encoder.encode_texts(TEXTS)


if __name__ == "__main__":
    main(sys.argv[1:])
