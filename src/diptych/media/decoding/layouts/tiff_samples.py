"""Convert the samples of a TIFF to an image: depth, colours, transparency."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from diptych.media.decoding.colours import floats_to_uint8
from diptych.media.decoding.layouts.lazy import LayoutError

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, CIELAB, ICCLAB, ITULAB = range(10)
_COLOURS = {RGB: 3, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
_NAMES = {
    WHITE_IS_ZERO: "grey (white is zero)", BLACK_IS_ZERO: "grey", RGB: "RGB", PALETTE: "palette",
    MASK: "a mask", CMYK: "inks", YCBCR: "YCbCr", CIELAB: "CIE L*a*b*", ICCLAB: "ICC L*a*b*",
    ITULAB: "ITU L*a*b*",
    32803: "a colour filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear RAW",
}  # fmt: skip
_KINDS = {1: "unsigned", 2: "signed", 3: "floating", 4: "untyped", 5: "complex", 6: "complex"}
_COLOUR_MAP, _INK_SET, _WEIGHTS, _SUBSAMPLING, _REFERENCE = 320, 332, 529, 530, 532
_ASSOCIATED, _SEPARATE, _COREL = 1, 2, 999


@dataclass(frozen=True)
class Layout:
    """Layout of the pixels, from the tags of a TIFF directory.

    Attributes
    ----------
    size : (int, int)
        Width and height, as stored.
    bits, format : int
        Of every sample; 0 if they differ. Formats: 1 unsigned, 2 signed, 3 floating point.
    order : {"<", ">"}
    tags : mapping
        All tags of the directory.
    """

    size: tuple[int, int]
    bits: int
    format: int
    samples: int
    photometric: int
    planar: bool
    extra: tuple[int, ...]
    compression: int
    fill_order: int
    predictor: int
    order: Literal["<", ">"]
    tags: Any = field(repr=False)

    @property
    def described(self) -> str:
        """Short description of the layout, for messages.

        Examples
        --------
        >>> Layout((1, 1), 16, 1, 3, 2, True, (), 1, 1, 1, "<", {}).described
        'RGB, 3 x 16 bits (unsigned), separate planes'
        """
        name = _NAMES.get(self.photometric, f"photometric interpretation {self.photometric}")
        kind = _KINDS.get(self.format, "of several kinds")
        planes = ", separate planes" if self.planar else ""
        return f"{name}, {self.samples} x {self.bits or 'various'} bits ({kind}){planes}"

    @property
    def colours(self) -> int:
        """Number of colour samples, without extra samples."""
        return _COLOURS.get(self.photometric, 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of an unpacked sample.

        Raises
        ------
        ImageError
            The depth is not supported, or its brightness range is not defined.
        """
        if self.format == 3 and self.bits in (16, 32, 64):
            return np.dtype(f"f{self.bits // 8}")
        if self.format in (1, 4) and 1 <= self.bits <= 32:
            return np.dtype("u1" if self.bits <= 8 else "u2" if self.bits <= 16 else "u4")
        raise LayoutError(
            f"a TIFF of {self.described}: the range of such samples is not defined; "
            "expected unsigned samples of 1 to 32 bits or floating-point ones"
        )


def image_of_samples(layout: Layout, samples: NDArray[Any]) -> Image.Image:
    """Convert samples to an image of mode L, LA, RGB, RGBA or CMYK.

    Parameters
    ----------
    samples : (H, W, S) array of `Layout.dtype`

    Raises
    ------
    LayoutError
        The layout is not supported.
    """
    if layout.samples < layout.colours:
        raise LayoutError(f"a TIFF of {layout.described}: too few samples")
    if layout.photometric == PALETTE:
        image = _image_from_palette(layout, samples[..., 0])
        colours = levels = _to_8_bits(layout, samples)
    else:
        levels = _to_8_bits(layout, samples)
        colours = levels[..., : layout.colours]
    kind = _alpha_kind(layout)
    if kind is None:
        return image if layout.photometric == PALETTE else _image_from_colours(layout, colours)
    alpha = levels[..., layout.colours]
    if layout.photometric == CMYK:
        # Pillow has no CMYK mode with alpha: composite over white, which scales the inks by alpha.
        scale = alpha[..., None].astype(np.uint16) + 1
        return _image_from_colours(
            layout, colours if kind == _ASSOCIATED else (colours * scale >> 8).astype(np.uint8)
        )
    if layout.photometric != PALETTE:
        if kind == _ASSOCIATED and layout.photometric in (BLACK_IS_ZERO, RGB):
            colours = _unpremultiply(colours, alpha)
        image = _image_from_colours(layout, colours)
    image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    return image


