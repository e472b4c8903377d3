"""The peer's side of encode.py and encode_models.py: open_clip's ViT-B-32 in eager float32.

It runs in the interpreter that has open_clip. The first line of standard input names the weights and the
number of threads. Each further line has files to encode, texts to encode in batches, or a text to encode
repeatedly, and is answered by a line of JSON. Images go through open_clip's own transform in a pool of
threads that runs ahead of the model, so that neither waits for the other.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torchvision_cpu  # noqa: F401  # isort: skip - first: a stand-in beside torch for CPUs
import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file

BATCH = 32


def main() -> None:
    """Load, then answer line after line."""
    work = json.loads(sys.stdin.readline())
    torch.set_num_threads(work["threads"])
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", precision="fp32")
    model.load_state_dict(load_file(work["weights"]))
    model.eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    pool = ThreadPoolExecutor(work["threads"])
    print(json.dumps({"ready": True}), flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            start = time.perf_counter()
            if "files" in request:
                rows = encode(model, transform, request["files"], pool)
                seconds = time.perf_counter() - start
                np.save(request["rows"], rows)
            elif "texts" in request:
                for first in range(0, len(request["texts"]), BATCH):
                    tokens = tokenizer(request["texts"][first : first + BATCH])
                    torch.nn.functional.normalize(model.encode_text(tokens), dim=-1)
                seconds = time.perf_counter() - start
            else:
                for _ in range(request["times"]):
                    torch.nn.functional.normalize(model.encode_text(tokenizer([request["text"]])), dim=-1)
                seconds = (time.perf_counter() - start) / request["times"]
            print(json.dumps({"seconds": seconds}), flush=True)


def encode(
    model: Any, transform: Callable[[Any], torch.Tensor], files: list[str], pool: ThreadPoolExecutor
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Files to unit rows, (N, dim) float32."""

    def read(path: str) -> torch.Tensor:
        with Image.open(path) as image:
            return transform(image)

    waiting = [pool.submit(read, path) for path in files]
    rows = []
    for first in range(0, len(files), BATCH):
        pixels = torch.stack([future.result() for future in waiting[first : first + BATCH]])
        rows.append(torch.nn.functional.normalize(model.encode_image(pixels), dim=-1).numpy())
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
