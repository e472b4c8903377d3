"""Captions per second: our tokenizer beside open_clip's, the same captions, one run.

    python benchmarks/tokenizer.py --peer-python PATH

The captions are all five of every picture of flickr8k-train (30,000), or the lines of a file named by
--captions. Both sides give padded (N, 77) tables of ids for the whole list and must agree on every id.
Compare the first call, with empty caches; later calls are shown too, because both sides cache words. Aim: at
least 3 times open_clip's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tarfile
import time
from pathlib import Path
from typing import Any

from common import arguments, machine, run_peer

PEER = """
import hashlib, json, sys, time
import torchvision_cpu, open_clip
work = json.load(sys.stdin)
tokenizer = open_clip.SimpleTokenizer()
tokenizer(["warm up"])
taken = []
for _ in range(work["repeat"]):
    start = time.perf_counter()
    ids = tokenizer(work["captions"])
    taken.append(time.perf_counter() - start)
print(json.dumps({"taken": taken, "ids": hashlib.sha256(ids.numpy().astype("<i8").tobytes()).hexdigest()}))
"""


def captions(shared: Path, file_of_captions: Path | None) -> list[str]:
    """Every caption of the flickr8k training shards, or the lines of a file."""
    if file_of_captions is not None:
        return [line for line in file_of_captions.read_text(encoding="utf-8").splitlines() if line.strip()]
    result: list[str] = []
    for shard in sorted((shared / "data").glob("flickr8k-train-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name.endswith(".json") else None
                if file is not None:
                    result.extend(json.load(file)["captions"])
    if not result:
        raise SystemExit(f"no flickr8k-train-*.tar in {shared / 'data'}: name a file with --captions")
    return result


def ours(texts: list[str], repeat: int) -> dict[str, Any]:
    from diptych.inputs import load_tokenizer

    start = time.perf_counter()
    tokenizer = load_tokenizer()
    tokenizer(["warm up"])
    build = time.perf_counter() - start
    taken = []
    for _ in range(repeat):
        start = time.perf_counter()
        ids = tokenizer(texts)
        taken.append(time.perf_counter() - start)
    return {"build": build, "taken": taken, "ids": hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()}


def report(texts: list[str], mine: dict[str, Any], peer: dict[str, Any] | None) -> None:
    count = len(texts)
    rows = [("first call", 0), *((f"call {i + 1}", i) for i in range(1, len(mine["taken"])))]
    print(f"{count:,} captions; ours built in {mine['build']:.2f} s")
    for name, i in rows:
        line = f"{name:12} ours {count / mine['taken'][i]:10,.0f} captions/s"
        if peer is not None:
            ratio = peer["taken"][i] / mine["taken"][i]
            line += f"   open_clip {count / peer['taken'][i]:10,.0f} captions/s   ratio {ratio:5.1f}"
        print(line)
    if peer is not None:
        print("ids equal:", "yes" if peer["ids"] == mine["ids"] else "NO")


def parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--captions", type=Path, help="a text file, one caption a line")
    parser.add_argument("--repeat", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    options = parse()
    texts = captions(options.shared, options.captions)
    print(machine())
    mine = ours(texts, options.repeat)
    peer = None
    if options.peer_python:
        peer = run_peer(options.peer_python, PEER, {"captions": texts, "repeat": options.repeat})
    report(texts, mine, peer)


if __name__ == "__main__":
    main()
