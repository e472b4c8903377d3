"""Duplicates: copies planted among real pictures, found again tier by tier, beside imagededup's defaults.

    python benchmarks/duplicates.py [--pictures 10000] [--each 100] [--peer-python PATH] [--av-python PATH]

Planted are copies of 100 pictures for each kind (`planted_copies.py`); the pictures are other ones than the
thresholds were chosen on. Pictures of one scene are frames of videos, 0.4 s apart, which PyAV decodes (here,
or in the interpreter of --av-python; without it there are none). Two frames count as different pictures when
more than 0.2 per cent of their pixels differ by over a tenth of the range; no eye tells the others apart.

Found pairs that were not planted count as wrong, though the packs hold pictures twice; --list names them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, machine, run_peer
from PIL import Image
from planted_copies import PART, SAME, Planted, pictures_of, plant

import diptych
from diptych.catalog import Store, index_pictures
from diptych.catalog.duplicates.finding import DuplicateGroups, find_duplicates
from diptych.catalog.duplicates.groups import DuplicateGroup

PACKS = (
    *("flickr8k-train-000001.tar", "flickr8k-train-000002.tar", "flickr8k-val.tar", "flickr8k-test.tar"),
    *("imagenet-sample-1000.tar", "pacs-a.tar", "caltech101-test-a.tar", "tfflowers-test-a.tar"),
    "open-train-000002.tar.gz",
)
VIDEOS = ("intel-bottle-detection", "intel-one-by-one-person-detection", "pets09-s2l1-a")
KINDS = ("same bytes", *SAME, *PART, "mosaic")
DIFFERENT, SHARE = 25, 0.002  # of a pixel, of 255; and of the pixels
FRAMES = """
import sys, av
from pathlib import Path
for video in sys.argv[2:]:
    folder = Path(sys.argv[1], Path(video).stem)
    folder.mkdir(parents=True)
    with av.open(video) as opened:
        due, number = 0.0, 0
        for frame in opened.decode(video=0):
            if frame.time >= due and number < 60:
                frame.to_image().save(folder / f"{number:03d}.jpg", quality=90)
                due, number = frame.time + 0.4, number + 1
"""
PEER = """
import json, sys
import torchvision_cpu
from imagededup.methods import PHash

if __name__ == "__main__":
    import time
    folder, start = json.load(sys.stdin), time.perf_counter()
    found = PHash(verbose=False).find_duplicates(image_dir=folder, scores=True, recursive=True)
    pairs = sorted({tuple(sorted((one, other))) for one, others in found.items() for other, _ in others})
    print(json.dumps({"pairs": pairs, "seconds": time.perf_counter() - start}))
"""

Pair = tuple[str, str]


def main() -> None:
    """Plant, index, find, compare."""
    parser = arguments(__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=100, help="copies of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="default")
    parser.add_argument("--av-python", default=sys.executable, help="an interpreter that has PyAV")
    parser.add_argument("--list", action="store_true", help="name what was found and not planted")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pictures")
        names = dict(pictures_of([options.shared / "data" / pack for pack in PACKS]))
        chosen = sorted(names, key=lambda name: ("open-train" in name, name))[: options.pictures]
        planted = plant(folder, {name: names[name] for name in chosen}, each=options.each, seed=options.seed)
        moving = film(folder, options.shared / "data" / "video", options.av_python)
        print(machine())
        print(
            f"{len(chosen):,} pictures, {len(planted):,} planted, {len(moving):,} pairs of frames that differ"
        )
        told = ours(folder, Path(place, "catalog"), options.model, planted)
        report("diptych", told, planted, moving, listed=options.list)
        if options.peer_python:
            answer = run_peer(options.peer_python, PEER, str(folder))
            print(f"\nimagededup PHash, its defaults: {answer['seconds']:.0f} s")
            copies = dict.fromkeys(map(tuple, answer["pairs"]), "picture")
            report("imagededup", copies, planted, moving, listed=False)


def film(folder: Path, videos: Path, python: str) -> set[Pair]:
    """Frames of videos as pictures; the pairs that an eye tells apart, at most five frames away."""
    files = [str(videos / f"{name}.mp4") for name in VIDEOS]
    done = subprocess.run(
        [python, "-c", FRAMES, str(folder / "film"), *files], check=False, capture_output=True
    )
    if done.returncode:
        print("no PyAV here: no frames of videos (--av-python)", file=sys.stderr)
        return set()
    moving = set()
    for clip in sorted((folder / "film").iterdir()):
        frames = sorted(clip.iterdir())
        pixels = [np.asarray(Image.open(path).convert("RGB"), np.int16) for path in frames]
        for a, b in combinations(range(len(frames)), 2):
            if b - a <= 5 and (np.abs(pixels[a] - pixels[b]).max(-1) > DIFFERENT).mean() > SHARE:
                moving.add((named(frames[a], folder), named(frames[b], folder)))
    return moving


def named(path: Path, folder: Path) -> str:
    """A file by its path in the folder."""
    return path.relative_to(folder).as_posix()


def ours(folder: Path, catalog: Path, model: str, planted: list[Planted]) -> dict[Pair, str]:
    """Index and find; the tier of every pair of a group's file with the one it was compared with."""
    store = Store.create(catalog)
    try:
        encoder = diptych.load(model)
        start = time.perf_counter()
        index_pictures(store, encoder, [folder], model=model)
        indexed = time.perf_counter()
        found = find_duplicates(store)
        took = indexed - start, time.perf_counter() - indexed
        print(f"\ndiptych: indexed in {took[0]:.0f} s, duplicates found in {took[1]:.0f} s")
        told = pairs_of(found, folder)
        late = folder / "late.jpg"
        with Image.open(folder / planted[0].sources[0]) as image:
            image.convert("RGB").resize((100, 100)).save(late, quality=60)
        index_pictures(store, encoder, [folder], model=model)
        start = time.perf_counter()
        find_duplicates(store)
        print(f"one more picture: {time.perf_counter() - start:.1f} s")
        return told
    finally:
        store.close()


