"""Duplicate search: recall and precision on copies planted among real pictures, beside imagededup's defaults.

    python benchmarks/duplicates.py [--pictures 10000] [--each 100] [--peer-python PATH] [--av-python PATH]

For each kind of copy, copies of 100 pictures are planted (`planted_copies.py`); the thresholds were chosen
on other pictures. Pictures of one scene are video frames 0.4 s apart, decoded by PyAV (here, or in the
interpreter of --av-python; without PyAV there are none). Two frames count as different pictures if more than
0.2 per cent of their pixels differ by over a tenth of the range; below that the difference is invisible.

Pairs that were not planted count as wrong, although the packs contain some pictures twice; --list names them.

Why `matching` has its own local features and template matching: a trial, not part of this script, of OpenCV
5.0 in their place, on 3,000 pictures with 60 copies of each kind and no video frames. All variants find
identical files and copies alike (recall and precision 0.997 in tier "picture"); hashes of cells and vectors
propose parts as well. OpenCV needs 150 MB, and SIFT a vocabulary, here of 8 MB, learned from other pictures.

    tier "part"            recall   precision   one thread
    visual words, ours      0.977       0.965   4.5 ms a picture
    SIFT                    0.975       0.963   9.0 ms a picture
    template search, ours   0.977       0.965   0.34 ms a pair
    cv2.matchTemplate       0.977       0.965   0.40 ms a pair
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
from planted_copies import PART, SAME, PlantedCopy, pictures_of, plant_copies

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
MIN_DIFFERENCE, MIN_CHANGED = 25, 0.002  # of 255, of one pixel; share of such pixels
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
    """Plant copies, index, find duplicates, compare."""
    parser = arguments(__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=100, help="copies of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="default")
    parser.add_argument("--av-python", default=sys.executable, help="an interpreter that has PyAV")
    parser.add_argument("--list", action="store_true", help="list pairs that were found and not planted")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "pictures")
        names = dict(pictures_of([options.shared / "data" / pack for pack in PACKS]))
        chosen = sorted(names, key=lambda name: ("open-train" in name, name))[: options.pictures]
        planted = plant_copies(
            folder, {name: names[name] for name in chosen}, each=options.each, seed=options.seed
        )
        moving = film(folder, options.shared / "data" / "video", options.av_python)
        print(machine())
        print(
            f"{len(chosen):,} pictures, {len(planted):,} planted, {len(moving):,} pairs of frames that differ"
        )
        tier_of = ours(folder, Path(temporary, "catalog"), options.model, planted)
        report("diptych", tier_of, planted, moving, listed=options.list)
        if options.peer_python:
            answer = run_peer(options.peer_python, PEER, str(folder))
            print(f"\nimagededup PHash, its defaults: {answer['seconds']:.0f} s")
            copies = dict.fromkeys(map(tuple, answer["pairs"]), "picture")
            report("imagededup", copies, planted, moving, listed=False)


def film(folder: Path, videos: Path, python: str) -> set[Pair]:
    """Save video frames as pictures; return pairs that differ visibly, at most five frames apart."""
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
            if b - a <= 5 and (np.abs(pixels[a] - pixels[b]).max(-1) > MIN_DIFFERENCE).mean() > MIN_CHANGED:
                moving.add((relative_name(frames[a], folder), relative_name(frames[b], folder)))
    return moving


def relative_name(path: Path, folder: Path) -> str:
    """Path of a file relative to the folder."""
    return path.relative_to(folder).as_posix()


def ours(folder: Path, catalog: Path, model: str, planted: list[PlantedCopy]) -> dict[Pair, str]:
    """Index and find duplicates; return the tier of every pair with evidence."""
    store = Store.create(catalog)
    try:
        encoder = diptych.load(model)
        start = time.perf_counter()
        index_pictures(store, encoder, [folder], model=model)
        indexed = time.perf_counter()
        groups = find_duplicates(store)
        durations = indexed - start, time.perf_counter() - indexed
        print(f"\ndiptych: indexed in {durations[0]:.0f} s, duplicates found in {durations[1]:.0f} s")
        tier_of = pairs_of(groups, folder)
        added = folder / "late.jpg"
        with Image.open(folder / planted[0].sources[0]) as image:
            image.convert("RGB").resize((100, 100)).save(added, quality=60)
        index_pictures(store, encoder, [folder], model=model)
        start = time.perf_counter()
        find_duplicates(store)
        print(f"one more picture: {time.perf_counter() - start:.1f} s")
        return tier_of
    finally:
        store.close()


def pairs_of(groups: DuplicateGroups, folder: Path) -> dict[Pair, str]:
    """Tier of every pair of files that the groups have evidence for."""
    tier_of: dict[Pair, str] = {}
    for group in groups.groups:
        for first, second, tier in evidence(group):
            a, b = sorted((relative_name(first, folder), relative_name(second, folder)))
            tier_of.setdefault((a, b), tier)
    return tier_of


def evidence(group: DuplicateGroup) -> list[tuple[Path, Path, str]]:
    """(file, file, tier) of a group: all pairs, or for parts each part with the whole picture."""
    if group.tier != "part":
        files = [member.file for member in group.members]
        return [
            (a.path, b.path, "bytes" if a.content == b.content else group.tier)
            for a, b in combinations(files, 2)
        ]
    return [(group.kept.file.path, member.file.path, group.tier) for member in group.others]


def report(
    side: str, tier_of: dict[Pair, str], planted: list[PlantedCopy], moving: set[Pair], *, listed: bool
) -> None:
    """Print recall by kind, recall and precision by tier, and the tiers of the video frames."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    truth: dict[Pair, str] = {}
    for copy in planted:
        for source in copy.sources:
            pair = (min(copy.name, source), max(copy.name, source))
            truth[pair] = copy.tier
            kinds[copy.kind][tier_of.get(pair, "not found")] += 1
    print(f"\n{side:<12} {'planted':>8} {'recall':>7}   called")
    for kind in KINDS:
        tier = next(copy.tier for copy in planted if copy.kind == kind)
        total = sum(kinds[kind].values())
        rest = ", ".join(f"{count} {name}" for name, count in kinds[kind].most_common() if name != tier)
        print(f"{kind:<12} {total:>8} {kinds[kind][tier] / total:>7.3f}   {rest}")
    print()
    film_pairs = {pair for pair in tier_of if all(name.startswith("film/") for name in pair)}
    for tier in ("bytes", "picture", "part"):
        wanted = {pair for pair, of in truth.items() if of == tier}
        called = {pair for pair, called_tier in tier_of.items() if called_tier == tier} - film_pairs
        right = len(called & wanted)  # a part that is called a copy is wrong, though it was planted
        recall = sum(tier_of.get(pair) == tier for pair in wanted) / len(wanted)
        precision = right / len(called) if called else float("nan")
        unplanted = len(called - truth.keys())
        others = f"({unplanted} not planted, {len(called) - unplanted - right} of another tier)"
        print(f"tier {tier:<8} recall {recall:.3f}, precision {precision:.3f} {others}")
        if listed:
            for pair in sorted(called - truth.keys()):
                print("   ", *pair)
    outcome = Counter(tier_of.get(pair, "nothing") for pair in moving)
    parts: Any = ", ".join(
        f"{name} {count / max(len(moving), 1):.3f}" for name, count in outcome.most_common()
    )
    print(f"frames that differ: {parts}")


if __name__ == "__main__":
    main()
