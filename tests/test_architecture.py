"""Architecture rules: layers, import cycles, use of torch, lengths of files, and the tree in the docs.

Each rule is a function from a folder to a list of complaints. It is tried first on a small made-up package
that breaks it, because a rule that never complains checks nothing.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import FunctionNode, bindings, function_length, is_vague, shared_classes

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "diptych"
PACKAGE = "diptych"

FLOORS = {
    0: ("errors", "lazy", "progress", "encoder"),
    1: ("extras", "prefetch"),
    2: ("files",),
    3: ("media", "inputs", "model", "reports"),
    4: ("weights", "embedding", "stats", "vectors", "matching"),
    5: ("training", "zeroshot"),
    6: ("backends", "datasets", "catalog"),
    7: ("evaluation", "curation", "applications"),
    8: ("audits", "video"),
    9: ("serving",),
    10: ("cli",),
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
TORCH_ROOMS = {"model", "weights", "training", "backends"}
UNPICKLING = {"torch.load", "torch.jit.load", "pickle.load", "pickle.loads", "pickle.Unpickler"}
FILE_CEILING = 400
FOLDER_CEILING = 14  # files in a folder, including __init__.py
FUNCTION_CEILING = 60


# --------------------------------------------------------------------------------- imports of a package


def modules(source: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name; packages by the name of their folder."""
    mapping = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        mapping[".".join((PACKAGE, *parts)).removesuffix(".__init__")] = path
    return mapping


def imports(name: str, path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, module, imported name or "") of all imports, including those in functions or TYPE_CHECKING."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield node.lineno, module, alias.name
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = (
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            )
            if function in {"import_module", "__import__", "require"}:
                yield node.lineno, str(node.args[0].value), ""


def room_of(module: str) -> str:
    """`diptych.media.image` -> `media`; "" for the top-level package and for other packages."""
    parts = module.split(".")
    room = parts[1] if parts[0] == PACKAGE and len(parts) > 1 else ""
    return "cli" if room == "__main__" else room  # `python -m diptych` is the command line


def resolved(source: Path) -> Iterator[tuple[str, int, str]]:
    """(importing module, line, imported module), with `from x import y` resolved to the file of y, if any."""
    known = modules(source)
    for name, path in known.items():
        for line, module, taken in imports(name, path):
            deeper = f"{module}.{taken}"
            yield name, line, deeper if taken and deeper in known else module


# ------------------------------------------------------------------------------------------------ rules


