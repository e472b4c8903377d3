"""Decode image files to RGB pixels: formats, layouts that Pillow misreads, colour profiles, damaged files."""
