"""Zero-shot classification: class names in words become the weights of a linear classifier.

Files of this room: `templates` (template sets and class names of known data sets), `labels` (what may be
handed in as names), `weights` (prompts to class weights), `scoring` (cosines to probabilities, and how sure
an answer is), `pictures` (what may be handed in as pictures), `storage` (the file of a saved classifier),
`classifier` (fit, predict, add, remove, calibrate, save). NumPy only: pictures and texts come in through an
`Encoder`.
"""

from __future__ import annotations

from diptych.zeroshot.classifier import ZeroShotClassifier
from diptych.zeroshot.templates import TEMPLATES, class_names, class_texts, expand, folder_names

__all__ = ["ZeroShotClassifier", "TEMPLATES", "expand", "class_names", "class_texts", "folder_names"]
