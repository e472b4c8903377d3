"""Automatic tags, and sidecar files with tags for other programs."""
