"""Texts per second: our text tower beside open_clip's, equal random weights, one run.

    python benchmarks/text.py --peer-python PATH

Two workloads with ViT-B-32's text tower (37.8 M parameters beside the table of tokens):

- prompts of 11 tokens, a batch at a time, as a search or a classifier of a few classes sends them;
- the ImageNet classifier: 1,000 classes x 80 templates, averaged to 1,000 unit rows. The peer computes a
  sample of the classes (--peer-classes); its time is proportional to their number.

open_clip always computes 77 positions. Ours ends at the end token and computes common prefixes once: 9.6
tokens per prompt, of which 4.1 are new, so at most 77 / 4.1 = 19 times fewer products in float32. Both write
and read the same weights; the class rows must agree to 1e-5. In bfloat16 (--bf16) ours is compared with
float32 rows by cosine; without hardware for it (AVX-512-BF16, AMX) it is slower than float32, and the script
says what the machine has.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, machine, run_peer
from safetensors.torch import save_file

from diptych.backends import TorchEncoder
from diptych.model.devices import has_bfloat16
from diptych.model.initialise import build
from diptych.model.presets.table import preset
from diptych.weights import Checkpoint, ModelSpec

PEER = """
import json, sys, time
import torchvision_cpu, open_clip, torch
from safetensors.torch import load_file
work = json.load(sys.stdin)
torch.set_num_threads(work["threads"])
model = open_clip.create_model("ViT-B-32", precision="fp32").eval()
model.load_state_dict(load_file(work["weights"]))
tokenizer = open_clip.get_tokenizer("ViT-B-32")
out = {}
with torch.inference_mode():
    model.encode_text(tokenizer(work["prompts"][:8]))
    start = time.perf_counter()
    for at in range(0, len(work["prompts"]), 32):
        model.encode_text(tokenizer(work["prompts"][at:at + 32]))
    out["prompts"] = time.perf_counter() - start
    start = time.perf_counter()
    rows = []
    for prompts in work["classes"]:
        features = torch.nn.functional.normalize(model.encode_text(tokenizer(prompts)), dim=-1)
        rows.append(torch.nn.functional.normalize(features.mean(0), dim=-1))
    out["classes"] = time.perf_counter() - start
out["rows"] = torch.stack(rows).float().tolist()
print(json.dumps(out))
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--prompts", type=int, default=256, help="prompts of 11 tokens")
    parser.add_argument("--classes", type=int, default=1000, help="classes of the classifier")
    parser.add_argument("--peer-classes", type=int, default=5, help="classes that the peer computes")
    parser.add_argument("--bf16", action="store_true", help="ours in bfloat16 as well")
    args = parser.parse_args()
    lists = json.loads((args.shared / "data/imagenet_classes_templates.json").read_text("utf-8"))
    names, templates = lists["classes"][: args.classes], lists["templates"]
    prompts = [f"a photo of the number {n % 10} and a cat" for n in range(args.prompts)]
    checkpoint = _random_weights()
    print(machine())
    mine = _ours(checkpoint, prompts, names, templates, "float32")
    peer_rate = None
    if args.peer_python is not None:
        peer_rate = _beside_peer(args, checkpoint, prompts, names, templates, mine)
    if args.bf16:
        _in_bfloat16(checkpoint, prompts, names, templates, mine, peer_rate)


def _random_weights() -> Checkpoint:
    shape = preset("ViT-B-32")
    return Checkpoint(
        ModelSpec(name="random", architecture=shape), build(shape, seed=0).state_dict(), "random"
    )


def _ours(
    checkpoint: Checkpoint, prompts: list[str], names: list[str], templates: list[str], precision: str
) -> dict[str, Any]:
    encoder = TorchEncoder.from_checkpoint(checkpoint, device="cpu", precision=precision)
    encoder.encode_texts(prompts[:8])
    start = time.perf_counter()
    # In batches as the peer's, and each prompt as its own text: no beginning is shared between batches.
    for at in range(0, len(prompts), 32):
        tokens = torch.from_numpy(encoder.tokenizer(prompts[at : at + 32]))
        with torch.inference_mode():
            encoder.model.encode_text(tokens)
    cut = time.perf_counter() - start
    start = time.perf_counter()
    rows = encoder.classifier(names, templates=templates).weights_
    whole = time.perf_counter() - start
    count = len(names) * len(templates)
    print(
        f"ours {precision:9} {len(prompts) / cut:8.1f} prompts/s of 11 tokens;  classifier of "
        f"{len(names):,} x {len(templates)} in {whole:.1f} s: {count / whole:.1f} prompts/s"
    )
    return {"prompts": cut, "classes": whole, "rows": rows, "count": count}


def _beside_peer(
    args: Any, checkpoint: Checkpoint, prompts: list[str], names: list[str], templates: list[str], mine: Any
) -> float:
    sample = names[:: max(1, len(names) // args.peer_classes)][: args.peer_classes]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        save_file(checkpoint.state, weights)
        work = {
            "weights": str(weights),
            "threads": torch.get_num_threads(),
            "prompts": prompts,
            "classes": [[template.format(name) for template in templates] for name in sample],
        }
        peer = run_peer(args.peer_python, PEER, work)
    rate = len(sample) * len(templates) / peer["classes"]
    print(
        f"open_clip float32 {len(prompts) / peer['prompts']:6.1f} prompts/s of 11 tokens;  sample of "
        f"{len(sample)} classes x {len(templates)}: {rate:.1f} prompts/s"
    )
    chosen = [names.index(name) for name in sample]
    difference = np.abs(mine["rows"][chosen] - np.array(peer["rows"], np.float32)).max()
    print(f"ratio of 11-token prompts: {peer['prompts'] / mine['prompts']:.1f} (aim 8)")
    print(f"ratio of the classifier:   {mine['count'] / mine['classes'] / rate:.1f} (aim 15)")
    print(f"largest difference of a class row: {difference:.1e} (aim 1e-5)")
    return float(rate)


def _in_bfloat16(
    checkpoint: Checkpoint,
    prompts: list[str],
    names: list[str],
    templates: list[str],
    mine: Any,
    peer_rate: float | None,
) -> None:
    hardware = "has" if has_bfloat16(torch.device("cpu")) else "lacks"
    print(f"this machine {hardware} hardware for bfloat16")
    low = _ours(checkpoint, prompts, names, templates, "bfloat16")
    cosine = (low["rows"] * mine["rows"]).sum(1).min()
    if peer_rate is not None:
        ratio = low["count"] / low["classes"] / peer_rate
        print(f"ratio of the classifier in bfloat16: {ratio:.1f} times open_clip in float32 (aim 30)")
    print(
        f"bfloat16 beside float32: {mine['classes'] / low['classes']:.2f} times as fast, cosine {cosine:.5f}"
    )


if __name__ == "__main__":
    main()