def _alpha_kind(layout: Layout) -> int | None:
    """Kind of alpha in the first extra sample; None if it is not alpha (unspecified data is a selection)."""
    if layout.samples <= layout.colours:
        return None
    if not layout.extra:  # tag missing: by convention the fourth sample of RGB is alpha
        return _SEPARATE if layout.photometric == RGB and layout.samples == 4 else None
    kind = layout.extra[0]
    return {_ASSOCIATED: _ASSOCIATED, _SEPARATE: _SEPARATE, _COREL: _SEPARATE}.get(kind)


def _to_8_bits(layout: Layout, samples: NDArray[Any]) -> NDArray[np.uint8]:
    levels: NDArray[Any]
    if layout.format == 3:
        return floats_to_uint8(samples, layout.colours)
    if layout.bits < 8:
        levels = samples.astype(np.uint16) * 255 // (2**layout.bits - 1)
    else:
        levels = samples >> (layout.bits - 8)
    return np.asarray(levels, np.uint8)


def _unpremultiply(colours: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    wide, opacity = colours.astype(np.uint32), alpha[..., None].astype(np.uint32)
    return np.asarray(np.minimum((wide * 255 + opacity // 2) // np.maximum(opacity, 1), 255), np.uint8)


def _image_from_palette(layout: Layout, indices: NDArray[Any]) -> Image.Image:
    table = np.asarray(layout.tags.get(_COLOUR_MAP, ()), np.uint32)
    if layout.bits > 16 or len(table) < 3 or len(table) % 3:
        raise LayoutError(f"a TIFF of {layout.described}: its palette has {len(table):,} values")
    table = table.reshape(3, -1).T  # (colours, 3), 16 bits
    shift = 8 if table.max() > 255 else 0  # some programs write 8-bit palettes
    palette = (table >> shift).astype(np.uint8)
    return Image.fromarray(palette[np.minimum(indices, len(palette) - 1)])


def _image_from_colours(layout: Layout, colours: NDArray[np.uint8]) -> Image.Image:
    colours = np.ascontiguousarray(colours)
    kind = layout.photometric
    if kind in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        grey = colours[..., 0]
        return Image.fromarray(np.ascontiguousarray(255 - grey if kind == WHITE_IS_ZERO else grey))
    if kind == RGB:
        return Image.fromarray(colours)
    if kind == CMYK and int(layout.tags.get(_INK_SET, 1)) == 1:
        return Image.frombytes("CMYK", layout.size, colours.tobytes())
    if kind == YCBCR and tuple(layout.tags.get(_SUBSAMPLING, (2, 2))) == (1, 1):
        return _image_from_ycbcr(layout, colours)
    if kind in (CIELAB, ICCLAB) and layout.format == 1:
        # Pillow's LAB has a and b around 128, like ICC L*a*b*; those of CIE L*a*b* are signed.
        if kind == CIELAB:
            colours = colours ^ np.array([0, 128, 128], np.uint8)
        return _image_from_lab(Image.frombytes("LAB", layout.size, colours.tobytes()))
    raise LayoutError(f"a TIFF of {layout.described}: neither Pillow nor this package reads this layout")


def _image_from_lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    # Pillow passes a and b to lcms as signed bytes.
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None
    return converted


def _image_from_ycbcr(layout: Layout, colours: NDArray[np.uint8]) -> Image.Image:
    """Convert YCbCr to RGB by the weights and the reference range of the file."""
    red, green, blue = (float(value) for value in layout.tags.get(_WEIGHTS, (0.299, 0.587, 0.114)))
    reference = [float(value) for value in layout.tags.get(_REFERENCE, (0, 255, 128, 255, 128, 255))]
    black = np.array(reference[0::2])
    white = np.array(reference[1::2])
    scale = np.array([255.0, 127.0, 127.0]) / np.where(white > black, white - black, 1)
    y, cb, cr = np.moveaxis((colours - black) * scale, -1, 0)
    r = y + cr * (2 - 2 * red)
    b = y + cb * (2 - 2 * blue)
    g = (y - red * r - blue * b) / green if green else y
    return Image.fromarray(np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255).astype(np.uint8))