def unpickling_complaints(source: Path) -> list[str]:
    """Calls that execute code from a file, or did so in some release of torch."""
    return [
        f"{path}:{node.lineno} calls {ast.unparse(node.func)}: read the file as data (weights.pickled)"
        for path in sorted(source.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in UNPICKLING
    ]


def floor_complaints(source: Path) -> list[str]:
    """Imports of higher layers, of neighbours or of the top-level package; rooms without a layer."""
    complaints = []
    for name in modules(source):
        if room_of(name) and room_of(name) not in FLOOR_OF:
            complaints.append(f"{name}: has no floor: add its room to FLOORS and docs/architecture.md")
    for name, line, module in resolved(source):
        here, there = room_of(name), room_of(module)
        if module == PACKAGE and here and here != "cli":
            complaints.append(f"{name}:{line} imports the face")
        if not here or not there or here == there or here not in FLOOR_OF:
            continue
        if FLOOR_OF.get(there, 99) >= FLOOR_OF[here]:
            complaints.append(f"{name}:{line} imports {module}, which is not on a lower floor")
    return complaints


def circle_complaints(source: Path) -> list[str]:
    """Import cycles among the files of a room, and among its sub-rooms.

    Sub-rooms may form a cycle although files do not: `store/a.py` imports `search/b.py`, and `search/c.py`
    imports `store/d.py`. So there is one graph of files, and one for each folder, whose nodes are the files
    and folders directly inside it.
    """
    known = modules(source)
    edges = [
        (name, module)
        for name, _, module in resolved(source)
        if module in known and module != name and room_of(module) == room_of(name) != ""
    ]
    complaints = circles(edges)
    for folder in sorted({name.rpartition(".")[0] for name in known if name.count(".") > 1}):
        depth = folder.count(".") + 2
        inside = [
            (".".join(name.split(".")[:depth]), ".".join(module.split(".")[:depth]))
            for name, module in edges
            if name.startswith(f"{folder}.") and module.startswith(f"{folder}.")
        ]
        complaints += circles([edge for edge in inside if edge[0] != edge[1]])
    return list(dict.fromkeys(complaints))


def circles(edges: list[tuple[str, str]]) -> list[str]:
    """All cycles that a depth-first search meets, as "a -> b -> a"."""
    graph: dict[str, set[str]] = {}
    for name, target in edges:
        graph.setdefault(name, set()).add(target)
    complaints: list[str] = []
    finished: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            complaints.append(" -> ".join((*trail[trail.index(name) :], name)))
        elif name not in finished:
            for target in sorted(graph.get(name, ())):
                visit(target, (*trail, name))
            finished.add(name)

    for name in graph:
        visit(name, ())
    return complaints


def folder_complaints(source: Path) -> list[str]:
    """Folders with more files than the limit."""
    folders = [source, *(path for path in source.rglob("*") if path.is_dir())]
    return [
        f"{folder}: {count} files, over {FOLDER_CEILING}"
        for folder in sorted(folders)
        if (count := len(list(folder.glob("*.py")))) > FOLDER_CEILING
    ]


def torch_complaints(source: Path) -> list[str]:
    """Imports of torch in rooms that must not use it."""
    return [
        f"{name}:{line} imports {module}; torch belongs to {', '.join(sorted(TORCH_ROOMS))}"
        for name, line, module in resolved(source)
        if module.split(".")[0] in {"torch", "torchvision"} and room_of(name) not in TORCH_ROOMS
    ]


def length_complaints(folder: Path) -> list[str]:
    """Files and functions longer than the limits; docstrings do not count towards functions."""
    complaints = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > FILE_CEILING:
            complaints.append(f"{path}: {lines} lines, over {FILE_CEILING}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, FunctionNode) and function_length(node) > FUNCTION_CEILING:
                complaints.append(f"{path}:{node.lineno} {node.name}: {function_length(node)} lines")
    return complaints


def docstring_complaints(source: Path) -> list[str]:
    """Modules without a docstring."""
    return [
        f"{path}: no docstring"
        for path in modules(source).values()
        if ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]


def name_complaints(source: Path) -> list[str]:
    """Names that say nothing (`house.VAGUE`), and public classes of one name in two files."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in modules(source).values()}
    vague = [
        f"{path} binds {name}: name what it holds"
        for path, tree in trees.items()
        for name in bindings(tree)
        if is_vague(name)
    ]
    shared = shared_classes(trees).items()
    return vague + [f"{' and '.join(map(str, sorted(paths)))} define {name}" for name, paths in shared]


CLOCKS = {"sleep", "monotonic", "perf_counter", "process_time", "time", "time_ns", "monotonic_ns"}
WAITS = {"run", "check_output", "check_call", "communicate", "wait", "join", "result", "get", "timeout"}


def clock_complaints(tests: Path) -> list[str]:
    """Tests that read a clock, sleep, or set their own time limit: they fail on a busy machine."""
    return [
        f"{path}:{node.lineno} {complaint}"
        for path in sorted(tests.rglob("*.py"))
        if path.name not in {"waiting.py", "conftest.py"}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (complaint := _looks_at_clock(node))
    ]


def _looks_at_clock(node: ast.AST) -> str:
    """The complaint about one node of the syntax tree, or ""."""
    if isinstance(node, ast.ImportFrom) and node.module == "time":
        return "imports from time: use waiting.py"
    if not isinstance(node, ast.Call):
        return ""
    for keyword in node.keywords:
        if keyword.arg in {"deadline", "suppress_health_check"}:
            return f"sets {keyword.arg}: Hypothesis' profile in conftest.py does it for all"
    if not isinstance(node.func, ast.Attribute):
        return ""
    if isinstance(node.func.value, ast.Name) and node.func.value.id == "time" and node.func.attr in CLOCKS:
        return f"calls time.{node.func.attr}: use wait_until or pause of waiting.py"
    limits = [keyword.value for keyword in node.keywords if keyword.arg == "timeout"]
    if node.func.attr in {"communicate", "result", "join", "timeout"}:
        limits += node.args
    numbers = [value for value in limits if isinstance(value, ast.Constant) and value.value is not None]
    return (
        f"{node.func.attr} with a limit of its own: use HANG of waiting.py"
        if numbers and node.func.attr in WAITS
        else ""
    )


# ---------------------------------------------------------------------------------- the tree in the docs

TREE = "docs/architecture.md"


def tree_in(text: str) -> dict[str, str]:
    """Path -> comment, from the first indented or fenced listing that begins with `src/diptych/`."""
    start = re.search(r"^src/diptych/", text, re.MULTILINE)
    if start is None:
        return {}
    listing = text[start.start() :].split("```", 1)[0]
    paths: dict[str, str] = {}
    trail: list[tuple[int, str]] = []
    for line in listing.splitlines():
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        name, _, comment = line.strip().partition("  ")
        trail = [(depth, part) for depth, part in trail if depth < indent] + [(indent, name)]
        paths["".join(part for _, part in trail)] = comment.strip()
    return paths


def tree_complaints(root: Path) -> list[str]:
    """Folders and top-level files that are missing in the tree, and lines without a file or a comment."""
    tree = tree_in((root / TREE).read_text(encoding="utf-8"))
    if not tree:
        return [f"{TREE} has no tree: a listing whose first line is src/diptych/"]
    source = root / "src/diptych"
    wanted = {f"{path.relative_to(root).as_posix()}/" for path in (p.parent for p in source.rglob("*.py"))}
    wanted |= {path.relative_to(root).as_posix() for path in source.glob("*.py")}
    complaints = [f"{path} has no line in {TREE}" for path in sorted(wanted - tree.keys())]
    for path, comment in tree.items():
        if not (root / path).exists():
            complaints.append(f"{TREE} has {path}, which is not on disk")
        if not comment and path != "src/diptych/":
            complaints.append(f"{TREE} says nothing about {path}")
    return complaints


# ---------------------------------------------------------------------------- the rules on this package


def test_imports_go_to_lower_floors_only() -> None:
    assert floor_complaints(SOURCE) == []


def test_no_circles_inside_a_room() -> None:
    assert circle_complaints(SOURCE) == []


def test_torch_stays_below_the_waist() -> None:
    assert torch_complaints(SOURCE) == []


def test_no_file_is_unpickled() -> None:
    # Ray gives a worker what the same program has pickled a moment before: this is not a file.
    complaints = unpickling_complaints(SOURCE)
    assert [line for line in complaints if "embedding/cluster.py" not in line] == []
    torch_floor = re.search(r'"torch>=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    # CVE-2026-24747: torch.distributed.checkpoint calls torch.load(weights_only=True) for sharded models.
    assert torch_floor is not None
    assert (int(torch_floor[1]), int(torch_floor[2])) >= (2, 10)


@pytest.mark.parametrize("folder", ["src/diptych", "recipes", "benchmarks"])
def test_files_and_functions_keep_their_length(folder: str) -> None:
    assert length_complaints(ROOT / folder) == []


def test_folders_keep_their_size() -> None:
    assert folder_complaints(SOURCE) == []


def test_every_module_says_what_it_is_for() -> None:
    assert docstring_complaints(SOURCE) == []


def test_names_say_what_they_hold() -> None:
    assert name_complaints(SOURCE) == []


def test_the_drawn_tree_is_the_disk() -> None:
    assert tree_complaints(ROOT) == []


def test_no_test_depends_on_how_busy_the_machine_is() -> None:
    assert clock_complaints(ROOT / "tests") == []


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running the code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*{{m.split('.')[0] for m in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


HELP = """
from diptych.cli.main import main
import sys
sys.argv = ["diptych", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


WEIGHTS_AS_DATA = "from diptych.weights import download, foreign_configs, open_clip, registry, transformers"


def test_what_is_known_of_weights_is_read_without_torch() -> None:
    assert "torch" not in loaded_after(WEIGHTS_AS_DATA)


@pytest.mark.parametrize("code", ["import diptych", HELP], ids=["import diptych", "diptych --help"])
def test_torch_and_its_like_stay_unloaded(code: str) -> None:
    heavy = {"torch", "numpy", "PIL", "tokenizers", "huggingface_hub", "safetensors", "ftfy"}
    assert loaded_after(code) & heavy == set()


# ----------------------------------------------------------------------- the rules on a made-up package


def house(root: Path, files: dict[str, str]) -> Path:
    """Write a package from path -> text."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


UPWARD = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from diptych.cli import main\n"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("media/a.py", "import diptych.zeroshot.classifier"),
        ("media/a.py", "from diptych import zeroshot"),
        ("media/a.py", "from ..inputs import tokenizer"),
        ("media/a.py", "def f():\n    from diptych.model import CLIP\n"),
        ("media/a.py", "from importlib import import_module\nimport_module('diptych.cli')"),
        ("media/a.py", UPWARD),
        ("media/a.py", "import diptych"),
        ("embedding.py", "from .zeroshot import templates"),
        ("cellar/a.py", ""),
    ],
)
def test_floor_rule_complains(tmp_path: Path, path: str, text: str) -> None:
    files = {
        "zeroshot/__init__.py": "",
        "cli/__init__.py": "",
        "model/__init__.py": "",
        "inputs/__init__.py": "",
    }
    assert len(floor_complaints(house(tmp_path, {**files, path: text}))) == 1


def test_floor_rule_lets_good_imports_pass(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from diptych.backends import load",
        "errors.py": "",
        "media/__init__.py": "from diptych.media.image import f",
        "media/image.py": "import os\nfrom diptych.errors import ImageError\nfrom PIL import Image",
        "cli/main.py": "from diptych import __version__\nfrom diptych.media import f",
    }
    assert floor_complaints(house(tmp_path, files)) == []


def test_circle_rule_complains(tmp_path: Path) -> None:
    files = {
        "media/__init__.py": "from .a import x",
        "media/a.py": "from . import b",
        "media/b.py": "import diptych.media.a",
    }
    complaints = circle_complaints(house(tmp_path, files))
    assert any("diptych.media.a -> diptych.media.b -> diptych.media.a" in line for line in complaints)


def test_circle_rule_complains_of_sub_rooms(tmp_path: Path) -> None:
    files = {
        "catalog/__init__.py": "",
        "catalog/store/__init__.py": "",
        "catalog/store/a.py": "from diptych.catalog.search import b",
        "catalog/store/d.py": "",
        "catalog/search/__init__.py": "",
        "catalog/search/b.py": "",
        "catalog/search/c.py": "from diptych.catalog.store.d import x",
    }
    assert circle_complaints(house(tmp_path, files)) == [
        "diptych.catalog.search -> diptych.catalog.store -> diptych.catalog.search"
    ]


def test_folder_rule_complains(tmp_path: Path) -> None:
    files = {f"media/{number}.py": "" for number in range(FOLDER_CEILING)}
    assert folder_complaints(house(tmp_path, files)) == []
    assert len(folder_complaints(house(tmp_path, {"media/more.py": ""}))) == 1


def test_circle_rule_lets_a_chain_pass(tmp_path: Path) -> None:
    files = {"media/__init__.py": "from .a import x", "media/a.py": "from .b import y", "media/b.py": ""}
    assert circle_complaints(house(tmp_path, files)) == []


@pytest.mark.parametrize("text", ["import torch.nn as nn", "def f():\n    from torch import Tensor"])
def test_torch_rule_complains(tmp_path: Path, text: str) -> None:
    assert len(torch_complaints(house(tmp_path, {"media/a.py": text, "model/a.py": text}))) == 1


def test_unpickling_rule_complains(tmp_path: Path) -> None:
    text = "import torch\n\n\ndef f(x):\n    return torch.load(x, weights_only=True)\n"
    assert len(unpickling_complaints(house(tmp_path, {"a.py": text, "b.py": "x = 1"}))) == 1


def test_length_rule_complains(tmp_path: Path) -> None:
    long = "def f():\n    '''Doc.'''\n" + "    x = 1\n" * FUNCTION_CEILING
    fits = "def f():\n    '''Doc.\n    '''\n" + "    x = 1\n" * (FUNCTION_CEILING - 1)
    files = {
        "a.py": long,
        "b.py": fits,
        "c.py": "x = 1\n" * (FILE_CEILING + 1),
        "d.py": "x = 1\n" * FILE_CEILING,
    }
    complaints = length_complaints(house(tmp_path, files))
    assert [Path(line.split(":")[0]).name for line in complaints] == ["a.py", "c.py"]


def test_docstring_rule_complains(tmp_path: Path) -> None:
    assert len(docstring_complaints(house(tmp_path, {"a.py": "x = 1", "b.py": "'''For b.'''"}))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "found = 1",
        "for one in x: pass",
        "def f(told): pass",
        "class Look: pass",
        "import x as asked",
        "a.plant = 1",
    ],
)
def test_name_rule_complains(tmp_path: Path, text: str) -> None:
    fits = "found_files = x.found\nclass _Table: pass\n"
    assert len(name_complaints(house(tmp_path, {"a.py": text, "b.py": fits, "c.py": fits}))) == 1


def test_name_rule_complains_of_two_classes(tmp_path: Path) -> None:
    files = {"media/a.py": "class Table: pass", "stats/b.py": "class Table: pass\nclass Row: pass"}
    assert len(name_complaints(house(tmp_path, files))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)",
        "import time\nassert time.perf_counter() - start < 2",
        "from time import monotonic",
        "@settings(deadline=500)\ndef test(): pass",
        "@settings(suppress_health_check=[])\ndef test(): pass",
        "subprocess.run(['x'], timeout=60)",
        "process.communicate(timeout=5.0)",
        "future.result(5)",
        "@pytest.mark.timeout(60)\ndef test(): pass",
    ],
)
def test_clock_rule_complains(tmp_path: Path, text: str) -> None:
    fits = "process.wait(timeout=HANG)\nfetch(url, timeout=0.3)\nrun(timeout=None)\n', '.join(names)\n"
    assert len(clock_complaints(house(tmp_path, {"test_a.py": text, "b.py": fits, "waiting.py": text}))) == 1


DRAWN = """
```
src/diptych/
    __init__.py    the face
    media/         pictures
        layouts/   formats
```
"""


def test_tree_rule_complains(tmp_path: Path) -> None:
    files = {
        TREE: DRAWN,
        "src/diptych/__init__.py": "",
        "src/diptych/media/__init__.py": "",
        "src/diptych/media/layouts/bmp.py": "",
    }
    assert tree_complaints(house(tmp_path, files)) == []
    assert tree_complaints(house(tmp_path, {"src/diptych/inputs/a.py": "", "src/diptych/errors.py": ""})) == [
        f"src/diptych/errors.py has no line in {TREE}",
        f"src/diptych/inputs/ has no line in {TREE}",
    ]
    (tmp_path / "src/diptych/__init__.py").unlink()
    assert f"{TREE} has src/diptych/__init__.py, which is not on disk" in tree_complaints(tmp_path)
    (tmp_path / TREE).write_text(DRAWN.replace("  pictures", ""))
    assert f"{TREE} says nothing about src/diptych/media/" in tree_complaints(tmp_path)
