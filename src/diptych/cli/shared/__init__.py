"""Shared by several commands: options, console output, labels, limits."""
