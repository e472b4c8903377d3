"""Image files and texts to embeddings, beside open_clip: ViT-B-32, the same weights, one run.

    python benchmarks/encode.py --peer-python PATH

The work: JPEG photographs of 12 and of 0.5 megapixels, made by enlarging the pictures of a pack and adding
sensor noise, are turned into unit embeddings. The peer is open_clip in eager float32 with its own
preprocessing and a pool of threads that decodes ahead. Ours is `embed_images` on each runtime, decoding as
`diptych index` does. The sides alternate, so that other load on the machine affects both; medians are
reported.

Also printed: cosines of the embeddings to float32 (from the same pixels, and to the peer's from the same
files), the machine's best rates of matrix products and the share of them that the encoder reaches, and the
cosines of the default model, since random weights do not show the loss of 8 bits.

Aims: at least 4 times the peer's rate in int8 and 2.5 times in bfloat16; mean cosines of at least 0.998 and
0.9998.
"""

from __future__ import annotations

import importlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Conversation, arguments, machine
from PIL import Image
from safetensors.torch import save_file

from diptych.backends import ExportedEncoder, TorchEncoder, export
from diptych.backends.exported.openvino_compat import import_intel_library
from diptych.backends.exported.towers import has_bfloat16
from diptych.datasets import load_captioned
from diptych.embedding.batches import collect, embed_images
from diptych.inputs import preprocess_batch, processors
from diptych.media import load_image
from diptych.model.cost import cost
from diptych.model.initialise import build
from diptych.model.presets.table import preset
from diptych.weights import Checkpoint, ModelSpec, identity_of, load_checkpoint

PACK = "flickr8k-test.tar"
SIZES = {"12 MP": 12e6, "0.5 MP": 0.5e6}
TEXT = "a dog running on the beach with a ball"
CALIBRATED = 300
PRODUCT = 2 * 1024 * 3072**2  # operations of the matrix product that rates are measured with

AnyEncoder = TorchEncoder | ExportedEncoder


