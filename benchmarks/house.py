"""Measure the form of the source: sizes, comments, vague and shared names, folders.

    python benchmarks/house.py [FOLDER]

FOLDER is a checkout of this project or of another one with its package under `src/` (by default this one), so
that two commits can be compared. Nothing is imported.

- A comment is a line with nothing else, or a remark after code; counted per 100 lines of code, without blank
  lines, comments and docstrings.
- A binding is every name that an assignment, a parameter, a loop, an import alias, a function or a class
  introduces. It is vague if it is one of the words of `VAGUE`, alone or after an underscore.
- Two classes share a name if they are in different files and neither name begins with an underscore.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# Words that name anything, so that a reader has to look up what they name here.
_WORDS = """
    found told asked one what learns late share near_misses look glance closer piece peak draws settle worn
    sees plant place said seen thing
"""
VAGUE = frozenset(_WORDS.split())
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def bindings(tree: ast.Module) -> Iterator[str]:
    """Every name that the source of a module binds."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(asname=str(name)):
                yield name


def is_vague(name: str) -> bool:
    """Whether a name is one of the vague words.

    Examples
    --------
    >>> is_vague("_found"), is_vague("found_files")
    (True, False)
    """
    return name.lower().strip("_") in VAGUE


def comment_lines(text: str) -> int:
    """Lines with a comment, pragmas (`noqa`, `type: ignore`, `fmt:`) left out."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(
        token.type == tokenize.COMMENT and not token.string.lstrip("# ").startswith(("noqa", "type:", "fmt:"))
        for token in tokens
    )


def docstrings(tree: ast.Module) -> Iterator[range]:
    """The lines of every docstring, counted from 1."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | FunctionNode) and ast.get_docstring(
            node, clean=False
        ):
            yield lines_of(node.body[0])


def lines_of(node: ast.stmt) -> range:
    """The lines of a statement, counted from 1."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def code_lines(text: str, tree: ast.Module) -> int:
    """Lines that are neither blank, nor a comment alone, nor part of a docstring."""
    documented = {number for lines in docstrings(tree) for number in lines}
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in documented
        for number, line in enumerate(text.splitlines(), 1)
    )


def function_length(node: FunctionNode) -> int:
    """Lines of a function, from `def` to its end, without the docstring."""
    documented = ast.get_docstring(node, clean=False) is not None
    return len(lines_of(node)) - (len(lines_of(node.body[0])) if documented else 0)


def measure(root: Path) -> dict[str, str]:
    """The table: name of a figure -> figure."""
    source = root / "src"
    files = {path: path.read_text(encoding="utf-8") for path in sorted(source.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in files.items()}
    names = [name for tree in trees.values() for name in bindings(tree)]
    vague = Counter(name.lower().strip("_") for name in names if is_vague(name))
    frequent = ", ".join(f"{name} {count}" for name, count in vague.most_common(8))
    lengths = [
        function_length(node)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, FunctionNode)
    ]
    code = {path: code_lines(text, trees[path]) for path, text in files.items()}
    tests = sum(path.read_text(encoding="utf-8").count("\n") for path in (root / "tests").rglob("*.py"))
    lines = sum(text.count("\n") for text in files.values())
    shared = shared_classes(trees)
    folder, size = Counter(path.parent for path in files).most_common(1)[0]
    table = {
        "lines (code only)": f"{lines:,} ({sum(code.values()):,})",
        "function median / longest": f"{statistics.median(lengths):.0f} / {max(lengths)}",
        "tests / source": f"{tests / lines:.2f}",
        "vague names": f"{vague.total() / len(names):.2%}",
        "most frequent vague names": frequent or "none",
        "classes sharing a name": f"{len(shared)}{': ' if shared else ''}{', '.join(sorted(shared))}",
        "largest folder": f"{size} files in {folder.relative_to(source)}",
        "comments per 100 lines of code": f"{per_100(files, code):.1f}",
    }
    for room in ("training", "vectors", "matching", "model", "catalog"):
        inside = {path: text for path, text in files.items() if room in path.relative_to(source).parts}
        if inside:
            table[f"  in {room}/"] = f"{per_100(inside, code):.1f}"
    return table


def per_100(files: dict[Path, str], code: dict[Path, int]) -> float:
    """Comments per 100 lines of code."""
    return 100 * sum(map(comment_lines, files.values())) / max(1, sum(code[path] for path in files))


def shared_classes(trees: dict[Path, ast.Module]) -> dict[str, set[Path]]:
    """Public class name -> the files that define it, for names that stand in several files."""
    homes: dict[str, set[Path]] = {}
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(path)
    return {name: paths for name, paths in homes.items() if len(paths) > 1}


def main() -> None:
    """Print the table."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    for name, figure in measure(root).items():
        print(f"{name:32} {figure}")


if __name__ == "__main__":
    main()
