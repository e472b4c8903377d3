"""Encoding speed of whole models by runtime, beside open_clip's ViT-B-32, at equal threads in one run.

    python benchmarks/encode_models.py [--model MODEL]... [--peer-python PATH] [--threads N] [--json FILE]

The work: JPEG photographs of 0.5 megapixels (as in encode.py), from files to embeddings; and prompts of
ImageNet's classes in one template. Each model runs on torch, ONNX Runtime and OpenVINO in float32, or in
another precision where the runtime has it (--precision). ViT-B-32 has random weights: the peer runs it in
eager float32 with its own preprocessing, ours on torch. The sides alternate, the first round warms up, and
medians are reported. The ratio is to the peer, without a peer to our ViT-B-32.

A small model at a small picture size is compared with a large one here: the ratio is what a user gains in
speed, not a comparison of implementations, which encode.py makes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common import Conversation, arguments, machine
from encode import PACK, SIZES, AnyEncoder, photographs, random_weights, write
from safetensors.torch import save_file

import diptych
from diptych.backends import TorchEncoder
from diptych.embedding.batches import collect, embed_images, embed_texts
from diptych.errors import DiptychError
from diptych.inputs import processors
from diptych.zeroshot import class_names

RUNTIMES = ("torch", "onnx", "openvino")
SIZE = "0.5 MP"
PEER = "open_clip ViT-B-32"
OURS = "ViT-B-32"


@dataclass
class Rates:
    """Seconds of each round of one side."""

    name: str
    runtime: str
    precision: str
    side: int | None  # of the square input, pixels
    pictures: list[float] = field(default_factory=list)
    texts: list[float] = field(default_factory=list)


def per_second(count: int, seconds: Sequence[float]) -> float:
    """Rate at the median of the rounds after the first, which warms up.

    Examples
    --------
    >>> per_second(10, [9.0, 2.0, 4.0, 5.0])
    2.5
    """
    return count / statistics.median(seconds[1:])


def open_models(models: Sequence[str], precision: str, threads: int) -> list[tuple[Rates, AnyEncoder]]:
    """Each model on each runtime; a runtime that refuses the model or the precision is named and left out."""
    opened: list[tuple[Rates, AnyEncoder]] = []
    for model in models:
        for runtime in RUNTIMES:
            try:
                encoder = diptych.load(model, runtime=runtime, precision=precision, threads=threads)
            except DiptychError as error:
                print(f"{model} on {runtime} is left out: {error}")
                continue
            opened.append((Rates(model, runtime, encoder.precision, encoder.input_size), encoder))
    return opened


def measure(
    sides: Sequence[tuple[Rates, AnyEncoder | Conversation]],
    files: Sequence[Path],
    texts: Sequence[str],
    threads: int,
    rounds: int,
) -> None:
    """Fill the rates: all sides in turn, `rounds` times and once before."""
    with tempfile.TemporaryDirectory() as home:
        rows = str(Path(home, "rows.npy"))
        for _ in range(rounds + 1):
            for rates, encoder in sides:
                if isinstance(encoder, Conversation):
                    work = {"files": [str(path) for path in files], "rows": rows}
                    rates.pictures.append(encoder.ask(work)["seconds"])
                    rates.texts.append(encoder.ask({"texts": list(texts)})["seconds"])
                    continue
                start = time.perf_counter()
                stream = embed_images(encoder, ((str(path), path) for path in files), threads=threads)
                collect(stream, encoder.dim)
                middle = time.perf_counter()
                embed_texts(encoder, texts)
                rates.pictures.append(middle - start)
                rates.texts.append(time.perf_counter() - middle)


def table(rates: Sequence[Rates], pictures: int, texts: int) -> list[dict[str, str | int | float | None]]:
    """Rows of the table; ratios are to the first side."""
    rows: list[dict[str, str | int | float | None]] = []
    first = per_second(pictures, rates[0].pictures), per_second(texts, rates[0].texts)
    for each in rates:
        speeds = per_second(pictures, each.pictures), per_second(texts, each.texts)
        rows.append(
            {
                "model": each.name,
                "runtime": each.runtime,
                "precision": each.precision,
                "pixels": each.side,
                "pictures_per_second": speeds[0],
                "pictures_ratio": speeds[0] / first[0],
                "texts_per_second": speeds[1],
                "texts_ratio": speeds[1] / first[1],
            }
        )
    return rows


def print_table(rows: Sequence[dict[str, str | int | float | None]]) -> None:
    """Print the rows in at most 80 columns; of a long path the end is shown."""
    print(
        f"\n{'model':20} {'runtime':9}{'precision':10}{'px':>4}{'pictures/s':>11}{'ratio':>7}"
        f"{'texts/s':>10}{'ratio':>8}"
    )
    for row in rows:
        print(
            f"{str(row['model'])[-20:]:20} {row['runtime']:9}{row['precision']:10}{row['pixels'] or '':>4}"
            f"{row['pictures_per_second']:11.1f}{row['pictures_ratio']:7.2f}"
            f"{row['texts_per_second']:10.1f}{row['texts_ratio']:8.2f}"
        )


def main() -> None:
    options = parse()
    print(machine())
    threads, weights = options.threads, random_weights()
    texts = [f"a photo of a {name}" for name in class_names("imagenet")][: options.texts]
    with tempfile.TemporaryDirectory() as home:
        files = write(
            photographs(options.shared / "data" / PACK, options.pictures), SIZES[SIZE], Path(home, "files")
        )
        sides: list[tuple[Rates, AnyEncoder | Conversation]] = []
        peer = None
        if options.peer_python is not None:
            save_file(weights.state, Path(home, "weights.safetensors"))
            peer = Conversation(options.peer_python, Path(__file__).with_name("encode_side.py"))
            peer.ask({"weights": str(Path(home, "weights.safetensors")), "threads": threads})
            sides.append((Rates(PEER, "torch", "float32", 224), peer))
        ours = TorchEncoder.from_checkpoint(weights, device="cpu", precision="float32", threads=threads)
        sides.append((Rates(OURS, "torch", "float32", ours.input_size), ours))
        sides += open_models(options.model or ["default"], options.precision, threads)
        print(f"{threads} threads, {len(files)} pictures of {SIZE}, {len(texts)} texts")
        measure(sides, files, texts, threads, options.rounds)
        if peer is not None:
            peer.close()
    rows = table([rates for rates, _ in sides], len(files), len(texts))
    print_table(rows)
    if options.json:
        values = {
            "machine": machine(),
            "threads": threads,
            "rows": rows,
            "rounds": [asdict(rates) for rates, _ in sides],
        }
        options.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Parse the options."""
    parser = arguments(__doc__)
    parser.add_argument("--model", action="append", help="a name, a run or a folder; repeat it to compare")
    parser.add_argument("--precision", default="float32", help="of the models: float32, bfloat16, int8, auto")
    parser.add_argument("--threads", type=int, default=processors(), help="of every side")
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the rates")
    return parser.parse_args()


if __name__ == "__main__":
    main()
