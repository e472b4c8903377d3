"""`diptych evaluate interpolate`: table, files, a saved model, resumed work, refused input."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from diptych.model.initialise import build
from diptych.weights import combine, load_checkpoint, save_checkpoint
from tests.cli.cli_tools import paint

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def tuned(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second model of the same shape, in place of a fine-tuned one."""
    folder = tmp_path_factory.mktemp("models") / "tuned"
    spec = load_checkpoint(tiny).spec
    save_checkpoint(folder, spec, build(spec.architecture, seed=1).state_dict())
    return folder


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> None:
    """Two classes as the new task; two other classes and some captions as the reference tasks."""
    for number in range(12):
        kind = ("new/dog", "new/guitar", "old/house", "old/horse")[number % 4]
        paint(tmp_path / kind / f"{number}.png", number)
        paint(tmp_path / "pairs" / f"{number}.png", 100 + number)
        (tmp_path / "pairs" / f"{number}.txt").write_text(f"picture {number}\n")


KEEP = ("--keep-up", "old", "--keep-up", "pairs")


def test_a_line_a_share(run: Run, tiny: Path, tuned: Path) -> None:
    done = run("evaluate", "interpolate", tiny, tuned, "new", *KEEP, "--shares", "0,0.5,1")
    assert done.exit_code == 0, done.stderr
    names, kinds, *rows = done.stdout.splitlines()
    assert names.split() == ["new", "old", "pairs"]
    assert kinds.split() == ["share", "accuracy", "accuracy", "image", "R@10"]
    assert [row.split()[0] for row in rows] == ["0", "0.5", "1", "chance"]
    assert rows[-1].split()[1:3] == ["0.500", "0.500"]
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not Path("curve.json").exists()


def test_what_is_to_be_kept_is_not_what_was_learnt(run: Run, tiny: Path, tuned: Path) -> None:
    paint(Path("old/house/copy.png"), 0)  # new/dog/0.png
    words = ("evaluate", "interpolate", tiny, tuned, "new", *KEEP, "--shares", "1")
    done = run(*words)
    assert done.exit_code == 2
    assert "1 picture of old is in new too (17% of one of them)" in done.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = run(*words, "--allow-overlap")
    assert (done.exit_code, done.stderr.count("warning: 1 picture of old is in new too")) == (0, 1)


def test_the_ends_are_measured_as_zero_shot_measures_them(run: Run, tiny: Path, tuned: Path) -> None:
    result = json.loads(run("evaluate", "interpolate", tiny, tuned, "new", "--json").stdout)
    assert [point["share"] for point in result["points"]] == pytest.approx([n / 10 for n in range(11)])
    assert (result["start"], result["end"]) == tuple(load_checkpoint(path).identity for path in (tiny, tuned))
    for model, point in ((tiny, result["points"][0]), (tuned, result["points"][-1])):
        alone = json.loads(run("evaluate", "zero-shot", "new", "-m", model, "--json").stdout)
        for field in (
            "dataset",
            "metrics",
            "intervals",
            "identity",
            "data_fingerprint",
            "exact",
            "per_class",
        ):
            assert point["results"][0][field] == alone[field]


def test_files_and_the_model_that_is_kept(run: Run, tiny: Path, tuned: Path) -> None:
    words = ("evaluate", "interpolate", tiny, tuned, "new", *KEEP, "--shares", "0,1", "-o", "way")
    done = run(*words, "--keep", "0.25")
    assert done.exit_code == 0, done.stderr
    there = {path.name for path in Path("way").iterdir()}
    assert there == {"curve.json", "curve.svg", "curve.png", "shares.svg", "shares.png", "model"}
    mean = combine([load_checkpoint(tiny), load_checkpoint(tuned)], [0.75, 0.25])
    assert load_checkpoint("way").identity == mean.identity
    assert run("classify", "new/dog/0.png", "dog", "guitar", "-m", "way").exit_code == 0


