"""Recognise texts that cameras and programs write as description by default.

Patterns must match the whole text: "OLYMPUS DIGITAL CAMERA" is boilerplate, "Grandpa with his Olympus digital
camera" is not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

_EXACT = frozenset(
    {"exif_jpeg_picture", "exif_jpeg", "exif jpeg", "dcim", "default", "untitled", "screenshot", "no comment"}
    | {"image description", "description", "default description", "caption", "title", "comment", "comments"}
    | {"user comment", "user comments", "usercomment", "none", "null", "(null)", "undefined", "unknown"}
    | {"ascii", "unicode", "jis", "binary comment", "applemark", "sony dsc", "samsung", "lg", "made by"}
    | {"enter caption", "your caption here", "add a caption", "no description", "no title", "jpeg", "image"}
    | {"n/a", "picture", "photo", "cd-r", "my photo", "new image", "untitled image", "edited", "hdr"}
    | {"fullsizerender", "unnamed", "microsoft office", "camera 360"}
)
_BRANDS = (
    r"(?:olympus|sanyo|konica|minolta|pentax|kodak|nikon|canon|casio|fuji(?:film)?|panasonic|lumix|samsung|"
    r"sony|ricoh|epson|hp|hewlett[- ]packard|jenoptik|polaroid|vivitar|praktica|agfa(?:photo)?|toshiba|benq|"
    r"rollei|leica|kyocera|yashica|traveler|medion|concord|aiptek|mustek|umax|premier|sigma|motorola|nokia|lg|htc|"
    r"huawei|xiaomi|genius|trust|creative|philips|sharp|hitachi|jvc|acer|asus|apple|google|gopro|ge|vtech|"
    r"hasselblad|eastman|asahi|optical)"
)
_COMPANY = r"(?:corporation|corp\.?|company|co\.?,?|ltd\.?|inc\.?|imaging|electronics|optical)"
_PROGRAMS = (
    r"(?:the gimp|gimp|(?:adobe )?photoshop(?: lightroom| elements| express| camera raw)?|"
    r"(?:adobe )?lightroom|adobe (?:illustrator|imageready|fireworks|bridge|camera raw)|adobe|imageready|"
    r"paint\.?net|(?:ms|microsoft) paint|microsoft (?:windows )?(?:photo(?: gallery| viewer|s)?|office)|"
    r"windows photo (?:gallery|viewer|editor)|imagemagick|graphicsmagick|gd-?jpeg|libgd|inkscape|krita|"
    r"digikam|darktable|rawtherapee|picasa|google(?: photos| picasa)?|gthumb|shotwell|showfoto|"
    r"irfanview|xnview(?: mp)?|xv|acd ?see|acd systems(?: digital imaging)?|faststone(?: image viewer)?|"
    r"corel\w*|(?:corel )?(?:photo-?paint|paint ?shop ?(?:pro)?)|paintshop|photo ?impact|"
    r"u-?lead(?: systems,? inc\.?)?|capture ?(?:one|nx)|dxo(?: \w+)?|aperture|iphoto|apple photos|"
    r"pixelmator(?: pro)?|affinity photo|"
    r"photo ?scape|photo ?filtre(?: studio)?|snapseed|instagram|vsco(?:cam)?|moldiv|picsart|canva|"
    r"nokia smart cam|ezgif(?:\.com)?|giphy|gifbuilder|gif movie gear|gif construction set|unfreez|"
    r"hugin|autostitch|microsoft ice|blender|povray|pov-ray|matplotlib|gnuplot|matlab|"
    r"lead technologies,? inc\.?|jpegmini|jpegtran|mozjpeg|jpeg-?recompress|tinypng|optipng|pngcrush|"
    r"ffmpeg|lav[cf]\S*|jpeg encoder|hp (?:photosmart|scanjet|digital imaging)\S*|"
    r"epson (?:perfection|scan)\S*|canoscan\S*|vuescan|silverfast|nero|zoner photo studio|"
    r"photo ?mechanic|photoline|serif \w+|"
    r"qualcomm(?: camera)?|mediatek camera application|stable diffusion|comfyui)"
)
# Unambiguous names; the others, such as "blender" and "nero", must be followed by a version.
_UNMISTAKABLE = (
    r"(?:the )?gimp|(?:adobe )?photoshop|imagemagick|picasa|irfanview|xnview|acd ?see|paint\.net|adobe \w+|"
    r"acd systems.*|u-?lead systems.*|lead technologies.*|ezgif(?:\.com)?|ffmpeg|gd-?jpeg|"
    r"(?:adobe )?lightroom|google photos|microsoft paint"
)
# Possessive repeats avoid exponential backtracking on words that match in two ways. A question mark before a
# number stands for a trademark sign that was lost: "Photoshop? 5.0".
_VERSION = (
    r"(?:\?(?=\s\d))?(?>[\s,;:()®™©/-]++(?:v(?:er(?:sion)?)?\.?\s*)?"
    r"(?:\w+ preset|\d[\w.]*|cs\d?|cc|pro|beta|release|build|"
    r"x\d+|with|preset|for|on an?|the|by|in|at|mac(?:intosh|os)?|os|x|windows|win\d*|linux|android|ios|"
    r"software|app|www\.\S+|https?:\S+|quality|[qQ]\s*=\s*\d+))*+[\s.!)®™©]*"
)
_IMAGE_SUFFIX = (
    r"\.(?:jpe?g|jpe|jfif|png|gif|tiff?|bmp|webp|heic|heif|avif|psd|xcf|dng|cr[23w]|nef|nrw|arw|raf|orf|rw2|pef|"
    r"srw|raw|mp4|mov|avi|pdf|svg)"
)
_COUNTERS = (
    r"(?:dsc[fn]?|img[pn]?|mg|cimg|pict?|dcp|dcim|sany|mvc|hpim|sam|imag|pxl|wp|vid|mov|gopr|gp|dji|kif|"
    r"pano|burst|file|scan(?:ned)?|image|photo|picture|pic|untitled|unbenannt|bild|foto|snapshot|"
    r"whatsapp image|fb|received|signal|telegram|screenshot|resized|fullsizerender)"
)
_DIGITS = r"[\s_\-#(.]*\d[\d\s_\-.:()]*(?:[ap]m|at|um|von)?[\d\s_\-.:()]*"
_SCREENSHOTS = (
    r"(?:screen[\s_-]?(?:shots?|grab|capture)|bildschirmfoto|capture d['\u2019 ]?[ée]cran|"
    r"captura de (?:pantalla|ecr[ãa]|tela)|schermata|schermafbeelding|skärmavbild|zrzut ekranu|"
    r"snímek obrazovky|スクリーンショット|снимок экрана|屏幕截图|屏幕快照|螢幕截圖|스크린샷)"
)
_MADE = (
    r"(?:created|made|edited|modified|processed|generated|produced|written|saved|exported|optimi[sz]ed|"
    r"compressed|converted|drawn|rendered|developed|captured|scanned|shot|taken|powered|image created)"
    r"\s+(?:with|by|using|in|on|from|via|through)"
)
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Camera names: "KODAK Digital Still Camera", "SANYO DIGITAL CAMERA SX113".
        rf"(?:(?:{_BRANDS})[\s,]+)*digital\s+(?:still\s+|video\s+)?(?:camera|cam|camcorder|image|photo|picture)"
        r"(?>\s+[\w-]*\d[\w-]*)*+",
        rf"(?:{_BRANDS}[\s,]+)+(?:{_COMPANY}\s*)+",
        r"<?\s*(?:samsung )?digimax\b[^>]*>?",
        rf"{_BRANDS}\s+[\w ]*\d[\w ]*\sdigital",
        r"exif[_ ]jpeg[_ ]\w+|jpeg_t\d+|sony\s+dsc\w*",
        r"(?:oz)?(?:dav|cof|rhdr|hdr|sdr|btf|fbt|ptr|ptfa?|rbt|bst|bty|vhs|mde|edf|nor|rptnb|btr|fhdr)(?:_\w+|wo)?",
        # Program names.
        rf"(?:file\s+|image\s+)?{_MADE}\s+(?:{_PROGRAMS}){_VERSION}",
        r"(?:created|generated|processed|edited|exported|saved|made|converted|compressed)\s+(?:with|by|using)"
        r"(?:\s+[\w&'-]+){1,4}\s+v?\d+\.\d[\w.]*",
        r"(?:software|encoder)\s*[:=].*",
        rf"(?=.*(?:\d|\bcs|[®™(]|windows|mac|linux|version|software)){_PROGRAMS}(?>[\s,]+{_PROGRAMS})*+{_VERSION}",
        rf"(?:{_UNMISTAKABLE})",
        r"optimi[sz]ed by jpegmini.*|generated by ijg jpeg library.*",
        r"created with (?:the )?(?:free |trial |evaluation |unregistered )+version of .*",
        r"jpeg encoder copyright .*|handmade software, inc.*|intel\(r\) jpeg library.*|lead technologies.*",
        r"cre[ae]tor: gd-jpeg.*|\*\s*|lav[cf]\d\S*|xv version .*|fbmd[0-9a-f]+|by\.blooddy\.crypto.*",
        # File names with counters or dates, and paths.
        rf"[\w\-.()~&+@#%]+{_IMAGE_SUFFIX}",
        rf"(?:copy of )?_*{_COUNTERS}{_DIGITS}(?:- )?"
        rf"(?:copy|[a-z]{{1,3}}\d+|edit|portrait|mp|night|cover|\w)?(?:{_IMAGE_SUFFIX})?",
        rf"_*{_COUNTERS}(?:[_\-]\w*\d[\w.\-~]*)(?:{_IMAGE_SUFFIX})?",
        r"[prslgwx]\d{6,}\w*|[a-z]+[_\-]\d{8,}\w*|instasize_.*|\d{3}_\d{4}\w*|_+\w{2,5}\d{3,}\w*",
        r"(?:[a-z]:[\\/]|\\\\|file:/)\S.*",
        rf"~?/[^/\s][^/]*/.*|(?:[\w.\- ]+[\\/]){{2,}}[\w.\- ]+{_IMAGE_SUFFIX}",
        # Screenshots, with time and program name.
        rf"{_SCREENSHOTS}s?(?:(?:[\s_\-.,:()]|\d|\b(?:at|um|from|à|a|las|le|alle|ore|om|kl|às|von|de|the|on|am|pm|"
        r"[ap]\.\s?m\.)\b)*|[\s_\-]*\d[\d_\-]+[_\-][\w.\- ]{1,40}|_\S*)",
        # Only numbers: times, counters, hashes; but not years and other short numbers.
        r"[\d\s_\-.:/+TZ]*\d{5}[\d\s_\-.:/+TZ]*|\d{4}[:\-./]\d\d[:\-./]\d\d[\sT_]*[\d:.\-+Z]*",
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?=\S*\d)[0-9a-f]{16,}",
    )
)
_CHARSET = re.compile(
    r"charset\s*=\s*[\"']?(?:ascii|unicode|jis|undefined|invalidcharsetid)[\"']?\s*", re.IGNORECASE
)
_LONGEST = 300  # characters; longer texts are never boilerplate


def strip_boilerplate(text: str, camera: Collection[str] = ()) -> str:
    """Return the text, or "" if it is boilerplate of a camera or program.

    Parameters
    ----------
    text : str
        On one line, see `diptych.media.metadata.exif.clean`.
    camera : collection of str
        Maker, model and software of this image: a text that equals one of them, or consists of their words,
        is boilerplate. A single plain word is kept: "apple" may be a caption although the maker is Apple.

    Examples
    --------
    >>> strip_boilerplate("OLYMPUS DIGITAL CAMERA")
    ''
    >>> strip_boilerplate("Grandpa with his Olympus digital camera")
    'Grandpa with his Olympus digital camera'
    >>> strip_boilerplate("charset=Ascii a red bicycle")
    'a red bicycle'
    """
    text = _CHARSET.sub("", text, count=1).strip() if text[:7].lower() == "charset" else text
    # Emoji count as words.
    if not any(letter.isalnum() or unicodedata.category(letter) == "So" for letter in text):
        return ""
    if len(text) > _LONGEST:
        return text
    if text.casefold().strip(" .!*<>()[]\"'") in _EXACT or any(rule.fullmatch(text) for rule in _PATTERNS):
        return ""
    words = text.casefold().split()
    names = {word for name in camera for word in name.casefold().split()}
    is_camera = text.casefold() in {name.casefold() for name in camera if not name.isalpha()}
    return "" if is_camera or (len(words) > 1 and set(words) <= names) else text
