"""Placeholder."""

from __future__ import annotations
import numpy as np


def difference_hash(image):
    g = np.asarray(image.convert("L").resize((9, 8)), np.int16)
    return int(np.packbits(g[:, 1:] > g[:, :-1]).view(">u8")[0])


perceptual_hash = difference_hash


def hamming(a, b):
    return np.bitwise_count(np.bitwise_xor(np.uint64(a), np.uint64(b)))
