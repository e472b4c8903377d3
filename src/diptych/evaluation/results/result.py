"""A result: figures with chance beside them, and everything needed to know what was measured.

The JSON is CLIP_benchmark's (dataset, model, pretrained, task, metrics, language) with fields of ours after
it. Printing tables is the command line's business: `Result.rows` gives it the cells.
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
from diptych.stats.significance import Verdict, against_chance, decide

_PACKAGES = ("diptych", "numpy", "pillow", "scipy", "torch")


def versions() -> dict[str, str]:
    """Versions of Python and the packages figures may depend on; nothing is imported for it."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one measurement gave.

    Attributes
    ----------
    dataset, model, pretrained, task, language : str
        As CLIP_benchmark has them.
    metrics : mapping
        Name -> figure, from 0 to 1.
    chance : mapping
        Name -> what a model that cannot see would get.
    intervals : mapping
        Name -> (low, high), a 95 percent interval (`intervals.py`).
    n : int
        Pictures measured; of a compositional benchmark, test cases.
    sampled_from : int or None
        How many pictures the data set has, where a sample of it was measured.
    classes : int or None
        Answers to choose from, where the task has classes.
    templates : sequence of str or None
        Prompts; None where names were ready prompts or there were none.
    failures : sequence of Failed
        Pictures that were left out, and why.
    identity, data_fingerprint : str
        Which encoder, which data.
    exact : bool
        Pictures were decoded in full, their colours as stored.
    precision : str
        What the encoder computed in.
    outcomes : mapping
        Metric -> what each picture of the data set contributed, in its order; None for one that could not be
        read. What two results are compared by (`comparison.py`). Of "roc_auc" it is the picture's placement
        (`rankings.placements`).
    labels : sequence of int
        The right class of each picture of the data set, where a metric is a mean over classes; -1: the
        picture does not count in that mean.
    details : mapping
        What else the protocol found, as plain values.
    cost : mapping
        Of the model: parameters, and image_flops and text_flops of a forward pass; empty where not known.
    versions, command
        With what, and by which command.
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
        """How many pictures the figures are of, for tables: of a sample also how many there are.

        Examples
        --------
        >>> result = Result(dataset="toy", task="knn", metrics={}, chance={}, n=500, sampled_from=10_000,
        ...                 identity="", data_fingerprint="")
        >>> result.measured
        '500 of 10,000'
        """
        return f"{self.n:,}" + (f" of {self.sampled_from:,}" if self.sampled_from else "")

    def rows(self) -> list[dict[str, Any]]:
        """One row per metric, ready for a table: dataset, metric, value, low, high, chance, n, failures.

        With `sampled_from` where a sample was measured.

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
        """A figure with its interval, and the effective number of cases that the interval is of."""
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
        """The dictionary as JSON text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the JSON file, whole or not at all; SaveError when that is not possible."""
        # A file name that is not UTF-8 comes as lone surrogates: escaped, they are valid JSON.
        write_bytes(Path(path), self.to_json().encode("utf-8", errors="backslashreplace"))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; fields of other tools are ignored."""
        known = {one.name for one in fields(cls)}
        required = [one.name for one in fields(cls) if MISSING is one.default is one.default_factory]
        if missing := [name for name in required if name not in values]:
            raise ValueError(f"it has no {', '.join(missing)}")
        kept = {name: value for name, value in values.items() if name in known}
        kept["failures"] = tuple(Failed(**one) for one in kept.get("failures", ()))
        kept["intervals"] = {name: (low, high) for name, (low, high) in kept.get("intervals", {}).items()}
        kept["labels"] = tuple(kept.get("labels", ()))
        return cls(**kept)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a result file back; DataError when it is none."""
        with _reading(path):
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Turn whatever can be wrong with a file of results into a `DataError` that says what was expected."""
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
        raise DataError(f"{path} is not a result file: fields of the wrong kind; {expected}") from error


def chance_verdicts(figures: Sequence[tuple[Result, str]]) -> list[Verdict]:
    """On which side of chance figures lie, of results and metrics, corrected for their number (Holm).

    Examples
    --------
    >>> good = Result(dataset="toy", task="knn", metrics={"acc1": 0.5}, chance={"acc1": 0.1}, n=99,
    ...               intervals={"acc1": (0.404, 0.596)}, identity="", data_fingerprint="")
    >>> chance_verdicts([(good, "acc1")])
    ['above']
    """
    claims = {
        number: against_chance(result.estimate(metric), result.chance[metric])
        for number, (result, metric) in enumerate(figures)
    }
    return list(decide(claims).values())


def short_name(metric: str) -> str:
    """A metric's name as people read it; JSON keeps CLIP_benchmark's.

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
    """Every result of a file: one, a list of them, or a report that holds some under "results".

    Raises
    ------
    DataError
        It is no such file.
    """
    with _reading(path):
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            found = found.get("results", [found])
        results = [Result.from_dict(one) for one in found]
        if not results:
            raise ValueError("it holds no result")
        return results
