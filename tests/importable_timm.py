"""Importing timm where torch is a CPU build, for the tests of towers that timm builds."""

from __future__ import annotations

import sys

import torch


def import_timm() -> torch.library.Library | None:
    """Import timm; the returned objects must be kept as long as timm is used.

    A CPU build of torch lacks two operators that torchvision's wheel requires, so they are declared here.
    """
    library = None
    try:
        import timm
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "timm")]:
            del sys.modules[name]
        import timm
    assert timm.__version__
    return library
