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


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages; mkdocs calls this once for each build."""
    for name, text in {"commands": "\n".join(commands()), "rooms": "\n".join(rooms())}.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
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


def rooms() -> Iterator[str]:
    """The files of every folder of the package, with the first line of their docstrings."""
    source = ROOT / "src/diptych"
    yield "# Rooms\n"
    yield "Every file of the package and the first line of its docstring."
    yield "[Architecture](../architecture.md) says how the folders depend on each other.\n"
    folders = sorted({path.parent for path in source.rglob("*.py")})
    for folder in folders:
        name = ".".join(("diptych", *folder.relative_to(source).parts))
        yield f"## {name}\n"
        yield _summary(folder / "__init__.py") + "\n"
        yield "| file | |\n| --- | --- |"
        for path in sorted(folder.glob("*.py")):
            if path.name != "__init__.py":
                yield f"| {_code(path.name)} | {_words(_summary(path))} |"
        yield ""


def _summary(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
