"""From the bytes of a file to RGB pixels: formats, layouts that Pillow misreads, colour profiles, damage."""
