"""Tiny versions of Winoground, ARO and SugarCrepe in their released file formats, for `ToyEncoder`."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.toys import COLOURS, picture_bytes

# (image_0, image_1, caption_0, caption_1, collapsed_tag, secondary_tag); cosines by `ToyEncoder`.
WINOGROUND = [
    ("red", "blue", "red", "blue", "Object", ""),  # right in all three scores
    ("red", "blue", "blue", "red", "Object", "Series"),  # wrong in all three scores
    ("red", "blue", "red blue", "blue red", "Relation", ""),  # the same words: a tie is wrong
    # Text score only. Cosines of the pictures with "red": 0.94, -0.85; with a colourless text: 0.58, 0.28.
    ((178, 76, 76), (0, 255, 255), "red", "nothing", "Relation", ""),
    # Image score only. Cosines of the pictures with caption 0: 0.91, 0.65; with caption 1: -0.37, 0.45.
    ("red", (127, 127, 127), "red white black", "green blue", "Relation", "Series"),
]
WINOGROUND_SCORES = {"text_acc": 2 / 5, "image_acc": 2 / 5, "acc": 1 / 5}


def write_winoground(folder: Path, form: str = "zip", cases: Sequence[tuple[Any, ...]] = WINOGROUND) -> Path:
    """Write data/examples.jsonl with data/images.zip ("zip") or a folder images ("folder"), or "parquet"."""
    pictures: dict[str, bytes] = {}
    records = []
    for number, (first, second, caption_0, caption_1, collapsed, secondary) in enumerate(cases):
        names = [f"ex_{number}_img_{item}" for item in (0, 1)]
        pictures |= {name: picture_bytes(colour) for name, colour in zip(names, (first, second), strict=True)}
        records.append(
            {
                "id": number,
                "image_0": names[0],
                "image_1": names[1],
                "caption_0": caption_0,
                "caption_1": caption_1,
                "tag": "Noun",
                "secondary_tag": secondary,
                "num_main_preds": 1 + number % 2,
                "collapsed_tag": collapsed,
            }
        )
    data = folder / "data"
    data.mkdir(parents=True)
    if form == "parquet":
        _write_parquet(data / "test-00000-of-00001.parquet", records, pictures)
        return folder
    (data / "examples.jsonl").write_text("".join(json.dumps(item) + "\n" for item in records))
    if form == "zip":
        (data / "images.zip").write_bytes(zip_bytes({f"images/{n}.png": p for n, p in pictures.items()}))
    else:
        (data / "images").mkdir()
        for name, content in pictures.items():
            (data / "images" / f"{name}.png").write_bytes(content)
    return folder


def _write_parquet(path: Path, records: Sequence[dict[str, Any]], pictures: Mapping[str, bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {name: [record[name] for record in records] for name in records[0]}
    for name in ("image_0", "image_1"):
        cells = [{"bytes": pictures[record[name]], "path": f"{record[name]}.png"} for record in records]
        columns[name] = pa.array(cells, kind)
    pq.write_table(pa.table(columns), path)


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip archive of these files in this order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def halves(left: str, right: str) -> bytes:
    """A picture of 20 x 10 pixels whose halves have one colour each."""
    image = Image.new("RGB", (20, 10), COLOURS[left])
    image.paste(Image.new("RGB", (10, 10), COLOURS[right]), (10, 0))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def aro_record(true: str, false: str, *, x: float = 10, image: str = "1.png", **more: Any) -> dict[str, Any]:
    """A record of ARO, by default for the right half of the picture `halves`."""
    box = {"bbox_x": x, "bbox_y": 0, "bbox_w": 10, "bbox_h": 10}
    return {"image_id": "1", "image_path": image, "true_caption": true, "false_caption": false, **box, **more}


# The right half is blue. "on": 1 of 2 right, "under": 1 of 1; "next to" is left out of the mean: 0 of 3.
RELATIONS = [
    aro_record("blue", "red", relation_name="on"),
    aro_record("red", "blue", relation_name="on"),
    aro_record("red", "blue", x=0, relation_name="under"),
    *[aro_record("red", "blue", relation_name="next to")] * 3,
]
RELATION_SCORES = {"acc": 2 / 6, "macro_acc": (1 / 2 + 1) / 2}
# 25 cases of one relation, 20 right; 24 of another, too few to count, all right.
ATTRIBUTES = [
    *[aro_record("blue", "red", attributes=["wet", "old"])] * 20,
    *[aro_record("red", "blue", attributes=["wet", "old"])] * 5,
    *[aro_record("blue", "red", attributes=["big", "new"])] * 24,
]
ATTRIBUTE_SCORES = {"acc": 44 / 49, "macro_acc": 20 / 25}


def write_aro(folder: Path) -> Path:
    """Write both files of ARO and the folder of pictures."""
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "1.png").write_bytes(halves("red", "blue"))
    (folder / "visual_genome_relation.json").write_text(json.dumps(RELATIONS))
    (folder / "visual_genome_attribution.json").write_text(json.dumps(ATTRIBUTES))
    return folder


# file -> (filename, caption, negative_caption)
SUGAR_CREPE = {
    "add_att": [("red.png", "red", "blue"), ("blue.png", "red", "blue")],
    "replace_att": [("red.png", "red", "blue")],
    "replace_obj": [("red.png", "red", "green"), ("green.png", "red", "green")],
    "replace_rel": [("red.png", "blue", "red")],
    "swap_att": [
        ("red.png", "red", "blue"),
        ("blue.png", "blue", "red"),
        ("red.png", "red blue", "blue red"),
    ],
    "swap_obj": [("green.png", "green", "red")],
}
SUGAR_CREPE_SCORES = {
    "add_att": 1 / 2,
    "replace_att": 1.0,
    "replace_obj": 1 / 2,
    "replace_rel": 0.0,
    "swap_att": 2 / 3,
    "swap_obj": 1.0,
}
SUGAR_CREPE_MEANS = {"SugarCrepe's replace": 1 / 2, "SugarCrepe's swap": 5 / 6}  # no mean of one "add" file


def write_sugar_crepe(folder: Path, *, form: str = "folder") -> Path:
    """Write six of the seven files of SugarCrepe with val2017, as a folder or a zip."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, cases in SUGAR_CREPE.items():
        records = {
            str(3 * number): dict(zip(("filename", "caption", "negative_caption"), case, strict=True))
            for number, case in enumerate(cases)
        }
        (folder / f"{name}.json").write_text(json.dumps(records, indent=4))
    pictures = {f"val2017/{colour}.png": picture_bytes(colour) for colour in ("blue", "green", "red")}
    if form == "zip":
        (folder / "val2017.zip").write_bytes(zip_bytes(pictures))
        return folder
    (folder / "val2017").mkdir()
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
    return folder
