"""Insert keywords into XMP sidecars, and remove them again, without changing any other byte.

Parsing and serialising the document would lose comments, packet markers, namespace prefixes and the order of
elements. Instead a parser locates the byte positions, and only there text is inserted or cut out. Keywords
written by this package are also listed in a property of its own, so that they are never confused with a
person's keywords.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape

from diptych.errors import ImageError
from diptych.media.metadata.xmp_fields import encoding_of

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
OURS = "urn:diptych:1.0:"  # namespace of the list of keywords written by this package
TOOLKIT = "diptych"
LARGEST = 2**24  # bytes of a sidecar; darktable's masks take megabytes
_META = "adobe:ns:meta/"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LISTS = (f"{RDF} Bag", f"{RDF} Seq", f"{RDF} Alt")

_EMPTY = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="{_META}" x:xmptk="{TOOLKIT}">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about="">
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


@dataclass
class _Node:
    """An XML element with its byte positions: <start ... tag_end> ... <inner_end ... end>.

    E.g. `<a b="1">text</a>` at offset 0: start 0, tag_end 9, inner_end 13, end 17.
    """

    name: str  # namespace, a space, local name
    attributes: dict[str, str]
    start: int
    tag_end: int
    inner_end: int = 0
    end: int = 0
    text_parts: list[str] = field(default_factory=list)  # as the parser reports them
    children: list[_Node] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Text directly in the element."""
        return "".join(self.text_parts)

    @property
    def closed(self) -> bool:
        """Whether it is written as <name/>."""
        return self.end == self.tag_end

    def walk(self) -> Iterator[_Node]:
        """The element and all its descendants, in document order."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


def tidy_keyword(text: str) -> str:
    r"""Normalise a keyword for XML: on one line, without control characters.

    Examples
    --------
    >>> tidy_keyword("  old\ntown\x07 ")
    'old town'
    """
    visible = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    return " ".join(_NOT_IN_XML.sub("", visible).split())


def merge_keywords(old: bytes | None, keywords: Sequence[str]) -> bytes | None:
    """Update the keywords of a sidecar that this package manages, and keep those of people.

    Parameters
    ----------
    old : bytes or None
        The present sidecar; None if there is none.
    keywords : sequence of str
        Keywords to be present besides those of people. Keywords that an earlier call inserted and that are no
        longer wanted are removed; a keyword that a person has written already is not claimed.

    Returns
    -------
    bytes or None
        The new sidecar; the same bytes if nothing changes; None if the sidecar was created by this package
        and would be empty.

    Raises
    ------
    ImageError
        The sidecar is not XMP, declares types or entities, or is too large.

    Notes
    -----
    XMP part 1 (ISO 16684-1): `dc:subject` is an unordered array of texts.

    Examples
    --------
    >>> made = merge_keywords(None, ["dog", "snow"])
    >>> keywords_in(made)
    (('dog', 'snow'), ('dog', 'snow'))
    >>> print(merge_keywords(made, []))
    None
    """
    tidy = (tidy_keyword(word) for word in keywords)
    words = list(dict.fromkeys(word for word in tidy if word))
    if old is None:
        return _insert(_EMPTY.encode(), words) if words else None
    text, encoding, mark = _decoded(old)
    tree = _parsed(text)
    _, ours = _keywords(tree)
    if set(ours) == set(words) and _is_list_consistent(tree):
        return old
    bare = _without(text, ours)
    personal = set(_keywords(_parsed(bare))[0])
    words = [word for word in words if word not in personal]
    if not words and _is_empty(bare):
        return None
    new = _insert(bare, words) if words else bare
    return old if new == text else mark + new.decode().encode(encoding)


def keywords_in(data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All keywords of a sidecar, and those among them that this package inserted.

    Raises
    ------
    ImageError
        As for `merge_keywords`.
    """
    keywords, ours = _keywords(_parsed(_decoded(data)[0]))
    return tuple(keywords), tuple(ours)


# ---------------------------------------------------------------------------------------------- reading


