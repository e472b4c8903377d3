"""Architectures by name, with the names of open_clip and timm."""