def pairs_of(found: DuplicateGroups, folder: Path) -> dict[Pair, str]:
    """Every pair that the groups hold evidence for, by the files' names, and its tier."""
    told: dict[Pair, str] = {}
    for group in found.groups:
        for one, other, tier in evidence(group):
            a, b = sorted((named(one, folder), named(other, folder)))
            told.setdefault((a, b), tier)
    return told


def evidence(group: DuplicateGroup) -> list[tuple[Path, Path, str]]:
    """(file, file, tier) of a group: each with each, but for parts, which are parts of the first."""
    if group.tier != "part":
        files = [member.file for member in group.members]
        return [
            (a.path, b.path, "bytes" if a.content == b.content else group.tier)
            for a, b in combinations(files, 2)
        ]
    return [(group.kept.file.path, member.file.path, group.tier) for member in group.others]


def report(
    who: str, told: dict[Pair, str], planted: list[Planted], moving: set[Pair], *, listed: bool
) -> None:
    """Recall by kind, recall and precision by tier, and what became of the frames."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    truth: dict[Pair, str] = {}
    for one in planted:
        for source in one.sources:
            pair = (min(one.name, source), max(one.name, source))
            truth[pair] = one.tier
            kinds[one.kind][told.get(pair, "not found")] += 1
    print(f"\n{who:<12} {'planted':>8} {'recall':>7}   called")
    for kind in KINDS:
        tier = next(one.tier for one in planted if one.kind == kind)
        total = sum(kinds[kind].values())
        rest = ", ".join(f"{count} {name}" for name, count in kinds[kind].most_common() if name != tier)
        print(f"{kind:<12} {total:>8} {kinds[kind][tier] / total:>7.3f}   {rest}")
    print()
    film_pairs = {pair for pair in told if all(name.startswith("film/") for name in pair)}
    for tier in ("bytes", "picture", "part"):
        wanted = {pair for pair, of in truth.items() if of == tier}
        called = {pair for pair, of in told.items() if of == tier} - film_pairs
        right = len(called & wanted)  # a part that is called a copy is wrong, though it was planted
        recall = sum(told.get(pair) == tier for pair in wanted) / len(wanted)
        precision = right / len(called) if called else float("nan")
        unplanted = len(called - truth.keys())
        others = f"({unplanted} not planted, {len(called) - unplanted - right} of another tier)"
        print(f"tier {tier:<8} recall {recall:.3f}, precision {precision:.3f} {others}")
        if listed:
            for pair in sorted(called - truth.keys()):
                print("   ", *pair)
    outcome = Counter(told.get(pair, "nothing") for pair in moving)
    parts: Any = ", ".join(
        f"{name} {count / max(len(moving), 1):.3f}" for name, count in outcome.most_common()
    )
    print(f"frames that differ: {parts}")


if __name__ == "__main__":
    main()