def test_points_that_are_there_are_not_measured_again(
    run: Run, tiny: Path, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.evaluation.protocols import measures

    observed: list[str] = []
    measure = measures.evaluate_zero_shot

    def watched(*given, **settings):  # type: ignore[no-untyped-def]
        observed.append(settings["model"])
        if len(observed) == 3:
            raise KeyboardInterrupt
        return measure(*given, **settings)

    monkeypatch.setattr(measures, "evaluate_zero_shot", watched)
    monkeypatch.setattr("sys.argv", ["diptych", "the", "same"])
    words = ("evaluate", "interpolate", tiny, tuned, "new", "--shares", "0,0.5,1", "-o", "way")
    assert run(*words).exit_code == 130
    assert run(*words).exit_code == 0
    assert observed == [f"{share} of the way" for share in ("0", "0.5", "1", "1")]
    monkeypatch.setattr("sys.argv", ["diptych", "another"])
    refused = run(*words)
    assert refused.exit_code == 2
    assert "another command" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shares", "0,2"), "from 0 (START) to 1 (END)"),
        (("--shares", "some"), "from 0 (START) to 1 (END)"),
        (("--keep", "0.5"), "--out DIR"),
        (("--keep", "1.5", "-o", "way"), "expected a number from 0 (START) to 1 (END)"),
        (("--keep-up", "gone"), "gone"),
        (("--keep-up", "lonely"), "neither captions nor classes"),
        (("--names", "cifar10"), "no class name is given"),
    ],
)
def test_what_cannot_be_measured_is_said(
    run: Run, tiny: Path, tuned: Path, words: tuple[str, ...], message: str
) -> None:
    paint(Path("lonely") / "a.png")
    done = run("evaluate", "interpolate", tiny, tuned, "new", *words)
    assert done.exit_code == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_models_that_do_not_fit_are_refused(run: Run, tiny: Path, tuned: Path) -> None:
    before = load_checkpoint(tiny)
    wider = dataclasses.replace(before.spec.architecture, embed_dim=24)
    spec = dataclasses.replace(before.spec, architecture=wider)
    save_checkpoint(Path("wider"), spec, build(wider, seed=0).state_dict())
    done = run("evaluate", "interpolate", tiny, "wider", "new")
    assert (done.exit_code, "other names or shapes" in done.stderr) == (2, True)
    missing = run("evaluate", "interpolate", tiny, "./nothing", "new")
    assert (missing.exit_code, "nothing" in missing.stderr) == (2, True)


def test_a_picture_that_cannot_be_read_is_told(run: Run, tiny: Path, tuned: Path) -> None:
    Path("new/dog/broken.png").write_bytes(b"broken")
    done = run("evaluate", "interpolate", tiny, tuned, "new", "--shares", "0,1")
    assert done.exit_code == 1
    assert "broken.png" in done.stderr
    assert "chance" in done.stdout


def test_each_figure_is_called_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from diptych.cli.evaluate.interpolate import _table
    from diptych.evaluation import Interpolation, InterpolationPoint
    from diptych.evaluation import Result as Measured

    metrics = ["mean_average_precision", "acc1", "image_retrieval_recall@10", "mean_per_class_recall"]
    results = [
        Measured(
            dataset=f"d{number}",
            task="any",
            metrics={metric: 1.0},
            chance={metric: 0.1},
            intervals={metric: (0.9, 1.0)},
            n=30,
            identity="",
            data_fingerprint="",
        )
        for number, metric in enumerate(metrics)
    ]
    _table(Interpolation("a", "b", metrics, [InterpolationPoint(0.0, results)]))
    printed = capsys.readouterr().out
    for called in ("mAP", "accuracy", "image R@10", "class mean"):
        assert called in printed
    assert printed.count("@10") == 1
    _table(Interpolation("a", "b", metrics[:2], [InterpolationPoint(0.0, results[:2])]))
    assert "1.000 [0.900, 1.000]" in capsys.readouterr().out
