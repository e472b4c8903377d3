"""Zero-shot evaluation beside CLIP_benchmark's method: the same open_clip ViT-B-32 weights, one run.

    python benchmarks/evaluation.py --peer-python PATH

The work: classify the images of a data set with the paper's templates, from files to accuracy. The peer does
what CLIP_benchmark does: it builds the classifier class by class with every prompt at all 77 positions, and
sends images through open_clip's own preprocessing in a DataLoader, all in eager float32. Ours decodes ahead,
ends texts at their end token and computes common prefixes once. Both must give the same answers (the weights
are random, so only their equality matters).

The gain depends on the share of prompts in the work: Caltech-101 has 3,434 for 896 images, CIFAR-10 180 for
5,000. A second evaluation of the same images (other prompts, other classes) reads their embeddings from the
cache; the peer encodes them again.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, machine, run_peer
from safetensors.torch import save_file

from diptych.backends import TorchEncoder
from diptych.datasets import ImageDataset, load_labelled
from diptych.evaluation import FeatureStore, evaluate_zero_shot
from diptych.model.initialise import build
from diptych.model.presets.table import preset
from diptych.weights import Checkpoint, ModelSpec
from diptych.zeroshot import TEMPLATES

PACKS = {"caltech101": "caltech101-test-a.tar", "cifar10": "cifar10-test-a.tar.gz"}

PEER = """
import io, json, sys, time
import torchvision_cpu, open_clip, torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset
work = json.load(sys.stdin)
torch.set_num_threads(work["threads"])
model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", precision="fp32")
model.load_state_dict(load_file(work["weights"]))
model.eval()
tokenizer = open_clip.get_tokenizer("ViT-B-32")

class Files(Dataset):
    def __len__(self):
        return len(work["files"])
    def __getitem__(self, i):
        with open(work["files"][i], "rb") as file:
            return transform(Image.open(file).convert("RGB"))

start = time.perf_counter()
rows = []
with torch.no_grad():
    for name in work["names"]:
        texts = tokenizer([template.format(name) for template in work["templates"]])
        embedded = torch.nn.functional.normalize(model.encode_text(texts), dim=-1).mean(0)
        rows.append(embedded / embedded.norm())
    classifier = torch.stack(rows, dim=1)
    texts_done = time.perf_counter()
    answers = []
    for images in DataLoader(Files(), batch_size=64, num_workers=2):
        features = torch.nn.functional.normalize(model.encode_image(images), dim=-1)
        answers += (100.0 * features @ classifier).argmax(1).tolist()
end = time.perf_counter()
print(json.dumps({"answers": answers, "texts": texts_done - start, "pictures": end - texts_done}))
"""


def main() -> None:
    """Measure both sides on each pack."""
    parser = arguments(__doc__)
    parser.add_argument("--pack", choices=PACKS, action="append", help="one of the packs; both if not given")
    parser.add_argument("--pictures", type=int, default=896, help="at most so many of a pack")
    args = parser.parse_args()
    shape = preset("ViT-B-32")
    weights = build(shape, seed=0).state_dict()
    encoder = TorchEncoder.from_checkpoint(
        Checkpoint(ModelSpec(name="random", architecture=shape), weights, "random"),
        device="cpu",
        precision="float32",
    )
    print(machine())
    for pack in args.pack or PACKS:
        dataset = load_labelled(args.shared / "data" / PACKS[pack], class_names=pack, name=pack)
        with tempfile.TemporaryDirectory() as folder:
            _compare_pack(dataset.sample(args.pictures), encoder, weights, Path(folder), args)


def _compare_pack(
    dataset: ImageDataset, encoder: TorchEncoder, weights: Any, folder: Path, args: Any
) -> None:
    """Time one pack: ours, ours again with other prompts, the peer."""
    templates = TEMPLATES[dataset.name]
    prompts = len(dataset.class_names) * len(templates)
    print(f"\n{dataset.name}: {len(dataset):,} pictures, {prompts:,} prompts")
    encoder.encode_texts(["warm up"])
    start = time.perf_counter()
    mine = evaluate_zero_shot(
        encoder, dataset, templates=templates, store=(store := FeatureStore(folder / "kept"))
    )
    first = time.perf_counter() - start
    start = time.perf_counter()
    evaluate_zero_shot(encoder, dataset, templates="plain", store=store)
    again = time.perf_counter() - start
    print(f"ours        {first:7.1f} s; once more with other prompts {again:.1f} s")
    if args.peer_python is None:
        return
    files = []
    for number, (_, content) in enumerate(dataset):
        assert isinstance(content, bytes)
        files.append(folder / f"{number:06d}.jpg")
        files[-1].write_bytes(content)
    save_file(weights, folder / "weights.safetensors")
    work = {
        "weights": str(folder / "weights.safetensors"),
        "threads": torch.get_num_threads(),
        "names": dataset.class_names,
        "templates": [template.replace("{}", "{0}") for template in templates],
        "files": [str(path) for path in files],
    }
    peer = run_peer(args.peer_python, PEER, work, timeout=3600)
    theirs = peer["texts"] + peer["pictures"]
    right = np.mean(np.array(peer["answers"]) == dataset.labels)
    print(f"their way   {theirs:7.1f} s: prompts {peer['texts']:.1f}, pictures {peer['pictures']:.1f}")
    print(f"accuracy    {mine.metrics['acc1']:.4f} ours, {right:.4f} theirs (equal but for ties)")
    print(f"ratio       {theirs / first:.1f} (aim 3); once more with other prompts at least", end=" ")
    print(f"{peer['pictures'] / again:.1f}")


if __name__ == "__main__":
    main()
