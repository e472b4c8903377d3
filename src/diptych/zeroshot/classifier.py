"""The zero-shot classifier (paper, section 3.1): names become prompts, prompts become class weights.

scikit-learn's manners: `__init__` stores, `fit` learns and returns self, learned names end in "_". Pictures
come in as paths, pictures, lists of these or vectors; each answer has one row per picture, a single picture
too. How names are read, cosines become probabilities and files are written is in the files beside this one.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.encoder import Encoder
from diptych.errors import ChecksumError, InputError, NotFittedError, TextError, WeightsError
from diptych.progress import Progress
from diptych.zeroshot import scoring, settings, storage
from diptych.zeroshot.labels import Label, Names, full_names, read_labels, warn_repeats
from diptych.zeroshot.pictures import Pictures, vectors
from diptych.zeroshot.scoring import Floats
from diptych.zeroshot.templates import resolve
from diptych.zeroshot.weights import ClassWeights, learn

Answers: TypeAlias = NDArray[np.object_]


class ZeroShotClassifier:
    """A classifier made of words.

    Parameters
    ----------
    encoder : Encoder
    templates : str, sequence of str or None
        A set of `TEMPLATES` by name, or templates with {}; several are averaged on the sphere. None: the
        names are ready prompts.
    activation : "auto", "softmax" or "sigmoid"
        "auto" is the sigmoid where `logit_bias` is not 0 (trained with the sigmoid loss), else softmax.
    multi_label : bool
        Each label is judged by itself: a two-way softmax of the label against `against`, or the sigmoid.
    against : "background", "negation" or sequence of str
        What a label is weighed against in a two-way softmax: texts about nothing in particular, the label's
        own negation, or your own texts (averaged on the sphere).
    synonyms : "mean" or "max"
        Several texts of a class: one weight, their mean on the sphere; or each its own, and the best one
        counts.
    none_cutoff : float, optional
        `predict` answers None where `confidence` is below it; `calibrate` finds it.
    none_method : "auto", "mcm" or "cosine"
        What `confidence` is, see `scoring.confidence`; "auto" is "cosine" for one class or sigmoids, else
        "mcm".
    batch_size : int
        Pictures encoded at a time.
    exact : bool
        Decode pictures in full and take their colours as stored, rather than scaled down while decoding and
        converted to sRGB.

    Attributes
    ----------
    classes_ : (C,) array of str
    weights_ : (C, dim) float32
        Unit rows: mean on the sphere over texts and templates.
    groups_ : tuple of str
        Groups of a hierarchy, such as "animal" and, nested, "animal/pet".
    none_cutoff_ : float or None

    Examples
    --------
    >>> import numpy as np
    >>> class Letters:                                    # an encoder in five lines: counts of a and b
    ...     identity, dim, input_size, logit_scale, logit_bias = "letters", 2, 8, 10.0, 0.0
    ...     def encode_texts(self, texts):
    ...         rows = np.array([[t.count("a"), t.count("b")] for t in texts], dtype=np.float32)
    ...         return rows / np.linalg.norm(rows, axis=1, keepdims=True)
    >>> classifier = ZeroShotClassifier(Letters(), templates=None).fit(["aaa", "bbb"])
    >>> picture = np.array([[0.8, 0.6]])                  # or "photo.jpg", or a list of paths
    >>> classifier.predict(picture).tolist(), classifier.scores(picture).round().tolist()
    (['aaa'], [[88.0, 12.0]])
    >>> classifier.add("ab").predict(picture).tolist()    # a new class is a new sentence
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

    # ---- learning ----

    def fit(self, names: Names, *, progress: Progress | None = None) -> Self:
        """Turn names into class weights; prompts go to the encoder in large batches, which share its work.

        Parameters
        ----------
        names : sequence of str, or mapping
            Names; or name -> texts (synonyms; None is the name itself); or a hierarchy, name -> such a
            mapping.
        progress : callable, optional
            Called with the number of prompts just encoded.

        Raises
        ------
        TextError
            No label, a blank one, or templates that are none.
        InputError
            A setting that is not among the valid ones, or a cut-off that no picture can reach.
        """
        self._check_settings()
        self._weights = self._learn(read_labels(names), progress)
        self.refuse_below(self.none_cutoff)
        self._warn()
        return self

    def add(self, names: Names) -> Self:
        """Add classes; those known already are not encoded again.

        A cut-off for "none of these" that depends on the number of classes ("mcm") is dropped, with a
        warning.
        """
        return self._replace(
            self._fitted().check_opponents(self._weighed).join(self._learn(read_labels(names)))
        )

    def remove(self, names: str | Sequence[str]) -> Self:
        """Take classes away by name.

        Raises
        ------
        TextError
            A name that is not among the classes, or nothing would be left.
        """
        gone = {names} if isinstance(names, str) else set(names)
        weights = self._fitted()
        names_now = full_names(weights.labels)
        if unknown := sorted(gone - set(names_now)):
            near = difflib.get_close_matches(unknown[0], list(self.classes_)) or list(self.classes_)[:10]
            raise TextError(f"no class is called {unknown[0]!r}; there are {', '.join(map(repr, near))}")
        mask = np.array([name not in gone for name in names_now])
        if not mask.any():
            raise TextError("removing these would leave no class: use fit for new ones")
        return self._replace(weights.keep(mask))

    def calibrate(
        self, images: Pictures, labels: Sequence[str | None] | None = None, *, quantile: float = 0.05
    ) -> Self:
        """Find the cut-off below which `predict` answers None ("none of these").

        Without pictures of other things the cut-off keeps 1 - `quantile` of the given ones, as is usual for
        out-of-distribution detection (95 of 100; Ming et al. 2022, arXiv 2211.13445). With some, marked None
        in `labels`, it is the one that separates the two kinds best (Youden's index).

        Parameters
        ----------
        images : pictures or (N, dim) vectors
        labels : sequence of str or None, optional
            For each picture its class, or None when it belongs to none.
        quantile : float
            Share of pictures that may be lost.
        """
        sure = self.confidence(images)
        if labels is not None and len(labels) != len(sure):
            raise InputError(
                f"{len(labels)} labels for {len(sure)} pictures: expected one for each, None for no class"
            )
        outside = np.array([label is None for label in labels] if labels is not None else [False] * len(sure))
        if outside.any():
            return self.refuse_below(scoring.separating_cutoff(sure[~outside], sure[outside]))
        return self.refuse_below(scoring.quantile_cutoff(sure, quantile))

    def refuse_below(self, cutoff: float | None) -> Self:
        """From now on `predict` answers None where `confidence` is under the cut-off; None: it never does.

        Raises
        ------
        InputError
            Every confidence would be under it, or none; a multi-label classifier.
        """
        if cutoff is not None:
            classes = len(self._fitted().labels)
            cutoff = settings.check_cutoff(cutoff, self._method, classes, multi_label=self.multi_label)
        self.none_cutoff_ = cutoff
        return self

    # ---- answers ----

    @property
    def classes_(self) -> Answers:
        """Class names, (C,), in the order of the columns; "bird/crane" where another group has a crane."""
        return np.array(full_names(self._fitted().labels), dtype=object)

    @property
    def weights_(self) -> Floats:
        """One unit row per class, (C, dim): the mean on the sphere over texts and templates."""
        return self._fitted().means

    @property
    def groups_(self) -> tuple[str, ...]:
        """Groups of a hierarchy, outer before inner; empty without one."""
        return tuple(self._members())

    def cosines(self, images: Pictures) -> Floats:
        """Cosine of each picture with each class, (N, C)."""
        return self._fitted().cosines(self._vectors(images))

    def predict_proba(self, images: Pictures) -> Floats:
        """Probability of each class, (N, C); rows sum to one unless labels are judged by themselves."""
        return self._probabilities(self._logits(self._vectors(images)))

    def scores(self, images: Pictures) -> Floats:
        """Scores from 0 to 100, (N, C): 100 times the probabilities."""
        return 100 * self.predict_proba(images)

    def group_proba(self, images: Pictures) -> Floats:
        """Probability of each group of a hierarchy, (N, len(groups_)).

        The sum over its classes; where labels are judged by themselves, the largest of them.
        """
        probabilities = self.predict_proba(images)
        alone = self._sigmoid or self.multi_label
        parts = [probabilities[:, columns] for columns in self._members().values()]
        joined = [part.max(axis=1) if alone else part.sum(axis=1) for part in parts]
        return np.stack(joined, axis=1) if joined else np.zeros((len(probabilities), 0), np.float32)

    def confidence(self, images: Pictures) -> Floats:
        """How sure the best answer is, (N,): see `none_method`."""
        return scoring.confidence(self.cosines(images), self._method)

    def predict(self, images: Pictures, *, cutoff: float = 0.5) -> Answers:
        """The best class of each picture, (N,) objects.

        A name, or None below the cut-off for "none of these". For a multi-label classifier a tuple of the
        names with a probability of at least `cutoff`, best first.
        """
        names, rows = self.classes_, self._vectors(images)
        logits = self._logits(rows)
        if not self.multi_label:
            best: Answers = names[logits.argmax(axis=1)]
            if self.none_cutoff_ is not None:
                best[self.confidence(rows) < self.none_cutoff_] = None
            return best
        answers = np.empty(len(rows), dtype=object)
        order = np.argsort(-logits, axis=1, kind="stable")
        for i, probabilities in enumerate(self._probabilities(logits)):
            answers[i] = tuple(names[c] for c in order[i] if probabilities[c] >= cutoff)
        return answers

    def top(self, images: Pictures, k: int = 5) -> list[list[tuple[str, float]]]:
        """For each picture its `k` best classes with their scores from 0 to 100, best first."""
        names, logits = self.classes_, self._logits(self._vectors(images))
        order = np.argsort(-logits, axis=1, kind="stable")[:, :k]  # probabilities may be equal: all 0, all 1
        table = 100 * self._probabilities(logits)
        return [[(names[c], float(row[c])) for c in best] for row, best in zip(table, order, strict=True)]

    # ---- files ----

    def save(self, path: str | Path) -> None:
        """Write the fitted classifier and the identity of its encoder to one small file, whole or not at all.

        Raises
        ------
        SaveError
            No space, no such folder, no permission.
        """
        kept = {name: getattr(self, name) for name in settings.SAVED}
        kept["templates"] = None if self.templates is None else resolve(self.templates)
        header = {"identity": self.encoder.identity, "settings": kept, "none_cutoff_": self.none_cutoff_}
        storage.save(Path(path), header, self._fitted())

    @classmethod
    def load(cls, path: str | Path, encoder: Encoder, *, batch_size: int = 32, exact: bool = False) -> Self:
        """Read a saved classifier back.

        Raises
        ------
        ChecksumError
            It was made with another encoder: cosines between two models mean nothing.
        WeightsError
            Not there, or not a saved classifier.
        """
        header, weights = storage.load(Path(path))
        made_with = header.get("identity")
        if made_with != encoder.identity:
            raise ChecksumError(
                f"{path} was made with the model {made_with}, and this one is {encoder.identity}: "
                "their vectors cannot be compared; load that model, or fit again with this one"
            )
        try:
            self = cls(encoder, **header["settings"], batch_size=batch_size, exact=exact)
            self._check_settings()
            self._weights = weights
            self.refuse_below(header["none_cutoff_"])
            if weights.means.shape[1] != encoder.dim:
                raise ValueError(f"width {weights.means.shape[1]}, and the encoder's is {encoder.dim}")
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise WeightsError(
                f"{path} is not a whole classifier ({type(error).__name__}: {error})"
            ) from error
        return self

    # ---- inside ----

    @property
    def _sigmoid(self) -> bool:
        return self.activation == "sigmoid" or (self.activation == "auto" and self.encoder.logit_bias != 0)

    @property
    def _weighed(self) -> bool:
        return self.multi_label and not self._sigmoid

    @property
    def _method(self) -> str:
        if self.none_method != "auto":
            return self.none_method
        return "cosine" if self._sigmoid or len(self._fitted().labels) == 1 else "mcm"

    def _logits(self, rows: Floats) -> Floats:
        """What the activation is applied to, (N, C)."""
        weights = self._fitted().check_opponents(self._weighed)
        cosines = weights.cosines(rows)
        if self._sigmoid:
            return self.encoder.logit_scale * cosines + self.encoder.logit_bias
        if self.multi_label:
            cosines = cosines - rows @ weights.opponents.T  # the sigmoid of a difference is a softmax of two
        return self.encoder.logit_scale * cosines

    def _probabilities(self, logits: Floats) -> Floats:
        alone = self._sigmoid or self.multi_label
        return scoring.sigmoid(logits) if alone else scoring.softmax(logits)

    def _learn(self, labels: tuple[Label, ...], progress: Progress | None = None) -> ClassWeights:
        best, against = self.synonyms == "max", self.against if self._weighed else None
        how: dict[str, Any] = {"templates": self.templates, "best_text": best, "against": against}
        return learn(self.encoder, labels, progress=progress, **how)

    def _fitted(self) -> ClassWeights:
        weights: ClassWeights | None = getattr(self, "_weights", None)
        if weights is None:
            raise NotFittedError("this classifier has no classes yet: call fit with class names first")
        return weights

    def _vectors(self, images: Pictures) -> Floats:
        return vectors(self.encoder, images, batch_size=self.batch_size, exact=self.exact)

    def _members(self) -> dict[str, list[int]]:
        """Group -> columns of its classes, of inner groups too."""
        members: dict[str, list[int]] = {}
        for column, label in enumerate(self._fitted().labels):
            for depth in range(1, len(label.groups) + 1):
                members.setdefault("/".join(label.groups[:depth]), []).append(column)
        return members

    def _replace(self, weights: ClassWeights) -> Self:
        """Go on with these classes, without a cut-off that no longer means the same."""
        methods = {self._method}
        self._weights = weights
        methods.add(self._method)
        if self.none_cutoff_ is not None and methods != {"cosine"}:
            self.none_cutoff_ = None  # the softmax over more or fewer classes has other values
            warnings.warn("the cut-off for none held for the classes before: calibrate again", stacklevel=3)
        self._warn()
        return self

    def _warn(self) -> None:
        labels = self._fitted().labels
        warn_repeats(labels)
        if len(labels) == 1 and not (self._sigmoid or self.multi_label):
            warnings.warn(
                "there is one label: the softmax over one class is always 100, whatever the picture; add a "
                "label for what else there may be, use multi_label=True, or look at cosines",
                stacklevel=3,
            )

    def _check_settings(self) -> None:
        settings.check({name: getattr(self, name) for name in settings.SAVED}, self.encoder.logit_bias)
