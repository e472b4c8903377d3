"""Texts beside the captions: hard negatives, and names and definitions of synsets."""