def main() -> None:
    """Measure both sides on both sizes."""
    parser = arguments(__doc__)
    parser.add_argument("--large", type=int, default=64, help="pictures of 12 megapixels")
    parser.add_argument("--small", type=int, default=256, help="pictures of 0.5 megapixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calibrated", type=int, default=CALIBRATED, help="pictures that int8 is fitted to")
    args = parser.parse_args()
    print(machine())
    count = max(args.large, args.small)
    pictures = photographs(args.shared / "data" / PACK, count + args.calibrated)
    measured, others = pictures[:count], pictures[count:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = random_weights()
        save_file(weights.state, folder / "weights.safetensors")
        export(weights, folder / "exported", int8=True, pictures=others, note=print)
        encoders = ours(weights, folder / "exported")
        peer = None
        if args.peer_python is not None:
            peer = Conversation(args.peer_python, Path(__file__).with_name("encode_side.py"))
            peer.ask({"weights": str(folder / "weights.safetensors"), "threads": processors()})
        print_tower(encoders, measured, args.rounds)
        for (size, pixels), number in zip(SIZES.items(), (args.large, args.small), strict=True):
            files = write(measured[:number], pixels, folder / size)
            print_file_rates(size, files, encoders, peer, args.rounds, folder / "peer.npy")
        print_latency(encoders, peer, args.rounds)
        if peer is not None:
            peer.close()
        print_default_model(folder / "default", others)


def random_weights() -> Checkpoint:
    """A ViT-B-32 with random weights."""
    shape = preset("ViT-B-32")
    spec = ModelSpec(name="random", architecture=shape)
    state = build(shape, seed=0).state_dict()
    return Checkpoint(spec, state, identity_of(spec, state))


def ours(weights: Checkpoint, folder: Path) -> dict[str, AnyEncoder]:
    """Our encoders by runtime and precision; torch float32 first."""
    encoders: dict[str, AnyEncoder] = {
        "torch float32": TorchEncoder.from_checkpoint(weights, device="cpu", precision="float32"),
        "onnx float32": ExportedEncoder(folder, runtime="onnx"),
        "openvino float32": ExportedEncoder(folder, runtime="openvino"),
    }
    if has_bfloat16():
        encoders["torch bfloat16"] = TorchEncoder.from_checkpoint(weights, device="cpu", precision="bfloat16")
        encoders["openvino bfloat16"] = ExportedEncoder(folder, precision="bfloat16")
    return encoders | {"openvino int8": ExportedEncoder(folder, precision="int8")}


def photographs(pack: Path, count: int) -> list[Image.Image]:
    """The first pictures of a pack, upright and RGB."""
    return [load_image(source) for _, source in itertools.islice(load_captioned(pack), count)]


def write(pictures: Sequence[Image.Image], pixels: float, folder: Path) -> list[Path]:
    """Save the pictures at that size with sensor noise, as JPEG files of quality 90."""
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 4, (512, 512, 3))
    files = []
    for number, picture in enumerate(pictures):
        scale = (pixels / (picture.width * picture.height)) ** 0.5
        large = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        tiled = np.tile(noise, (-(-large.height // 512), -(-large.width // 512), 1))
        noisy = np.asarray(large) + tiled[: large.height, : large.width]
        files.append(folder / f"{number:04d}.jpg")
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def matmul_bounds() -> dict[str, float]:
    """The machine's best rates of matrix products, operations per second: torch's or OpenVINO's.

    Each product is of 1,024 x 3,072 times 3,072 x 3,072; OpenVINO has one on every core at once.
    """
    bounds = {precision: product_rate(precision) for precision in ("float32", "bfloat16", "int8")}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = (torch.randn(shape).to(dtype) for shape in ((1024, 3072), (3072, 3072)))
        rate = PRODUCT / best(lambda left=left, right=right: left @ right)  # type: ignore[misc]
        bounds[name] = max(bounds[name], rate)
    return bounds


def product_rate(precision: str) -> float:
    """Operations per second of OpenVINO's products in that precision."""
    openvino = import_intel_library("openvino", "measure matrix products")
    ops = importlib.import_module("openvino.opset13")
    rng = np.random.default_rng(0)
    parameter = ops.parameter([1024, 3072], np.float32)
    weights = ops.constant(rng.normal(size=(3072, 3072)).astype(np.float32))
    left = parameter
    if precision == "int8":
        low, high = np.float32(-1), np.float32(1)
        left = ops.fake_quantize(parameter, low, high, low, high, 256)
        levels = ops.constant(rng.integers(-127, 128, (3072, 3072)).astype(np.int8))
        weights = ops.multiply(ops.convert(levels, np.float32), ops.constant(np.float32(1 / 127)))
    model = openvino.Model([ops.matmul(left, weights, False, True)], [parameter])
    cores = processors()
    hint = "bf16" if precision == "bfloat16" else "f32"
    settings = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": hint}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    requests = [compiled.create_infer_request() for _ in range(cores)]
    rows = rng.uniform(-1, 1, (1024, 3072)).astype(np.float32)

    def once() -> None:
        for request in requests:
            request.start_async({0: rows}, share_inputs=True)
        for request in requests:
            request.wait()

    return PRODUCT * cores / best(once)


def best(work: Callable[[], object], *, seconds: float = 1.0) -> float:
    """The quickest of repeated calls, in seconds."""
    work()
    end, taken = time.perf_counter() + seconds, []
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def print_tower(encoders: dict[str, AnyEncoder], pictures: Sequence[Image.Image], turns: int) -> None:
    """Print rate, share of the bound, and cosines to float32 of the image tower alone.

    The bound is measured in the same turns: on a shared machine, a bound and a rate from different minutes
    could give any ratio, even above 1.
    """
    first = next(iter(encoders.values()))
    pixels = list(preprocess_batch(pictures, first.spec.preprocess))
    work = cost(preset("ViT-B-32"), 77).picture
    truth = first.encode_prepared(pixels)
    bounds: dict[str, float] = {}
    rates: dict[str, float] = {}
    for _ in range(turns):
        for precision, rate in matmul_bounds().items():
            bounds[precision] = max(rate, bounds.get(precision, 0))
        for name, encoder in encoders.items():
            taken = best(lambda encoder=encoder: encoder.encode_prepared(pixels[:64]))  # type: ignore[misc]
            rates[name] = max(min(64, len(pixels)) / taken, rates.get(name, 0))
    listing = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in bounds.items())
    print(f"\nbest matrix products, 10^9 operations per second: {listing}")
    print(f"image tower, {work / 1e9:.1f} 10^9 operations a picture, quickest of {turns} turns")
    print(f"{'':20}{'pictures/s':>12}{'of the bound':>14}{'mean cosine':>13}{'worst':>10}")
    for name, encoder in encoders.items():
        cosines = np.einsum("nd,nd->n", encoder.encode_prepared(pixels), truth)
        utilisation = rates[name] * work / bounds[encoder.precision]
        print(f"{name:20}{rates[name]:12.1f}{utilisation:14.0%}{cosines.mean():13.6f}{cosines.min():10.6f}")


def print_file_rates(
    size: str,
    files: Sequence[Path],
    encoders: dict[str, AnyEncoder],
    peer: Conversation | None,
    rounds: int,
    peer_file: Path,
) -> None:
    """Print rates from files to embeddings; the sides alternate, and the first round warms up."""
    print(f"\n{size}: {len(files)} files of {np.mean([path.stat().st_size for path in files]) / 1e6:.2f} MB")
    taken: dict[str, list[float]] = {}
    embeddings: dict[str, Any] = {}
    for _ in range(rounds + 1):
        if peer is not None:
            answer = peer.ask({"files": [str(path) for path in files], "rows": str(peer_file)})
            taken.setdefault("open_clip", []).append(answer["seconds"])
        for name, encoder in encoders.items():
            start = time.perf_counter()
            embedded = collect(embed_images(encoder, ((str(path), path) for path in files)), encoder.dim)
            taken.setdefault(name, []).append(time.perf_counter() - start)
            embeddings[name] = embedded.vectors
    truth = np.load(peer_file) if peer is not None else embeddings["torch float32"]
    print(f"{'':20}{'pictures/s':>12}{'ratio':>8}{'mean cosine to the first':>26}{'worst':>10}")
    first = statistics.median(next(iter(taken.values()))[1:])
    for name, seconds in taken.items():
        middle = statistics.median(seconds[1:])
        cosines = np.einsum("nd,nd->n", embeddings.get(name, truth), truth)
        columns = f"{len(files) / middle:12.1f}{first / middle:8.2f}"
        print(f"{name:20}{columns}{cosines.mean():26.6f}{cosines.min():10.6f}")


def print_latency(encoders: dict[str, AnyEncoder], peer: Conversation | None, rounds: int) -> None:
    """Print the latency of one text; the sides alternate."""
    taken: dict[str, list[float]] = {}
    times = 20
    for _ in range(rounds + 1):
        if peer is not None:
            answer = peer.ask({"text": TEXT, "times": times})
            taken.setdefault("open_clip", []).append(answer["seconds"])
        for name, encoder in encoders.items():
            start = time.perf_counter()
            for _ in range(times):
                encoder.encode_texts([TEXT])
            taken.setdefault(name, []).append((time.perf_counter() - start) / times)
    print(f"\none text\n{'':20}{'ms':>12}{'ratio':>8}")
    first = statistics.median(next(iter(taken.values()))[1:])
    for name, seconds in taken.items():
        middle = statistics.median(seconds[1:])
        print(f"{name:20}{middle * 1e3:12.1f}{first / middle:8.2f}")


def print_default_model(folder: Path, pictures: Sequence[Image.Image]) -> None:
    """Print cosines of the default model, whose weights are trained."""
    spec = export(load_checkpoint("default"), folder, int8=True, pictures=pictures)
    print(f"\nthe default model, 8 bits fitted to {spec.calibration}")
    print(f"{'':20}{'pictures: mean':>16}{'worst':>10}{'texts: mean':>13}{'worst':>10}{'order':>8}")
    for check in spec.checks:
        name = f"{check['runtime']} {check['precision']}"
        columns = f"{check['image_mean']:16.6f}{check['image_worst']:10.6f}{check['text_mean']:13.6f}"
        print(f"{name:20}{columns}{check['text_worst']:10.6f}{check['order']:8.4f}")


if __name__ == "__main__":
    main()
