"""Record the public behaviour of the package to compare two commits: `python tests/behaviour.py record FILE`.

A recording holds every command with its arguments, options and defaults, the identity of the default model,
the output of commands on real pictures (`DIPTYCH_SHARED`), and hashes of what they write: a catalogue, a
folder of vectors, a checkpoint. `python tests/behaviour.py compare OLD NEW` prints what differs and ends with
status 1 if anything does. Both recordings must come from one machine: another processor rounds differently.

To record another commit, run this file with that commit's `src` first on PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PICTURES = 48
# Keys whose values change from run to run: times, speeds, versions, sizes of files with such values.
UNSTABLE = re.compile(
    r"second|time|rate$|date|created|version|when|commit|torch|threads|command|bytes|memory|run$"
)
COMMANDS: dict[str, list[str]] = {
    "models show": ["models", "show", "default", "--json"],
    "classify": ["classify", "album/000000.jpg", "album/000001.jpg", "a dog", "a child", "--json"],
    "index": ["index", "album", "--catalog", "catalog", "--json"],
    "search": ["search", "a dog on grass", "--catalog", "catalog", "--all", "-k", "10", "--json"],
    "search by filters": ["search", "--catalog", "catalog", "--name", "00000", "--json"],
    "similar": ["similar", "album/000002.jpg", "--catalog", "catalog", "--json"],
    "duplicates": ["duplicates", "--catalog", "catalog", "--json"],
    "tag": ["tag", "--catalog", "catalog", "--label", "a dog", "--label", "a beach", "--json"],
    "tag by hand": ["tag", "--catalog", "catalog", "--add", "holiday", "album/000003.jpg", "--json"],
    "catalog info": ["catalog", "info", "--catalog", "catalog", "--json"],
    "catalog export": ["catalog", "export", "exported", "--catalog", "catalog", "--json"],
    "catalog import": ["catalog", "import", "exported", "--catalog", "imported", "--json"],
    "embed": ["embed", "album", "--to", "vectors", "--json"],
    "zero-shot": ["evaluate", "zero-shot", "SHARED/tfflowers-test-a.tar", "--limit", "100", "--json"],
    "retrieval": ["evaluate", "retrieval", "SHARED/flickr8k-test.tar", "--limit", "100", "--json"],
    "knn": ["evaluate", "knn", "SHARED/tfflowers-train-1000.tar", "SHARED/tfflowers-test-a.tar", "--json"],
    "counting": ["audit", "counting", "--each", "4", "--json"],
    "train": [
        *("train", "--from", "default", "--pairs", "pairs.tar", "--batch-size", "16", "--epochs", "1"),
        *("--out", "run", "--json"),
    ],
}  # fmt: skip


def shared() -> Path:
    """The folder of real data."""
    return Path(os.environ.get("DIPTYCH_SHARED", Path(__file__).parents[2] / "shared")).resolve() / "data"


def record() -> dict[str, Any]:
    """Record everything that is compared, as JSON values."""
    behaviour: dict[str, Any] = {"commands": dict(sorted(command_lines()))}
    home = Path(tempfile.mkdtemp(prefix="behaviour"))
    try:
        _unpack(home)
        for name, words in COMMANDS.items():
            behaviour[name] = _output(home, words)
        behaviour["written"] = {
            "catalogue": _tables(home / "catalog" / "catalog.sqlite"),
            "files": {
                path.relative_to(home).as_posix(): _digest(path)
                for folder in ("catalog", "vectors", "exported", "run")
                for path in sorted((home / folder).rglob("*"))
                if path.suffix in {".npy", ".vectors", ".f16", ".safetensors"}
            },
        }
    finally:
        shutil.rmtree(home)
    return behaviour


def command_lines() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """All commands with their parameters, in order."""
    from typer.main import get_command

    from diptych.cli.main import app

    def walk(command: Any, name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        yield name, [_parameter(parameter) for parameter in command.params]
        for child, inner in sorted(getattr(command, "commands", {}).items()):
            yield from walk(inner, f"{name} {child}")

    yield from walk(get_command(app), "diptych")


def _parameter(parameter: Any) -> dict[str, Any]:
    default = parameter.default
    return {
        "name": parameter.name if parameter.param_type_name == "argument" else None,
        "options": sorted([*parameter.opts, *parameter.secondary_opts]),
        "type": re.sub(r"[\w.]+\.(\w+)", r"\1", str(parameter.type_descriptor.annotation)),
        "default": None if callable(default) or "Sentinel" in repr(default) else repr(default),
        "required": parameter.required,
        "nargs": parameter.nargs,
        "multiple": getattr(parameter, "multiple", False),
        "panel": getattr(parameter, "rich_help_panel", None),
    }


def _unpack(home: Path) -> None:
    (home / "album").mkdir()
    with (
        tarfile.open(shared() / "flickr8k-test.tar") as source,
        tarfile.open(home / "pairs.tar", "w") as pairs,
    ):
        members = source.getmembers()[: 2 * PICTURES]
        for number, member in enumerate(sorted(members, key=lambda member: member.name)):
            file = source.extractfile(member)
            assert file is not None
            data = file.read()
            name = f"{number // 2:06d}{Path(member.name).suffix}"
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if name.endswith(".json"):
                text = json.loads(data)["captions"][0].encode()
                info = tarfile.TarInfo(name.replace(".json", ".txt"))
                info.size = len(text)
                pairs.addfile(info, io.BytesIO(text))
            else:
                pairs.addfile(info, io.BytesIO(data))
                path = home / "album" / name
                path.write_bytes(data)
                os.utime(path, (1_700_000_000 + number,) * 2)
    shutil.copy2(home / "album" / "000005.jpg", home / "album" / "copy.jpg")


def _output(home: Path, words: list[str]) -> Any:
    words = [word.replace("SHARED", str(shared())) for word in words]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "diptych", *words, *_threads(words)],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
    )
    try:
        out = json.loads(done.stdout)
    except ValueError:
        out = [json.loads(line) if line.startswith("{") else line for line in done.stdout.splitlines()]
    output = {"status": done.returncode, "output": _stable(out, home)}
    if done.returncode:
        output["error"] = _stable(done.stderr, home)
    return output


def _threads(words: list[str]) -> list[str]:
    no_threads = {"train", "models", "duplicates", "catalog"}
    return [] if words[0] in no_threads or "--add" in words else ["--threads", "1"]


def _stable(value: Any, home: Path) -> Any:
    """Replace values that change from run to run: times, folders, and the last digits of numbers."""
    if isinstance(value, dict):
        return {key: _stable(inner, home) for key, inner in value.items() if not UNSTABLE.search(key)}
    if isinstance(value, list):
        return [_stable(inner, home) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, str):
        return value.replace(str(home), "HOME").replace(str(shared()), "SHARED")
    return value


def _tables(path: Path) -> dict[str, Any]:
    """The tables of a catalogue: columns, row counts, and a digest of the columns without times."""
    connection = sqlite3.connect(path)
    names = [
        row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
    ]
    tables = {}
    for name in names:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
        kept = [
            column
            for column in columns
            if not re.search("changed|inode|device|when|at$|ended|seen|path", column)
        ]
        rows = connection.execute(f"SELECT {', '.join(kept) or '1'} FROM {name} ORDER BY 1").fetchall()
        if name in {"runs", "roots", "settings"}:
            rows = []
        digest = hashlib.sha256(repr(rows).encode()).hexdigest()
        tables[name] = {"columns": columns, "rows": len(rows), "digest": digest}
    return tables


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        # The library writes the entries of the header's metadata in random order: sort them.
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.dumps(json.loads(content[8:end]), sort_keys=True)
        content = header.encode() + content[end:]
    return hashlib.sha256(content).hexdigest()


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """List the differences, each with its path in the recording."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differences(old.get(key), new.get(key), f"{place}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (item, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(item, other, f"{place}/{number}")
    elif old != new:
        yield f"{place}: {old!r:.200} -> {new!r:.200}"


def main() -> int:
    """Record, or compare two recordings."""
    match sys.argv[1:]:
        case ["record", out]:
            Path(out).write_text(json.dumps(record(), indent=1, sort_keys=True), encoding="utf-8")
            return 0
        case ["compare", old, new]:
            result = list(differences(*(json.loads(Path(path).read_text("utf-8")) for path in (old, new))))
            print(*result, sep="\n")
            return int(bool(result))
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
