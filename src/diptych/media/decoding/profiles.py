"""Convert colours to sRGB by ICC profiles, or by the colour numbers of PNG, HEIF and AVIF.

A transform is built once per profile and shared by all threads. No transform is built for a profile that is
damaged, does not match the mode of the image, or is practically sRGB.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LARGEST = 2**24  # bytes of a profile; profiles of printing presses have about 2 MB
_SAME = 2  # levels by which different sRGB profiles may differ
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}  # mode of an image -> colour space of its profile
_SRGB_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x, y of red, green, blue
_D65 = (0.3127, 0.3290)
_DCI_WHITE = (0.314, 0.351)
_SRGB_GAMMA = 1 / 2.2  # gamma that sRGB files declare
# Colour primaries of ITU-T H.273: chromaticities and white point. 1 is that of sRGB.
_PRIMARIES = {
    1: (_SRGB_PRIMARIES, _D65),
    9: ((0.708, 0.292, 0.170, 0.797, 0.131, 0.046), _D65),
    11: ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060), _DCI_WHITE),
    12: ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060), _D65),
}
_VIDEO_CURVES = {1, 6, 13, 14, 15}  # transfer functions that are displayed like that of sRGB
_GAMMAS = {4: 1 / 2.2, 5: 1 / 2.8, 8: 1.0}
_CURVE = np.linspace(0, 1, 1024)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])


class _GeneratedProfile(bytes):
    """An RGB profile generated from colour numbers or gamma, which also apply to grey images."""


def profile_of(image: Image.Image) -> bytes | None:
    """The ICC profile of an image's colours; None if they are sRGB or nothing is declared.

    Parameters
    ----------
    image : PIL.Image.Image
        Opened, not necessarily loaded. Priority: embedded profile, colour numbers of HEIF, AVIF and PNG
        (ITU-T H.273), the sRGB chunk of PNG, its gamma and chromaticities.

    Examples
    --------
    >>> profile_of(Image.new("RGB", (1, 1))) is None
    True
    """
    info = image.info
    numbers = info.get("nclx_profile") or info.get("cicp")
    if isinstance(numbers, Mapping):
        numbers = (numbers.get("color_primaries"), numbers.get("transfer_characteristics"))
    embedded = info.get("icc_profile")
    # In a PNG the numbers take precedence over a profile; HEIF files have only one of the two.
    if "cicp" in info or not embedded:
        generated = _profile_of_numbers(numbers)
        if generated is not None:
            return generated
    if isinstance(embedded, bytes) and 128 < len(embedded) <= _LARGEST:
        return embedded
    if "srgb" in info or "gamma" not in info:
        return None
    return _profile_of_gamma(info["gamma"], info.get("chromaticity"))


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert colours from the space of a profile to sRGB, with perceptual intent, as viewers do.

    Parameters
    ----------
    image : PIL.Image.Image
        In mode RGB, L or CMYK.

    Returns
    -------
    PIL.Image.Image or None
        In mode RGB; None if no conversion applies: the profile is sRGB, damaged, or for another mode.
    """
    if image.mode == "L" and isinstance(profile, _GeneratedProfile):
        image = image.convert("RGB")
    transform = _transform(profile, image.mode) if image.mode in _SPACES else None
    return None if transform is None else transform(image)


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    try:
        from PIL import ImageCms  # missing in some builds of Pillow
    except ImportError:
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space != _SPACES[mode]:
            return None
        built = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")

        def apply(image: Image.Image) -> Image.Image:
            converted = ImageCms.applyTransform(image, built)
            assert converted is not None  # None only for conversion in place
            return converted

        return None if mode != "CMYK" and _is_identity(apply, mode) else apply
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _is_identity(apply: Callable[[Image.Image], Image.Image], mode: str) -> bool:
    """Whether 4,096 colours of a grid (or all 256 greys) are unchanged, within `_SAME` levels."""
    if mode == "L":
        sample = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    else:
        levels = np.arange(0, 256, 17, dtype=np.uint8)
        grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
        sample = Image.fromarray(grid)
    before, after = np.asarray(sample.convert("RGB"), int), np.asarray(apply(sample), int)
    return bool(np.abs(before - after).max() <= _SAME)