def _decoded(data: bytes) -> tuple[bytes, str, bytes]:
    """(text in UTF-8, original encoding, byte order mark)."""
    if len(data) > LARGEST:
        raise ImageError(f"{len(data):,} bytes, over the limit of {LARGEST:,} for a sidecar")
    encoding, mark = encoding_of(data), b""
    for start, plain in (
        (b"\xff\xfe\0\0", "utf-32-le"), (b"\0\0\xfe\xff", "utf-32-be"), (b"\xef\xbb\xbf", "utf-8"),
        (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"),
    ):  # fmt: skip
        if data.startswith(start):
            encoding, mark = plain, start
            break
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeError as error:
        raise ImageError(f"not XMP: {error}") from error
    declared = re.match(r"""<\?xml[^>]*encoding\s*=\s*["']([^"']+)""", text)
    if declared and not declared[1].lower().replace("_", "-").startswith(("utf-8", "utf-16", "utf-32")):
        raise ImageError(f"the sidecar is in {declared[1]}: XMP is in UTF-8, UTF-16 or UTF-32")
    return text.encode(), encoding, mark


def _parsed(text: bytes) -> _Node:
    parser = expat.ParserCreate("utf-8", " ")  # the text has been converted to UTF-8
    root = _Node("", {}, 0, 0)
    parser.buffer_text = True
    open_nodes = [root]

    def start(name: str, attributes: dict[str, str]) -> None:
        at = parser.CurrentByteIndex
        node = _Node(name, attributes, at, _tag_end(text, at))
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def end(_: str) -> None:
        node = open_nodes.pop()
        if text[node.tag_end - 2 : node.tag_end] == b"/>":
            node.inner_end = node.end = node.tag_end
        else:
            node.inner_end = parser.CurrentByteIndex
            node.end = text.index(b">", node.inner_end) + 1

    def characters(data: str) -> None:
        open_nodes[-1].text_parts.append(data)

    def refuse(*_: object) -> None:
        raise ImageError("the sidecar declares types or entities, as XMP never does: it was not read")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = characters, refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ImageError(f"not XMP: {error}") from error
    if _description(root) is None:
        raise ImageError("not XMP: there is no rdf:RDF with an rdf:Description in it")
    return root


def _tag_end(text: bytes, at: int) -> int:
    """Position after the > of a start tag; a > inside quotes does not count."""
    quote = 0
    for position in range(at, len(text)):
        character = text[position]
        if quote:
            quote = 0 if character == quote else quote
        elif character in b"\"'":
            quote = character
        elif character == ord(">"):
            return position + 1
    return len(text)


def _description(root: _Node) -> _Node | None:
    """The first rdf:Description, in which properties can be inserted."""
    for node in root.walk():
        if node.name == f"{RDF} RDF":
            return next((child for child in node.children if child.name == f"{RDF} Description"), None)
    return None


def _property(root: _Node, name: str) -> _Node | None:
    for node in root.walk():
        if node.name == f"{RDF} RDF":
            for description in node.children:
                for child in description.children:
                    if child.name == name:
                        return child
    return None


def _items(node: _Node | None) -> list[_Node]:
    """The items of a property that is a list."""
    if node is None:
        return []
    return [item for child in node.children if child.name in _LISTS for item in child.children]


def _keywords(root: _Node) -> tuple[list[str], list[str]]:
    """All keywords, and those among them that this package inserted."""
    subject = _property(root, f"{DC} subject")
    keywords = [tidy_keyword(item.text) for item in _items(subject)]
    if subject is not None and not subject.children and subject.text.strip():
        keywords.append(tidy_keyword(subject.text))  # a plain text instead of a list
    description = _description(root)
    assert description is not None
    if plain := description.attributes.get(f"{DC} subject"):
        keywords.append(tidy_keyword(plain))
    ours = [tidy_keyword(item.text) for item in _items(_property(root, f"{OURS} keywords"))]
    present = set(keywords)
    return keywords, [word for word in ours if word in present]


def _is_list_consistent(root: _Node) -> bool:
    """Whether all keywords in this package's list still exist: another program may have removed some."""
    listed = len(_items(_property(root, f"{OURS} keywords")))
    return listed == len(_keywords(root)[1])


def _is_empty(text: bytes) -> bool:
    """Whether a sidecar was created by this package and has no properties left."""
    root = _parsed(text)
    is_ours = any(node.attributes.get(f"{_META} xmptk") == TOOLKIT for node in root.walk())
    descriptions = [node for node in root.walk() if node.name == f"{RDF} Description"]
    return is_ours and not any(
        node.children or set(node.attributes) - {f"{RDF} about", "about"} for node in descriptions
    )


# ---------------------------------------------------------------------------------------------- writing


def _without(text: bytes, keywords: Sequence[str]) -> bytes:
    """Remove keywords inserted by this package, and their list.

    If no other keywords are left, the whole dc:subject is removed. Cut elements take the white space before
    them along, so that no blank lines remain.
    """
    root, ours = _parsed(text), set(keywords)
    removed = [_property(root, f"{OURS} keywords")]
    subject = _property(root, f"{DC} subject")
    items = _items(subject)
    matching: list[_Node | None] = [item for item in items if tidy_keyword(item.text) in ours]
    removed += [subject] if matching and len(matching) == len(items) else matching
    spans = [_with_space_before(text, node) for node in removed if node is not None]
    parts, at = [], 0
    for start, end in sorted(spans):
        parts.append(text[at:start])
        at = max(end, at)
    return b"".join([*parts, text[at:]])


def _with_space_before(text: bytes, node: _Node) -> tuple[int, int]:
    start = node.start
    while text[start - 1 : start].isspace():
        start -= 1
    return start, node.end


def _insert(text: bytes, words: Sequence[str]) -> bytes:
    """Insert keywords, and the list that marks them as inserted by this package."""
    root = _parsed(text)
    subject = _property(root, f"{DC} subject")
    if any(f"{DC} subject" in node.attributes for node in root.walk()):
        raise ImageError("the sidecar has its keywords in an attribute instead of a list: it was not changed")
    lists = [] if subject is None else [child for child in subject.children if child.name in _LISTS]
    if subject is None:
        text = _append_property(text, "dc:subject", f'xmlns:dc="{DC}"', words)
    elif lists:
        text = _append_items(text, lists[0], words)
    elif subject.text.strip():
        bag = f'<rdf:Bag xmlns:rdf="{RDF}"><rdf:li>{escape(subject.text.strip())}</rdf:li></rdf:Bag>'
        text = text[: subject.tag_end] + bag.encode() + text[subject.inner_end :]
        return _insert(text, words)
    else:  # <dc:subject/>
        start, end = _with_space_before(text, subject)
        return _insert(text[:start] + text[end:], words)
    return _append_property(text, "diptych:keywords", f'xmlns:diptych="{OURS}"', words)


def _append_items(text: bytes, bag: _Node, words: Sequence[str]) -> bytes:
    """Append items to a list, with its namespace prefix and the indentation of the last item."""
    opening = text[bag.start : bag.tag_end]
    name = re.match(rb"<([^\s/>]+)", opening)
    assert name is not None
    prefix = name[1].rpartition(b":")[0]
    tag = (prefix + b":li" if prefix else b"li").decode()
    if bag.closed:
        opened = opening[: opening.rindex(b"/")].rstrip() + b">"
        inner = _list_items(words, tag, "").encode()
        return text[: bag.start] + opened + inner + b"</" + name[1] + b">" + text[bag.end :]
    at, space = bag.tag_end, b""
    if bag.children:
        last = bag.children[-1]
        space, at = text[_with_space_before(text, last)[0] : last.start], last.end
    return text[:at] + _list_items(words, tag, space.decode()).encode() + text[at:]


def _append_property(text: bytes, name: str, declared: str, words: Sequence[str]) -> bytes:
    """Append a property to the first description; it declares its own prefixes."""
    description = _description(_parsed(text))
    assert description is not None
    inner = (
        f'\n   <{name} {declared} xmlns:rdf="{RDF}">\n    <rdf:Bag>'
        + _list_items(words, "rdf:li", "\n     ")
        + f"\n    </rdf:Bag>\n   </{name}>"
    ).encode()
    if description.closed:
        opening = text[description.start : description.tag_end]
        tag_name = re.match(rb"<([^\s/>]+)", opening)
        assert tag_name is not None
        opened = opening[: opening.rindex(b"/")].rstrip() + b">"
        closing = b"\n  </" + tag_name[1] + b">"
        return text[: description.start] + opened + inner + closing + text[description.end :]
    at = description.children[-1].end if description.children else description.tag_end
    return text[:at] + inner + text[at:]


def _list_items(words: Sequence[str], tag: str, space: str) -> str:
    return "".join(f"{space}<{tag}>{escape(word)}</{tag}>" for word in words)
