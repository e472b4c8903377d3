"""HTML pages from Jinja2 templates that extend one layout, `templates/base.html`.

Each page is one file that needs no network: style, scripts and pictures are inside it. Every value is escaped
unless it is `Markup`, and a value that a template misses is an error.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup
    from PIL.Image import Image

ROOM = "diptych.reports"


def page_template(name: str, package: str = ROOM) -> Template:
    r"""A template from the folder `templates` of a package; it can extend and import those of this room.

    Examples
    --------
    >>> page_template("base.html").render(title="Cats & dogs", subtitle="").splitlines()[-3]
    '<header><h1>Cats &amp; dogs</h1><p></p></header>'
    """
    return _environment(package).get_template(name)


@cache
def _environment(package: str) -> Environment:
    import jinja2

    loaders = [jinja2.PackageLoader(each) for each in dict.fromkeys((package, ROOM))]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # The filter `tojson` also escapes "<": a tag in a name cannot end the <script> element that holds it.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


@dataclass(frozen=True)
class EmbeddedImage:
    """A JPEG as base64 text, and its size in pixels."""

    data: str
    width: int
    height: int


def embed_image(image: Image, side: int, quality: int) -> EmbeddedImage:
    """Scale an image down to `side` pixels and encode it for a page."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return EmbeddedImage(base64.b64encode(buffer.getvalue()).decode("ascii"), small.width, small.height)


def inline_svg(svg: str, name: str) -> Markup:
    """The SVG element with unique ids: several drawings on one page would otherwise share clip paths."""
    from markupsafe import Markup

    element = svg[svg.index("<svg") :]
    return Markup(re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", element))
