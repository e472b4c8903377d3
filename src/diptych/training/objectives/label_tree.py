"""The teacher of a label tree: a pretrained image classifier, and the names above its classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diptych.errors import TrainingError
from diptych.model.config import CLIPConfig, EfficientNetConfig
from diptych.model.efficientnet import EfficientNet
from diptych.training.data.texts.companions import STRENGTHS, LabelTree
from diptych.training.data.texts.synsets import Synset, read_synsets
from diptych.weights.backbones.efficientnet_lite import ImageClassifier, read_image_classifier

LARGEST_MARGIN = 8.0  # of the logit of a made-up picture's class over all other logits


class LabelTreeTeacher:
    """Probabilities of the nodes of a tree, and made-up features that show a class.

    Parameters
    ----------
    classifier : ImageClassifier
    synsets : sequence of Synset
        The nodes: those with classes, in the order of `data.texts.companions.NodeTexts`.
    device : torch.device

    Raises
    ------
    TrainingError
        A node has a class that the classifier has not.
    """

    def __init__(self, classifier: ImageClassifier, synsets: Sequence[Synset], device: torch.device) -> None:
        nodes = [synset for synset in synsets if synset.classes]
        count = len(classifier.bias)
        largest = max(max(synset.classes) for synset in nodes)
        if largest >= count:
            raise TrainingError(
                f"the label tree has a class {largest}, and the classifier has {count} classes"
            )
        members = torch.zeros(count, len(nodes))
        for number, synset in enumerate(nodes):
            members[list(synset.classes), number] = 1
        self.members = members.to(device)  # (C, N)
        # i(n) = -log(share of the classes below n); at most log C, at a leaf.
        self.information = -(members.mean(0)).log().to(device)  # (N,)
        self.weight, self.bias = classifier.weight.float().to(device), classifier.bias.float().to(device)
        with torch.device("meta"):
            tower = EfficientNet(classifier.config, 1)
        tower.load_state_dict(dict(classifier.tower), strict=False, assign=True)
        tower.head = torch.nn.Identity()  # type: ignore[assignment]  # the projection is not used
        self._config = classifier.config
        self._tower = tower.to(device).float().eval().requires_grad_(False)

    @classmethod
    def open(cls, config: LabelTree, device: torch.device) -> LabelTreeTeacher:
        """Read the files of a config."""
        classifier = read_image_classifier(Path(config.classifier).expanduser())
        return cls(classifier, read_synsets(config.path), device)

    def has_tower_of(self, shape: CLIPConfig) -> bool:
        """Whether a model has the tower of the classifier, whatever the size of its pictures."""
        vision = shape.vision
        own = (self._config.width, self._config.depth)
        return isinstance(vision, EfficientNetConfig) and (vision.width, vision.depth) == own

    def features(self, images: Tensor, unlocked: int | None = None) -> Tensor:
        """Features of images (B, 3, S, S), or from the output of the tower's locked part; (B, W).

        Parameters
        ----------
        unlocked : int or None
            Groups after the locked part, see `EfficientNet.locked_features`; None for images.
        """
        if unlocked is None:
            return self._tower.features(images).float()
        return self._tower.features_after(images, unlocked).float()

    def class_probabilities(self, features: Tensor) -> Tensor:
        """Probability of each class, (B, W) -> (B, C)."""
        return self._logits(features).softmax(1)

    def synthetic_features(self, features: Tensor, samples: Tensor) -> Tensor:
        """Features moved along the weights of a class until the classifier sees it.

        Along w_c the logit of class c grows fastest. For a margin m over the largest logit,
        x' = max(0, x + (max(z) - z_c + m) w_c / |w_c|^2), where features are means of ReLU6 and so never
        negative.

        Parameters
        ----------
        features : Tensor, shape (B, W)
        samples : Tensor, shape (B, 3 or more)
            Begins with `NodeTexts.of`: the second column is the class, the third decides the margin.

        Returns
        -------
        Tensor, shape (B, W)
            Rows without a class are those of `features`.
        """
        classes = samples[:, 1].clamp(min=0)
        direction = self.weight[classes]  # (B, W)
        logits = self._logits(features)
        missing = logits.amax(1) - logits.gather(1, classes[:, None])[:, 0]  # (B,)
        margin = LARGEST_MARGIN * samples[:, 2].float() / STRENGTHS
        step = (missing + margin) / direction.square().sum(1)
        moved = (features + step[:, None] * direction).clamp(min=0)
        return torch.where((samples[:, 1] >= 0)[:, None], moved, features)

    def _logits(self, features: Tensor) -> Tensor:
        # In float32: the distance of two logits decides how far features are moved.
        with torch.autocast(features.device.type, enabled=False):
            return features.float() @ self.weight.T + self.bias
