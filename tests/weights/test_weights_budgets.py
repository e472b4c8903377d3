"""Memory limits while loading: malicious files are refused with our errors and without large allocations."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from diptych.errors import DiptychError, ModelError
from diptych.model.initialise import build
from diptych.weights import Checkpoint, ModelSpec, load_checkpoint, save_checkpoint, to_transformers
from diptych.weights.foreign_configs import read_json
from tests.weights.test_weights_archive import tensor_pickle
from tests.weights.tiny_models import MODEL, TINY

pytestmark = pytest.mark.filterwarnings("ignore:.* has no tokenizer for this model:UserWarning")

STATE = {name: tensor.detach() for name, tensor in build(TINY, seed=0).state_dict().items()}
LARGE = 10**9
SPARE = 400 << 20  # bytes that loading may use in addition to the interpreter


def _zip(path: Path, pickled: bytes, *, kind: int = zipfile.ZIP_STORED, script: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a/data.pkl"), pickled, kind)
        archive.writestr(zipfile.ZipInfo("a/data/0"), bytes(16))
        if script:
            archive.writestr(zipfile.ZipInfo("a/constants.pkl"), b"")
    return path


def _text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def _long_names(path: Path) -> Path:
    """A module with a name of 100 KB and 20,000 tensors: 2 GB of dotted names from 0.4 MB."""
    first = _text(b"a") + tensor_pickle((4,), (1,), count=4)[2:-1] + b"q\x07"
    others = b"".join(_text(b"%d" % n) + b"h\x07" for n in range(20_000))
    inner = b"c__torch__.A\nB\n)\x81}(" + first + others + b"ub"
    return _zip(
        path, b"\x80\x02c__torch__.A\nB\n)\x81}(" + _text(b"n" * 100_000) + inner + b"ub.", script=True
    )


def _stride_zero(path: Path) -> Path:
    """A token table of 10 million rows that share one row (stride 0)."""
    rows = torch.zeros(1, 64).expand(10_000_000, 64)
    torch.save({**STATE, "token_embedding.weight": rows}, path)
    return path


def _overlapping(path: Path) -> Path:
    """Hundreds of storages at the same offset of the file."""
    storages = b"".join(
        _text(b"%d" % n)
        + tensor_pickle((1 << 18,), (1,), count=1 << 18)[2:-1].replace(_text(b"0"), _text(b"%d" % n))
        for n in range(600)
    )
    _zip(path, b"\x80\x02}(" + storages + b"u.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo("a/data/1"), bytes(1 << 20))
        (record,) = [info for info in archive.filelist if info.filename == "a/data/1"]
        archive.filelist = [info for info in archive.filelist if not info.filename.startswith("a/data/")]
        for n in range(600):
            info = zipfile.ZipInfo(f"a/data/{n}")
            info.header_offset, info.CRC = record.header_offset, record.CRC
            info.file_size = info.compress_size = record.file_size
            archive.filelist.append(info)
    return path


def _bytearray(path: Path) -> Path:
    return _zip(path, b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (1 << 35).to_bytes(5, "little") + b"\x85R.")


def _deflated(path: Path) -> Path:
    return _zip(path, b"\x80\x02" + b"]0" * (20 << 20) + b"}.", kind=zipfile.ZIP_DEFLATED)


def _many_lists(path: Path) -> Path:
    return _zip(path, b"\x80\x02" + b"]" * (8 << 20) + b"}.")


def _doubling(path: Path) -> Path:
    """Lists that contain the previous one twice: 2 to the power of 60 elements, if counted."""
    levels = b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(60))
    return _zip(path, b"\x80\x02]q\x00" + levels + b".")


def _plain(path: Path) -> Path:
    path.write_bytes(b"\x80\x02" + b"]" * (8 << 20) + b"}.")
    return path


def _header(path: Path) -> Path:
    """A safetensors header that claims 1 TB, or a tensor of that size."""
    if path.stem.endswith("1"):
        path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
        return path
    header = {"a": {"dtype": "F32", "shape": [LARGE, LARGE], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    return path


def _deep(path: Path) -> Path:
    path.mkdir()
    (path / "diptych.json").write_text("[" * 1_000_000)
    save_file(STATE, path / "model.safetensors")
    return path


def _config(key: str) -> Callable[[Path], Path]:
    """An open_clip folder whose config has a size of a thousand million."""

    def write(path: Path) -> Path:
        path.mkdir()
        config = json.loads(json.dumps(MODEL))
        tower, _, inner = key.partition(".")
        if inner:
            config[tower][inner] = LARGE
        else:
            config[key] = LARGE
        (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        save_file(STATE, path / "open_clip_model.safetensors")
        return path

    return write


def _transformers(tower: str, key: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        to_transformers(Checkpoint(ModelSpec(name="a", architecture=TINY), STATE, ""), path)
        config = json.loads((path / "config.json").read_text())
        config[f"{tower}_config"][key] = LARGE
        (path / "config.json").write_text(json.dumps(config))
        return path

    return write


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "names.pt": _long_names,
    "stride.bin": _stride_zero,
    "overlapping.bin": _overlapping,
    "bytearray.bin": _bytearray,
    "deflated.bin": _deflated,
    "lists.bin": _many_lists,
    "doubling.bin": _doubling,
    "plain.pt": _plain,
    "header1.safetensors": _header,
    "header2.safetensors": _header,
    "deep": _deep,
    **{
        f"open_clip {key}": _config(key)
        for key in (
            "embed_dim",
            *(f"vision_cfg.{key}" for key in ("image_size", "patch_size", "width", "layers", "mlp_ratio")),
            *(f"text_cfg.{key}" for key in ("context_length", "vocab_size", "width", "layers", "heads")),
        )
    },
    **{
        f"transformers {tower} {key}": _transformers(tower, key)
        for tower, key in (
            ("text", "vocab_size"),
            ("text", "max_position_embeddings"),
            ("text", "intermediate_size"),
            ("vision", "image_size"),
            ("vision", "intermediate_size"),
        )
    },
}

SCRIPT = """
import os, resource, sys
from diptych.files import pickle_reader
from diptych.errors import DiptychError
from diptych.weights import load_checkpoint
from diptych.weights.fitting import expected_shapes
from diptych.model.presets.table import preset
expected_shapes(preset("diptych-tiny"))
size = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[1]),) * 2)
pickle_reader.MOST_INSTRUCTIONS = 200_000  # for the time: the memory is a hundred bytes each
for path in sys.argv[2:]:
    try:
        load_checkpoint(path) if os.path.isdir(path) else load_checkpoint("ViT-B-32", path)
        print(path, "LOADED")
    except DiptychError as error:
        print(path, "refused", len(str(error)))
    except BaseException as error:
        print(path, "FOREIGN", type(error), error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_hostile_files_are_refused_within_a_limit_on_memory(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / name)) for name, write in HOSTILE.items()]
    command = [sys.executable, "-c", SCRIPT, str(SPARE), *paths]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = run.stdout.splitlines()
    assert len(lines) == len(paths), run.stderr[-2000:]
    assert [line for line in lines if " refused " not in line] == []
    assert max(int(line.rsplit(" ", 1)[1]) for line in lines) < 1500  # a message, not the whole file


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small valid file or folder of each format; the returned path is the file to be mutated."""
    folder = tmp_path_factory.mktemp("valid")
    files = {"zip.pt": True, "legacy.pt": False}
    for name, zipped in files.items():
        torch.save({"state_dict": STATE, "epoch": 3}, folder / name, _use_new_zipfile_serialization=zipped)
    save_file(STATE, folder / "a.safetensors")
    save_checkpoint(folder / "ours", ModelSpec(name="a", architecture=TINY), STATE)
    (folder / "open_clip").mkdir()
    (folder / "open_clip/open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL}))
    save_file(STATE, folder / "open_clip/open_clip_model.safetensors")
    to_transformers(Checkpoint(ModelSpec(name="a", architecture=TINY), STATE, ""), folder / "hf")
    return {
        **{name: folder / name for name in (*files, "a.safetensors")},
        "ours": folder / "ours/diptych.json",
        "ours weights": folder / "ours/model.safetensors",
        "open_clip": folder / "open_clip/open_clip_config.json",
        "transformers": folder / "hf/config.json",
        "preprocessor": folder / "hf/preprocessor_config.json",
    }


@pytest.mark.parametrize(
    "kind",
    [
        "zip.pt",
        "legacy.pt",
        "a.safetensors",
        "ours",
        "ours weights",
        "open_clip",
        "transformers",
        "preprocessor",
    ],
)
@settings(max_examples=25)
@given(data=st.data())
def test_mutated_files_raise_our_errors_only(valid: dict[str, Path], kind: str, data: st.DataObject) -> None:
    path = valid[kind]
    original = path.read_bytes()
    mutated = bytearray(original)
    # Header and table of contents, at the two ends of a file, are the most sensitive parts.
    near = min(len(mutated), 3000)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(-near, near - 1))
        mutated[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del mutated[data.draw(st.integers(0, len(mutated))) :]
    path.write_bytes(mutated)
    try:
        if path.suffix == ".json" or path.name == "model.safetensors":
            load_checkpoint(path.parent)
        else:
            load_checkpoint("diptych-tiny", path)
    except DiptychError as error:
        assert len(str(error)) < 3000  # noqa: PT017 (no error is right too)
    finally:
        path.write_bytes(original)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", ["ours", "open_clip", "transformers", "preprocessor"])
@settings(max_examples=40)
@given(data=st.data())
def test_any_value_in_a_config_is_read_or_refused(
    valid: dict[str, Path], kind: str, data: st.DataObject
) -> None:
    """Any JSON value replaces any value of a config, at any depth."""
    path = valid[kind]
    original = path.read_bytes()
    config: Any = json.loads(original)
    spot = config
    while True:
        key = data.draw(st.sampled_from(sorted(spot)))
        if not isinstance(spot[key], dict) or not spot[key] or data.draw(st.booleans()):
            break
        spot = spot[key]
    spot[key] = data.draw(JSON | st.sampled_from([0, -1, LARGE, 1e300, "x" * 1000, [LARGE] * 2]))
    path.write_text(json.dumps(config))
    try:
        load_checkpoint(path.parent)
    except ModelError as error:
        assert len(str(error)) < 3000  # noqa: PT017
    finally:
        path.write_bytes(original)


def test_large_descriptions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(" " * (5 << 20))
    with pytest.raises(ModelError, match="expected a JSON file of at most"):
        read_json(tmp_path / "a.json")


def test_a_plain_pickle_is_not_weights(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelError, match="a plain pickle, expected weights saved by torch"):
        load_checkpoint("ViT-B-32", tmp_path / "a.pt")
