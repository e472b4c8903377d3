"""Formats of many layouts, read here where Pillow reads them wrong or not at all.

Decompression stays with the libraries; what the bytes mean is settled here: depth, order, planes, masks,
palettes, transparency. A layout that nobody reads right is refused by name, never shown as other pixels.
"""
