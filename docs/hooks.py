"""Pages of the site that are generated from the code: the commands, and the files of every room."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the page of every room into the navigation, after the page that lists them."""
    for section in config.nav or []:
        for pages in section.values():
            for number, page in enumerate(pages):
                if isinstance(page, dict) and "Rooms" in page:
                    links = [{folder.name: f"reference/rooms/{folder.name}.md"} for folder in room_folders()]
                    pages[number] = {"Rooms": [page["Rooms"], *links]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages; mkdocs calls this once for each build."""
    pages = {"commands": commands(), "rooms": rooms()}
    pages |= {f"rooms/{folder.name}": room(folder) for folder in room_folders()}
    for name, lines in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content="\n".join(lines)))
    return files


def commands() -> Iterator[str]:
    """Every command with its help, arguments and options."""
    from typer.main import get_command

    from diptych.cli.main import app

    yield "# Commands\n"
    yield "`diptych COMMAND --help` prints the same. An option with several values is given several times.\n"
    yield from _command(get_command(app), "diptych")


def _command(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    if not children:
        yield f"## {name}\n"
        yield _text(command.help or "")
        rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        yield "| option | default | what it does |\n| --- | --- | --- |"
        yield from rows
        yield ""
    for child, inner in children.items():
        yield from _command(inner, f"{name} {child}")


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [parameter.metavar or parameter.name.upper()]
    default = parameter.default
    unset = default in (None, False, ()) or callable(default) or "Sentinel" in repr(default)
    shown = [] if unset else [str(default)]
    about = _words(getattr(parameter, "help", None) or "").replace("|", "\\|")
    return f"| {'<br>'.join(map(_code, names))} | {''.join(map(_code, shown))} | {about} |"


def _code(text: str) -> str:
    """Code in a cell of a table, in which a bar would end the cell."""
    return f"<code>{html.escape(text).replace('|', '&#124;').replace('_', '&#95;')}</code>"


def _text(text: str) -> str:
    """Help as Markdown: indented paragraphs are examples, and become one block of code."""
    paragraphs, examples = [], []
    for paragraph in text.replace("\b", "").split("\n\n"):
        if paragraph.startswith("  "):
            examples.append(f"$ {paragraph.strip()}")
        elif "[bold]" not in paragraph:
            paragraphs.append(_words(paragraph))
    block = ["```console", *examples, "```"] if examples else []
    return "\n".join(["\n\n".join(paragraphs), "", *block, ""])


def _words(text: str) -> str:
    """A text of the terminal as Markdown: without its marks for bold, and with nothing read as HTML."""
    return re.sub(r"\[/?\w+\]", "", " ".join(text.split())).replace("<", "&lt;")


def room_folders() -> list[Path]:
    """The folders directly under the package."""
    return sorted(path.parent for path in (ROOT / "src/diptych").glob("*/__init__.py"))


def rooms() -> Iterator[str]:
    """One line for each room, and its page."""
    yield "# Rooms\n"
    yield "The folders of the package. [Architecture](../architecture.md) says how they depend on each other."
    yield "Each page lists the files of a room and documents its public classes and functions.\n"
    yield "| room or file | |\n| --- | --- |"
    for folder in room_folders():
        yield f"| [{folder.name}](rooms/{folder.name}.md) | {_words(_summary(folder / '__init__.py'))} |"
    for path in sorted((ROOT / "src/diptych").glob("[a-z]*.py")):
        yield f"| {_code(path.name)} | {_words(_summary(path))} |"


def room(folder: Path) -> Iterator[str]:
    """The files of a room with the first lines of their docstrings, then the public names of each file."""
    yield f"# {folder.name}\n"
    yield _summary(folder / "__init__.py") + "\n"
    files = [path for path in sorted(folder.rglob("*.py")) if path.name != "__init__.py"]
    yield "| file | |\n| --- | --- |"
    for path in files:
        name = path.relative_to(folder).as_posix()
        yield f"| {_code(name)} | {_words(_summary(path))} |"
    for path in files:
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        if folder.name != "cli" and public_names(path):
            yield f"\n::: {module}\n    options:\n      show_root_toc_entry: true\n"


def public_names(path: Path) -> list[str]:
    """Classes and functions of a file that do not begin with an underscore."""
    return [
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    ]


def _summary(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
