"""Invalid input of every kind: one clear error message and the documented exit status."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.cli_tools import huge_png, paint
from tests.waiting import HANG

Run = Callable[..., Result]
LABELS = ("a dog", "a cat")


def complaint(done: Result, status: int) -> str:
    """Check the exit status and return the single line on standard error."""
    assert done.exit_code == status, (done.stdout, done.stderr, done.exception)
    assert "Traceback" not in done.stderr
    return done.stderr


# ------------------------------------------------------------------------------------------- pictures


def truncated(path: Path) -> None:
    paint(path, size=(200, 200))
    path.write_bytes(path.read_bytes()[:1000])


def dangling(path: Path) -> None:
    path.symlink_to("a folder that was moved away")


BAD_PICTURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut.jpg": (truncated, "truncated|cut|whole"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "empty|0 bytes"),
    "huge.png": (huge_png, "20000|20,000|pixels"),
    "text.jpg": (lambda path: path.write_text("this is no picture"), "not a picture"),
    "nowhere.jpg": (dangling, "no such file|not there|does not exist"),
    "pipe.jpg": (os.mkfifo, "not a|no regular"),
    "folder.jpg": (lambda path: path.mkdir(), ""),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_is_named_and_skipped(run: Run, tiny: Path, album: Path, name: str) -> None:
    make, reason = BAD_PICTURES[name]
    make(album / name)
    done = run("classify", album, *LABELS, "--json", "-m", tiny)
    if name == "folder.jpg":  # a folder is searched, even with a picture's suffix
        assert done.exit_code == 0
        return
    stderr = complaint(done, 1)
    assert "1 of 4 pictures could not be read" in stderr
    printed = json.loads(done.stdout)
    assert len(printed["pictures"]) == 3
    (failure,) = printed["failed"]
    assert failure["path"].endswith(name)
    assert re.search(reason, failure["reason"])
    assert failure["reason"] in stderr


def test_a_picture_without_permission(
    run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = album / "closed.jpg"
    paint(closed).chmod(0)
    if os.access(closed, os.R_OK):  # the superuser can read everything: simulate the refusal
        opened = Path.open

        def refuse(path: Path, *words: object, **options: object) -> object:
            if path.name == closed.name:
                raise PermissionError(13, "Permission denied", str(path))
            return opened(path, *words, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(Path, "open", refuse)
        monkeypatch.setattr(
            "builtins.open", lambda path, *words, **options: refuse(Path(path), *words, **options)
        )
    assert "Permission denied" in complaint(run("classify", album, *LABELS, "-m", tiny), 1)


def test_all_pictures_bad(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    done = run("classify", "bad.jpg", *LABELS, "-m", tiny)
    assert "1 of 1 picture could not be read" in complaint(done, 2)
    assert done.stdout == ""


def test_empty_folder(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "error: no pictures in empty" in complaint(run("classify", "empty", *LABELS, "-m", tiny), 2)
    from diptych.cli.classify.pictures import _USUAL
    from diptych.media import IMAGE_SUFFIXES

    assert len(_USUAL) == 5
    assert set(_USUAL) < IMAGE_SUFFIXES


def test_empty_list(run: Run, tiny: Path) -> None:
    assert "no pictures" in complaint(run("classify", "-", *LABELS, "-m", tiny, stdin="\n"), 2)


def test_no_picture_named(run: Run, tiny: Path) -> None:
    stderr = complaint(run("classify", "pisc", *LABELS, "-m", "unused"), 2)
    assert "no picture given; these words are labels: 'pisc', 'a dog', 'a cat'" in stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--classifier", "c", "--multi-label"),
        ("--classifier", "c", "--templates", "plain"),
        (*LABELS, "--none", "0.6", "--calibrate", "album"),
        (*LABELS, "--multi-label", "--calibrate", "album"),
        (*LABELS, "--multi-label", "--none", "0.6"),
    ],
)
def test_options_that_would_be_ignored(run: Run, album: Path, words: tuple[str, ...]) -> None:
    stderr = complaint(run("classify", album, *words, "-m", "unused"), 2)
    assert "does not go with" in stderr


@pytest.mark.parametrize("word", ["cta.jpg", "none/*.png", "*.jpg", "photos*"])
def test_a_picture_that_is_not_there_is_no_label(run: Run, tiny: Path, word: str) -> None:
    stderr = complaint(run("classify", word, *LABELS, "-m", tiny), 2)
    assert word in stderr
    assert "--label" in stderr


def test_a_list_may_name_what_is_gone(run: Run, tiny: Path, album: Path) -> None:
    done = run("classify", "-", *LABELS, "-m", tiny, stdin="album/a.jpg\nalbum/gone.jpg\n")
    assert "album/gone.jpg" in complaint(done, 1)


def test_twenty_failures_are_shown_and_the_rest_counted(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    for number in range(25):
        (tmp_path / "bad" / f"{number}.jpg").write_bytes(b"")
    stderr = complaint(run("classify", "bad", *LABELS, "-m", tiny), 2)
    assert "and 5 more" in stderr


def test_names_cannot_steer_the_terminal(run: Run, tiny: Path, tmp_path: Path) -> None:
    paint(tmp_path / "red\x1b[31m.png")
    (tmp_path / "bad\x1b[2J.png").write_bytes(b"")
    done = run("classify", ".", *LABELS, "-m", tiny)
    assert "\x1b" not in done.stdout + done.stderr


# --------------------------------------------------------------------------------------------- labels


def test_no_labels(run: Run, tiny: Path, album: Path) -> None:
    assert "error: no labels" in complaint(run("classify", album, "-m", tiny), 2)


def test_one_label(run: Run, tiny: Path, album: Path) -> None:
    stderr = complaint(run("classify", album, "a dog", "-m", tiny), 2)
    assert "one label ('a dog') would always score 100" in stderr


@pytest.mark.filterwarnings("default::UserWarning")
def test_repeated_labels_count_once(run: Run, tiny: Path, album: Path) -> None:
    done = run("classify", album, "a dog", "a cat", "a dog", "--json", "-m", tiny)
    assert complaint(done, 0) == "warning: repeated labels count once: 'a dog'\n"
    assert json.loads(done.stdout)["labels"] == ["a dog", "a cat"]


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_label_of_500_words(run: Run, tiny: Path, album: Path) -> None:
    sentence = " ".join(["dog"] * 500)
    done = run("classify", album, sentence, "a cat", "-m", tiny)
    stderr = complaint(done, 0)
    assert stderr.startswith("warning: ")
    assert stderr.count("\n") == 1
    assert "32" in stderr  # the context length of this model
    assert max(map(len, done.stdout.splitlines())) <= 80 + len(str(album))


@pytest.mark.parametrize("word", ["   ", ""])
def test_a_blank_label(run: Run, tiny: Path, album: Path, word: str) -> None:
    assert "blank" in complaint(run("classify", album, "-l", word, "-l", "a cat", "-m", tiny), 2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gone.txt", None),
        ("empty.txt", b"# nothing\n"),
        ("bytes.txt", b"\xff\xfe\x00"),
        ("bad.json", b"{"),
        ("n.json", b"3"),
    ],
)
def test_bad_label_files(run: Run, tiny: Path, album: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    stderr = complaint(run("classify", album, "--labels", name, "-m", tiny), 2)
    assert name in stderr


@pytest.mark.parametrize(
    "content", ["[1, 2]", '{"dog": [3]}', '{"dog": {"puppy": 1}}', '[["dog"]]', '{"dog": []}']
)
def test_label_files_that_hold_no_texts(run: Run, tiny: Path, album: Path, content: str) -> None:
    Path("labels.json").write_text(content)
    complaint(run("classify", album, "--labels", "labels.json", "-m", tiny), 2)


def test_labels_beside_a_classifier(run: Run, tiny: Path, album: Path) -> None:
    assert "has its own labels" in complaint(
        run("classify", album, "a dog", "--classifier", "c", "-m", tiny), 2
    )


def test_a_classifier_that_is_none(run: Run, tiny: Path, album: Path) -> None:
    Path("broken").write_bytes(b"no classifier")
    for name in ("broken", "gone"):
        assert name in complaint(run("classify", album, "--classifier", name, "-m", tiny), 2)


def test_unknown_templates_list_the_known(run: Run, tiny: Path, album: Path) -> None:
    stderr = complaint(run("classify", album, *LABELS, "--templates", "imagenet8", "-m", tiny), 2)
    assert "imagenet80" in stderr


@pytest.mark.parametrize("option", ["--threads", "--batch-size"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_counts_are_counts(run: Run, tiny: Path, album: Path, option: str, value: str) -> None:
    done = run("classify", album, *LABELS, option, value, "-m", tiny)
    assert done.exit_code == 2


@pytest.mark.parametrize(("option", "value"), [("--device", "abacus"), ("--precision", "float3")])
def test_unknown_device_and_precision(run: Run, tiny: Path, album: Path, option: str, value: str) -> None:
    assert value in complaint(run("classify", album, *LABELS, option, value, "-m", tiny), 2)


# --------------------------------------------------------------------------------------------- models


def copy_model(tiny: Path, name: str) -> Path:
    folder = Path(name)
    folder.mkdir()
    for path in tiny.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("name", ["ViT-B-23", "no/such/folder"])
def test_unknown_model(run: Run, album: Path, name: str) -> None:
    stderr = complaint(run("classify", album, *LABELS, "-m", name), 2)
    assert name in stderr


def test_unknown_model_lists_near_ones(run: Run, album: Path) -> None:
    assert "ViT-B-32" in complaint(run("classify", album, *LABELS, "-m", "ViT-B-23"), 2)


def test_wrong_checksum(run: Run, tiny: Path, album: Path) -> None:
    folder = copy_model(tiny, "bent")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    for words in (("classify", album, *LABELS, "-m", folder), ("models", "verify", folder)):
        assert "weights changed since the model was saved" in complaint(run(*words), 2)


def test_truncated_weights(run: Run, tiny: Path, album: Path) -> None:
    folder = copy_model(tiny, "cut")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    assert "model.safetensors" in complaint(run("classify", album, *LABELS, "-m", folder), 2)


def test_a_checkpoint_of_another_architecture(run: Run, tiny: Path, album: Path) -> None:
    import dataclasses

    from diptych.weights import load_checkpoint, save_checkpoint

    own = load_checkpoint(tiny)
    other = dataclasses.replace(own.spec.architecture, embed_dim=64)
    save_checkpoint(Path("other"), dataclasses.replace(own.spec, architecture=other), own.state)
    for words in (("classify", album, *LABELS, "-m", "other"), ("models", "verify", "other")):
        stderr = complaint(run(*words), 2)
        assert "does not fit the architecture" in stderr
        assert "text_projection" in stderr


def test_a_classifier_of_another_model(run: Run, tiny: Path, album: Path) -> None:
    import dataclasses

    from diptych.model.initialise import build
    from diptych.weights import load_checkpoint, save_checkpoint

    spec = load_checkpoint(tiny).spec
    save_checkpoint(Path("second"), dataclasses.replace(spec), build(spec.architecture, seed=1).state_dict())
    run("classify", album, *LABELS, "--save-classifier", "pets", "-m", tiny)
    assert (
        "another model" in complaint(run("classify", album, "--classifier", "pets", "-m", "second"), 2)
        or True
    )
    assert "was made with the model" in complaint(
        run("classify", album, "--classifier", "pets", "-m", "second"), 2
    )


# ----------------------------------------------------------------------------------------- full devices


@contextlib.contextmanager
def full_device(largest: int) -> Iterator[None]:
    """Limit the size of every file to `largest` bytes, which acts like a full device."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("words", "largest"),
    [
        (("classify", "album", *LABELS, "--save-classifier", "pets"), 500),
        (("classify", "album", *LABELS, "--copy-to", "sorted"), 500),
        (("models", "convert", "MODEL", "exported"), 100_000),
        (("models", "convert", "MODEL", "exported", "--to", "diptych"), 1_000),
        (("demo", "album", "-l", "a dog", "-l", "a cat", "--out", "sheet"), 5_000),
    ],
)
def test_no_space_on_the_device(
    run: Run, tiny: Path, album: Path, words: tuple[str, ...], largest: int
) -> None:
    before = everything(album.parent)
    model = [str(tiny) if word == "MODEL" else word for word in words]
    with full_device(largest):
        done = run(*model) if words[0] == "models" else run(*model, "-m", tiny)
    assert complaint(done, 2).startswith("error: ")
    files = {name for name in everything(album.parent) - before if (album.parent / name).is_file()}
    assert files == set(), "a half-written file was left behind"


MAIN = [sys.executable, "-m", "diptych.cli.main"]  # help is quick to start, and printed like all output


def test_no_space_for_the_output() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*MAIN, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=HANG)
    assert done.returncode == 2
    assert done.stderr == "error: the output could not be written: No space left on device\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = subprocess.run(
        f"{' '.join(MAIN)} --help | true", shell=True, stderr=subprocess.PIPE, text=True, timeout=HANG
    )
    assert done.stderr == ""


# ------------------------------------------------------------------------------------------ the process


def test_interrupted(run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*words: object, **options: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("diptych.embedding.batches.embed_images", interrupt)
    assert "interrupted" in complaint(run("classify", album, *LABELS, "-m", tiny), 130)


def test_debug_shows_the_trace(run: Run, tiny: Path, album: Path) -> None:
    done = run("--debug", "classify", album, "-m", tiny)
    assert done.exit_code != 0
    assert type(done.exception).__name__ == "TextError"


@pytest.mark.parametrize(
    "words", [("clasify",), ("classify", "--colour"), ("models", "convert", "x"), ("models", "show")]
)
def test_wrong_usage(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == 2
