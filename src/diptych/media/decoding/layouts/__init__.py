"""Layouts of TIFF, BMP, PSD, AVIF and others that Pillow decodes wrongly or not at all.

Decompression is done by the libraries; the interpretation of the bytes (depth, byte order, planes, masks,
palettes, transparency) is done here. A layout that cannot be read correctly is refused by name.
"""
