"""Result of a measurement: figures with chance and intervals, and facts on model, data and versions.

The JSON has the fields of CLIP_benchmark (dataset, model, pretrained, task, metrics, language), then our own.
"""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from diptych.embedding.batches import Failed
from diptych.errors import DataError
from diptych.files.disk import write_bytes
from diptych.reports import Estimate
from diptych.stats.intervals import wilson_cases
from diptych.stats.significance import against_chance, decide

_PACKAGES = ("diptych", "numpy", "pillow", "scipy", "torch")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures may depend on, without importing them."""
    installed = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            installed[package] = version(package)
    return installed


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of one measurement.

    Attributes
    ----------
    dataset, model, pretrained, task, language : str
        As in CLIP_benchmark.
    metrics : mapping
        Metric -> figure, from 0 to 1.
    chance : mapping
        Metric -> expected figure of random answers.
    intervals : mapping
        Metric -> (low, high), a 95 percent interval (`diptych.stats.intervals`).
    n : int
        Number of measured images; for a compositional benchmark, of test cases.
    sampled_from : int or None
        Number of images of the data set, if only a sample of it was measured.
    classes : int or None
        Number of classes, if the task has classes.
    templates : sequence of str or None
        Prompts; None if names were complete prompts or there were none.
    failures : sequence of Failed
        Images that were left out, with reasons.
    identity, data_fingerprint : str
        Of the encoder and the data.
    exact : bool
        Images were decoded in full, with colours as stored.
    precision : str
        Precision in which the encoder computed.
    outcomes : mapping
        Metric -> contribution of each image of the data set, in its order; None for unreadable images. Two
        results are compared by these (`comparison.py`). For "roc_auc" it is the image's placement
        (`rankings.placements`).
    labels : sequence of int
        Correct class of each image of the data set, if a metric is a mean over classes; -1: the image does
        not count in that mean.
    details : mapping
        Further values of the protocol.
    cost : mapping
        Of the model: parameters, and image_flops and text_flops of a forward pass; empty if unknown.
    versions, command
        Versions of packages, and the command.
    """

    dataset: str
    task: str
    metrics: Mapping[str, float]
    chance: Mapping[str, float]
    n: int
    identity: str
    data_fingerprint: str
    model: str = ""
    pretrained: str = ""
    language: str = "en"
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    classes: int | None = None
    templates: Sequence[str] | None = None
    failures: Sequence[Failed] = ()
    exact: bool = True
    versions: Mapping[str, str] = field(default_factory=versions)
    command: str = ""
    per_class: Mapping[str, float] = field(default_factory=dict)
    precision: str = "float32"
    outcomes: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    sampled_from: int | None = None
    cost: Mapping[str, float | None] = field(default_factory=dict)
    labels: Sequence[int] = ()

    @property
    def measured(self) -> str:
        """Number of measured images for tables; for a sample with the size of the data set.

        Examples
        --------
        >>> result = Result(dataset="toy", task="knn", metrics={}, chance={}, n=500, sampled_from=10_000,
        ...                 identity="", data_fingerprint="")
        >>> result.measured
        '500 of 10,000'
        """
        return f"{self.n:,}" + (f" of {self.sampled_from:,}" if self.sampled_from else "")

    def rows(self) -> list[dict[str, Any]]:
        """Table rows, one per metric: dataset, metric, value, low, high, chance, n, failures.

        With `sampled_from` if a sample was measured.

        Examples
        --------
        >>> result = Result(dataset="toy", task="zeroshot_classification", metrics={"acc1": 0.5},
        ...                 chance={"acc1": 0.1}, n=4, identity="sha256:1", data_fingerprint="sha256:2")
        >>> row = result.rows()[0]
        >>> row["metric"], row["value"], row["chance"], row["low"]
        ('acc1', 0.5, 0.1, None)
        """
        return [
            {
                "dataset": self.dataset,
                "metric": name,
                "value": value,
                "low": self.intervals.get(name, (None, None))[0],
                "high": self.intervals.get(name, (None, None))[1],
                "chance": self.chance.get(name),
                "n": self.n,
                "failures": len(self.failures),
                **({"sampled_from": self.sampled_from} if self.sampled_from else {}),
            }
            for name, value in self.metrics.items()
        ]

    def estimate(self, metric: str) -> Estimate:
        """A figure with its interval and the effective number of cases of the interval."""
        value, interval = self.metrics[metric], self.intervals.get(metric)
        if interval is None:
            return Estimate(value, n=self.n)
        return Estimate(value, *interval, n=self.n, effective=wilson_cases(value, *interval))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, CLIP_benchmark's fields first."""
        first = ("dataset", "model", "pretrained", "task", "metrics", "language")
        values = asdict(self)
        return {name: values[name] for name in (*first, *(key for key in values if key not in first))}

    def to_json(self) -> str:
        """JSON text of `to_dict`."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the JSON file, atomically; SaveError if that fails."""
        # File names that are not UTF-8 contain lone surrogates: escaped, they are valid JSON.
        write_bytes(Path(path), self.to_json().encode("utf-8", errors="backslashreplace"))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; fields of other tools are ignored."""
        known = {item.name for item in fields(cls)}
        required = [item.name for item in fields(cls) if MISSING is item.default is item.default_factory]
        if missing := [name for name in required if name not in values]:
            raise ValueError(f"it has no {', '.join(missing)}")
        kept = {name: value for name, value in values.items() if name in known}
        kept["failures"] = tuple(Failed(**item) for item in kept.get("failures", ()))
        kept["intervals"] = {name: (low, high) for name, (low, high) in kept.get("intervals", {}).items()}
        kept["labels"] = tuple(kept.get("labels", ()))
        return cls(**kept)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a result file; DataError if it is not such a file."""
        with _reading(path):
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Turn errors on reading a result file into a `DataError` that says what was expected."""
    expected = "expected the JSON that diptych evaluate writes with --out or --report"
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; {expected}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a result file: it is not text; {expected}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not a result file: it is not JSON ({error}); {expected}") from error
    except ValueError as error:
        raise DataError(f"{path} is not a result file: {error}; {expected}") from error
    except (TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a result file: fields of the wrong type; {expected}") from error


def not_above_chance(figures: Sequence[tuple[Result, str]]) -> list[tuple[Result, str]]:
    """The figures, (result, metric), not shown to be above chance; corrected for their number (Holm).

    Examples
    --------
    >>> good = Result(dataset="toy", task="knn", metrics={"acc1": 0.5}, chance={"acc1": 0.1}, n=99,
    ...               intervals={"acc1": (0.404, 0.596)}, identity="", data_fingerprint="")
    >>> not_above_chance([(good, "acc1")])
    []
    """
    claims = {
        number: against_chance(result.estimate(metric), result.chance[metric])
        for number, (result, metric) in enumerate(figures)
    }
    return [figures[number] for number, verdict in decide(claims).items() if verdict != "above"]


def short_name(metric: str) -> str:
    """Display name of a metric; JSON keeps CLIP_benchmark's name.

    Examples
    --------
    >>> short_name("mean_per_class_recall@16"), short_name("image_retrieval_recall@5"), short_name("acc1")
    ('class mean@16', 'image R@5', 'acc1')
    >>> short_name("mean_average_precision"), short_name("mean_average_precision_11_point")
    ('mAP', 'mAP 11 point')
    """
    named = metric.replace("mean_per_class_recall", "class mean").replace("_retrieval_recall", " R")
    return named.replace("mean_average_precision", "mAP").replace("_", " ")


def read_results(path: str | Path) -> list[Result]:
    """Read all results of a file: one result, a list, or a report with a field "results".

    Raises
    ------
    DataError
        Another kind of file.
    """
    with _reading(path):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(content, dict):
            content = content.get("results", [content])
        results = [Result.from_dict(item) for item in content]
        if not results:
            raise ValueError("it holds no result")
        return results
