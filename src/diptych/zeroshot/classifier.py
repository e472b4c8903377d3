"""Zero-shot classifier (paper, section 3.1): class names become prompts, prompts become class weights.

It follows scikit-learn's conventions: `__init__` only stores its parameters, `fit` returns self, and fitted
attributes end in "_". Images are given as paths, bytes, PIL images, lists of these, or embeddings; outputs
have one row per image, also for a single image.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.encoder import Encoder
from diptych.errors import ChecksumError, InputError, NotFittedError, TextError, WeightsError
from diptych.progress import Progress
from diptych.zeroshot import scoring
from diptych.zeroshot.labels import Label, Names, full_names, read_labels, warn_repeats
from diptych.zeroshot.pictures import Pictures, image_embeddings
from diptych.zeroshot.templates import resolve
from diptych.zeroshot.weights import ClassWeights, compute_weights, load_weights, save_weights

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

Answers: TypeAlias = NDArray[np.object_]


class ZeroShotClassifier:
    """Classifier of images by the names of the classes, without training images.

    Parameters
    ----------
    templates : str, sequence of str or None
        Name of a set in `TEMPLATES`, or templates with {}; the embeddings of several are averaged and
        normalised. None: the names are complete prompts.
    activation : "auto", "softmax" or "sigmoid"
        "auto" is the sigmoid if `logit_bias` is not 0 (trained with the sigmoid loss), else softmax.
    multi_label : bool
        Labels do not compete: the probability of each is a softmax of the label and `against`, or its
        sigmoid.
    against : "background", "negation" or sequence of str
        Negative prompts of a multi-label softmax: general texts without an object, the label's negation, or
        your own texts (averaged and normalised).
    synonyms : "mean" or "max"
        How several texts of a class are combined: the normalised mean of their embeddings, or the largest of
        their cosines.
    none_cutoff : float, optional
        `predict` returns None if `confidence` is below it; `calibrate` chooses it.
    none_method : "auto", "mcm" or "cosine"
        Definition of `confidence`, see `scoring.confidence`; "auto" is "cosine" for one class or sigmoids,
        else "mcm".
    batch_size : int
        Images encoded at a time.
    exact : bool
        Decode images in full and keep their colours as stored, without conversion to sRGB.

    Attributes
    ----------
    classes_ : (C,) array of str
    weights_ : (C, dim) float32
        Unit vectors: normalised mean over texts and templates.
    groups_ : tuple of str
        Groups of a hierarchy, such as "animal" and, nested, "animal/pet".
    none_cutoff_ : float or None

    Examples
    --------
    >>> import numpy as np
    >>> class Letters:                                    # a toy encoder: counts of a and b
    ...     identity, dim, input_size, logit_scale, logit_bias = "letters", 2, 8, 10.0, 0.0
    ...     def encode_texts(self, texts):
    ...         counts = np.array([[t.count("a"), t.count("b")] for t in texts], dtype=np.float32)
    ...         return counts / np.linalg.norm(counts, axis=1, keepdims=True)
    >>> classifier = ZeroShotClassifier(Letters(), templates=None).fit(["aaa", "bbb"])
    >>> image = np.array([[0.8, 0.6]])                    # an embedding; or "photo.jpg", or a list of paths
    >>> classifier.predict(image).tolist(), classifier.scores(image).round().tolist()
    (['aaa'], [[88.0, 12.0]])
    >>> classifier.add("ab").predict(image).tolist()      # a new class needs only its name
    ['ab']
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        templates: str | Sequence[str] | None = "plain",
        activation: Literal["auto", "softmax", "sigmoid"] = "auto",
        multi_label: bool = False,
        against: str | Sequence[str] = "background",
        synonyms: Literal["mean", "max"] = "mean",
        none_cutoff: float | None = None,
        none_method: Literal["auto", "mcm", "cosine"] = "auto",
        batch_size: int = 32,
        exact: bool = False,
    ) -> None:
        self.encoder = encoder
        self.templates = templates
        self.activation = activation
        self.multi_label = multi_label
        self.against = against
        self.synonyms = synonyms
        self.none_cutoff = none_cutoff
        self.none_method = none_method
        self.batch_size = batch_size
        self.exact = exact

    def fit(self, names: Names, *, progress: Progress | None = None) -> Self:
        """Compute class weights from class names.

        Parameters
        ----------
        names : sequence of str, or mapping
            Names; or name -> texts (synonyms; None is the name itself); or a hierarchy, group -> such a
            mapping.
        progress : callable, optional
            Called with the number of prompts just encoded.

        Raises
        ------
        TextError
            No label, a blank one, or templates without {}.
        InputError
            An invalid setting, or a cut-off that no confidence can reach.
        """
        self._check_settings()
        self._weights = self._class_weights(read_labels(names), progress)
        self.refuse_below(self.none_cutoff)
        self._warn()
        return self

    def add(self, names: Names) -> Self:
        """Add classes; the existing ones are not encoded again.

        A cut-off for "none of these" that depends on the number of classes ("mcm") is dropped, with a
        warning.
        """
        weights = self._fitted().check_negatives(self._uses_negatives)
        return self._replace(weights.concatenate(self._class_weights(read_labels(names))))

    def remove(self, names: str | Sequence[str]) -> Self:
        """Remove classes by name.

        Raises
        ------
        TextError
            A name that is not among the classes, or no class would be left.
        """
        removed = {names} if isinstance(names, str) else set(names)
        weights = self._fitted()
        current_names = full_names(weights.labels)
        if unknown := sorted(removed - set(current_names)):
            similar = difflib.get_close_matches(unknown[0], current_names) or current_names[:10]
            raise TextError(f"no class is called {unknown[0]!r}; there are {', '.join(map(repr, similar))}")
        mask = np.array([name not in removed for name in current_names])
        if not mask.any():
            raise TextError("removing these would leave no class: use fit for new ones")
        return self._replace(weights.select(mask))

    def calibrate(
        self, images: Pictures, labels: Sequence[str | None] | None = None, *, quantile: float = 0.05
    ) -> Self:
        """Choose the cut-off below which `predict` returns None ("none of these").

        Without images outside the classes the cut-off keeps 1 - `quantile` of the given ones, as is usual for
        out-of-distribution detection (95 of 100; Ming et al. 2022, arXiv 2211.13445). With some, marked None
        in `labels`, it separates images inside and outside the classes best (Youden's index).

        Parameters
        ----------
        images : images or (N, dim) embeddings
        labels : sequence of str or None, optional
            The class of each image, or None if it belongs to no class.
        quantile : float
            Fraction of images of the classes that may fall below the cut-off.
        """
        confidences = self.confidence(images)
        if labels is not None and len(labels) != len(confidences):
            raise InputError(
                f"{len(labels)} labels for {len(confidences)} pictures: expected one each, None for no class"
            )
        known = [""] * len(confidences) if labels is None else labels
        outside = np.array([label is None for label in known], dtype=bool)
        if outside.any():
            return self.refuse_below(scoring.separating_cutoff(confidences[~outside], confidences[outside]))
        return self.refuse_below(scoring.quantile_cutoff(confidences, quantile))

    def refuse_below(self, cutoff: float | None) -> Self:
        """Set the cut-off below which `predict` returns None; None removes it.

        Raises
        ------
        InputError
            A cut-off outside the range of possible confidences, or a multi-label classifier.
        """
        if cutoff is not None:
            classes = len(self._fitted().labels)
            cutoff = scoring.check_cutoff(cutoff, self._method, classes, multi_label=self.multi_label)
        self.none_cutoff_ = cutoff
        return self

    @property
    def classes_(self) -> Answers:
        """Class names, (C,), in the order of the columns; "bird/crane" if another group has a crane too."""
        return np.array(full_names(self._fitted().labels), dtype=object)

    @property
    def weights_(self) -> FloatArray:
        """One unit vector per class, (C, dim): the normalised mean over texts and templates."""
        return self._fitted().class_embeddings

    @property
    def groups_(self) -> tuple[str, ...]:
        """Groups of a hierarchy, outer before inner; empty without one."""
        return tuple(self._group_columns())

    def cosines(self, images: Pictures) -> FloatArray:
        """Cosine of each image with each class, (N, C)."""
        return self._fitted().cosines(self._embeddings(images))

    def predict_proba(self, images: Pictures) -> FloatArray:
        """Probability of each class, (N, C); rows sum to one, except with sigmoids or `multi_label`."""
        return self._probabilities(self._logits(self._embeddings(images)))

    def scores(self, images: Pictures) -> FloatArray:
        """Scores from 0 to 100, (N, C): 100 times the probabilities."""
        return 100 * self.predict_proba(images)

    def group_proba(self, images: Pictures) -> FloatArray:
        """Probability of each group of a hierarchy, (N, len(groups_)).

        The sum over the classes of the group; with sigmoids or `multi_label`, their maximum.
        """
        probabilities = self.predict_proba(images)
        combine = np.max if self._independent else np.sum
        groups = [combine(probabilities[:, columns], axis=1) for columns in self._group_columns().values()]
        return np.stack(groups, axis=1) if groups else np.zeros((len(probabilities), 0), np.float32)

    def confidence(self, images: Pictures) -> FloatArray:
        """Confidence of the best class, (N,): see `none_method`."""
        return scoring.confidence(self.cosines(images), self._method)

    def predict(self, images: Pictures, *, cutoff: float = 0.5) -> Answers:
        """Predict the class of each image, (N,) objects.

        A name, or None below the cut-off for "none of these". For a multi-label classifier a tuple of the
        names with a probability of at least `cutoff`, most probable first.
        """
        names, embeddings = self.classes_, self._embeddings(images)
        logits = self._logits(embeddings)
        if not self.multi_label:
            best: Answers = names[logits.argmax(axis=1)]
            if self.none_cutoff_ is not None:
                best[self.confidence(embeddings) < self.none_cutoff_] = None
            return best
        answers = np.empty(len(embeddings), dtype=object)
        order = np.argsort(-logits, axis=1, kind="stable")
        for i, probabilities in enumerate(self._probabilities(logits)):
            answers[i] = tuple(names[c] for c in order[i] if probabilities[c] >= cutoff)
        return answers

    def top(self, images: Pictures, k: int = 5) -> list[list[tuple[str, float]]]:
        """The `k` best classes of each image with their scores from 0 to 100, best first."""
        names, logits = self.classes_, self._logits(self._embeddings(images))
        # By logits: probabilities may be rounded to equal values, all 0 or all 1.
        order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        table = 100 * self._probabilities(logits)
        return [[(names[c], float(row[c])) for c in best] for row, best in zip(table, order, strict=True)]

    # ---- files ----

    def save(self, path: str | Path) -> None:
        """Write the fitted classifier and the identity of its encoder to one file, atomically.

        Raises
        ------
        SaveError
            No space, no such folder, no permission.
        """
        saved = {name: getattr(self, name) for name in scoring.SAVED}
        saved["templates"] = None if self.templates is None else resolve(self.templates)
        header = {"identity": self.encoder.identity, "settings": saved, "none_cutoff_": self.none_cutoff_}
        save_weights(Path(path), header, self._fitted())

    @classmethod
    def load(cls, path: str | Path, encoder: Encoder, *, batch_size: int = 32, exact: bool = False) -> Self:
        """Read a saved classifier.

        Raises
        ------
        ChecksumError
            It was made with another encoder, whose embeddings cannot be compared with this one's.
        WeightsError
            The file is missing, or not a saved classifier.
        """
        header, weights = load_weights(Path(path))
        saved_identity = header.get("identity")
        if saved_identity != encoder.identity:
            raise ChecksumError(
                f"{path} was made with the model {saved_identity}, and this one is {encoder.identity}: "
                "their vectors cannot be compared; load that model, or fit again with this one"
            )
        try:
            self = cls(encoder, **header["settings"], batch_size=batch_size, exact=exact)
            self._check_settings()
            self._weights = weights
            self.refuse_below(header["none_cutoff_"])
            if (width := weights.class_embeddings.shape[1]) != encoder.dim:
                raise ValueError(f"width {width}, and the encoder's is {encoder.dim}")
        except (KeyError, TypeError, ValueError, InputError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise WeightsError(f"{path} is not a complete saved classifier ({reason})") from error
        return self

    # ---- internals ----

    @property
    def _sigmoid(self) -> bool:
        return self.activation == "sigmoid" or (self.activation == "auto" and self.encoder.logit_bias != 0)

    @property
    def _independent(self) -> bool:
        return self._sigmoid or self.multi_label  # the probabilities of a picture do not sum to one

    @property
    def _uses_negatives(self) -> bool:
        return self.multi_label and not self._sigmoid

    @property
    def _method(self) -> str:
        if self.none_method != "auto":
            return self.none_method
        return "cosine" if self._sigmoid or len(self._fitted().labels) == 1 else "mcm"

    def _logits(self, embeddings: FloatArray) -> FloatArray:
        """Logits of the classes, (N, C)."""
        weights = self._fitted().check_negatives(self._uses_negatives)
        cosines = weights.cosines(embeddings)
        if self._sigmoid:
            return self.encoder.logit_scale * cosines + self.encoder.logit_bias
        if self.multi_label:
            # exp(a) / (exp(a) + exp(b)) = sigmoid(a - b): a softmax of the label and its negative prompts.
            cosines = cosines - embeddings @ weights.negatives.T
        return self.encoder.logit_scale * cosines

    def _probabilities(self, logits: FloatArray) -> FloatArray:
        return scoring.sigmoid(logits) if self._independent else scoring.softmax(logits)

    def _class_weights(self, labels: tuple[Label, ...], progress: Progress | None = None) -> ClassWeights:
        per_text, against = self.synonyms == "max", self.against if self._uses_negatives else None
        options: dict[str, Any] = {"templates": self.templates, "per_text": per_text, "against": against}
        return compute_weights(self.encoder, labels, progress=progress, **options)

    def _fitted(self) -> ClassWeights:
        weights: ClassWeights | None = getattr(self, "_weights", None)
        if weights is None:
            raise NotFittedError("this classifier has no classes yet: call fit with class names first")
        return weights

    def _embeddings(self, images: Pictures) -> FloatArray:
        return image_embeddings(self.encoder, images, batch_size=self.batch_size, exact=self.exact)

    def _group_columns(self) -> dict[str, list[int]]:
        """Group -> columns of its classes, including those of inner groups."""
        columns: dict[str, list[int]] = {}
        for column, label in enumerate(self._fitted().labels):
            for depth in range(1, len(label.groups) + 1):
                columns.setdefault("/".join(label.groups[:depth]), []).append(column)
        return columns

    def _replace(self, weights: ClassWeights) -> Self:
        """Set new class weights, and drop a cut-off that depends on the number of classes."""
        methods = {self._method}
        self._weights = weights
        methods.add(self._method)
        if self.none_cutoff_ is not None and methods != {"cosine"}:
            self.none_cutoff_ = None  # a softmax over another number of classes has another range
            warnings.warn("the classes changed, so the cut-off was dropped: calibrate again", stacklevel=3)
        self._warn()
        return self

    def _warn(self) -> None:
        labels = self._fitted().labels
        warn_repeats(labels)
        if len(labels) == 1 and not (self._sigmoid or self.multi_label):
            warnings.warn(
                "there is one label: the softmax over one class is always 100, whatever the picture; add a "
                "label for other pictures, use multi_label=True, or use cosines",
                stacklevel=3,
            )

    def _check_settings(self) -> None:
        scoring.check_settings({name: getattr(self, name) for name in scoring.SAVED}, self.encoder.logit_bias)
