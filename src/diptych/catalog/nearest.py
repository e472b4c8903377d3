"""Placeholder until the kernel arrives."""

from __future__ import annotations

import numpy as np


class Nearest:
    def __init__(self, segments, folder=None):
        self.segments = segments

    def search(self, queries, k, allowed=None, dead=None):
        H = (
            np.concatenate([p for _, p in self.segments.parts()]).astype(np.float32)
            if self.segments.rows
            else np.zeros((0, self.segments.dim), np.float32)
        )
        c = queries @ H.T
        if dead is not None:
            c[:, dead] = -np.inf
        if allowed is not None:
            m = np.ones(len(H), bool)
            m[allowed] = False
            c[:, m] = -np.inf
        o = np.argsort(-c, 1, kind="stable")[:, :k]
        s = np.take_along_axis(c, o, 1)
        o = np.where(np.isfinite(s), o, -1)
        if o.shape[1] < k:
            o = np.pad(o, ((0, 0), (0, k - o.shape[1])), constant_values=-1)
            s = np.pad(s, ((0, 0), (0, k - s.shape[1])), constant_values=-np.inf)
        return o, s.astype(np.float32)