def _profile_of_numbers(numbers: object) -> bytes | None:
    """Generate a profile from H.273 numbers of primaries and transfer function; None for HDR (PQ, HLG)."""
    if not isinstance(numbers, tuple) or numbers[0] not in _PRIMARIES:
        return None
    primaries, transfer = numbers[:2]
    if transfer not in _VIDEO_CURVES and transfer not in _GAMMAS:
        return None
    chromaticities, white = _PRIMARIES[primaries]
    return _matrix_profile(chromaticities, white, _GAMMAS.get(transfer))


def _profile_of_gamma(gamma: Any, chromaticity: Any) -> bytes | None:
    """Generate a profile from PNG's gAMA and cHRM; None for implausible values."""
    if not isinstance(gamma, int | float) or not 0.2 <= gamma <= 2:
        return None
    white: tuple[float, ...] = _D65
    primaries: tuple[float, ...] = _SRGB_PRIMARIES
    if isinstance(chromaticity, Sequence) and len(chromaticity) == 8 and _is_sensible(chromaticity):
        values = [float(value) for value in chromaticity]
        white, primaries = (values[0], values[1]), tuple(values[2:])
    return _matrix_profile(primaries, white, None if abs(gamma - _SRGB_GAMMA) < 0.01 else float(gamma))


def _is_sensible(chromaticity: Sequence[float]) -> bool:
    """Whether white is inside the triangle of three distinct primaries."""
    white, red, green, blue = np.asarray(chromaticity, float).reshape(4, 2)
    if min(white[1], red[1], green[1], blue[1]) <= 0:
        return False
    turns = [
        (b[0] - a[0]) * (white[1] - a[1]) - (b[1] - a[1]) * (white[0] - a[0])
        for a, b in ((red, green), (green, blue), (blue, red))
    ]
    return bool(min(turns) > 1e-3 or max(turns) < -1e-3)


@lru_cache(maxsize=32)
def _matrix_profile(
    primaries: tuple[float, ...], white: tuple[float, ...], gamma: float | None
) -> bytes | None:
    """Generate a matrix ICC profile (version 2) from primaries, white point and one curve.

    Parameters
    ----------
    primaries : (6,) floats
        x and y of red, green and blue.
    white : (2,) floats
    gamma : float, optional
        Encoding exponent; by default the sRGB curve.
    """
    columns = np.stack([_xyz(*primaries[i : i + 2]) for i in (0, 2, 4)], axis=1)  # (3, 3)
    reference = _xyz(*white)
    matrix = columns * np.linalg.solve(columns, reference)  # scaled so that (1, 1, 1) is white
    # Adapt white to D50, the white point of ICC's connection space (Bradford transform).
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ reference)
    matrix = np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD @ matrix
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 30_000:
        return None
    tags = {b"desc": _description(), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz_tag(_D50)}
    tags |= {name: _xyz_tag(matrix[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve_tag(gamma))
    return _GeneratedProfile(_serialised(tags))


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _xyz_tag(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _curve_tag(gamma: float | None) -> bytes:
    linear: NDArray[np.float64]
    if gamma is None:
        linear = np.where(_CURVE <= 0.04045, _CURVE / 12.92, ((_CURVE + 0.055) / 1.055) ** 2.4)
    else:
        linear = _CURVE ** (1 / gamma)
    values: bytes = np.rint(linear * 65535).astype(">u2").tobytes()
    return b"curv\0\0\0\0" + struct.pack(">I", len(_CURVE)) + values


def _description() -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", 5) + b"made\0" + bytes(8 + 2 + 1 + 67)


def _serialised(tags: dict[bytes, bytes]) -> bytes:
    """Bytes of a display profile: header, tag table and tag data."""
    at = 128 + 4 + 12 * len(tags)
    table, values = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(values), len(value))
        values += value + bytes(-len(value) % 4)
    header = struct.pack(">I4xI", at + len(values), 0x02100000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + _xyz_tag(_D50)[8:]
    return header.ljust(128, b"\0") + table + values
