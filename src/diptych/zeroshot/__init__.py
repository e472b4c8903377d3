"""Zero-shot classification: the embeddings of class names are the weights of a linear classifier.

Modules: `templates` (template sets and class names of known data sets), `labels` (accepted forms of class
names), `weights` (class weights from prompts), `scoring` (probabilities and confidence from cosines),
`pictures` (embeddings of input images), `storage` (the file of a saved classifier), `classifier` (fit,
predict, add, remove, calibrate, save). NumPy only: images and texts are encoded by an `Encoder`.
"""

from __future__ import annotations

from diptych.zeroshot.classifier import ZeroShotClassifier
from diptych.zeroshot.templates import TEMPLATES, class_names, class_texts, expand, folder_names

__all__ = ["ZeroShotClassifier", "TEMPLATES", "expand", "class_names", "class_texts", "folder_names"]
