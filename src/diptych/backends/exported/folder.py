"""Folder of an exported model: both towers, their specification, and checks that it is complete.

    exported.json         identity, preprocessing, tokenizer, scale, measured agreement, sizes of the files
    image.onnx, text.onnx      float32
    image.int8.xml, .bin       8-bit, for OpenVINO; text.int8.xml, .bin
    golden.safetensors    a few images, and the float32 embeddings of these and of a few texts
    tokenizer.json        if the model has one

No torch, no pickles. `exported.encoder` runs the towers, `conversion.converting` writes them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError, SaveError, WeightsError
from diptych.files.disk import saving, write_bytes
from diptych.inputs.config import PreprocessConfig, TokenizerConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

SPEC_FILE = "exported.json"
GOLDEN_FILE = "golden.safetensors"
FORMAT = 1
LARGEST_JSON = 4 << 20  # bytes
TOWERS = ("image", "text")
CUTS = ("end", "padding", "never")
_TEMPORARY_SUFFIX = ".part"


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """Specification of an exported model.

    Parameters
    ----------
    name, licence, source : str
        As in the original model.
    identity : str
        Identity of the original model: embeddings of both can be in one index.
    logit_scale, logit_bias : float
        The scale is already exponentiated.
    cut : {"end", "padding", "never"}
        Which ids of a batch may be left out: those after the last end token, if attention is causal; those
        that are padding in every text, if padding is masked; or none.
    cut_id : int, optional
        The end token (None: the largest id), or the padding.
    languages : tuple of str
        As in the original model; empty if unknown.
    architecture : mapping
        For information; nothing is built from it.
    golden_texts : tuple of str
        Texts whose embeddings are stored.
    checks : tuple of mapping
        Measured agreement of each runtime and precision at the time of the export.
    calibration : str
        Origin of the images that the 8-bit towers were calibrated on; empty without such towers.
    sizes : mapping
        Size of every file in bytes, to notice truncated files before they are opened.
    """

    name: str
    identity: str
    dim: int
    preprocess: PreprocessConfig
    tokenizer: TokenizerConfig
    logit_scale: float
    logit_bias: float
    cut: str
    cut_id: int | None
    licence: str = "unknown"
    source: str = ""
    languages: tuple[str, ...] = ()
    architecture: Mapping[str, Any] = field(default_factory=dict)
    golden_texts: tuple[str, ...] = ()
    checks: tuple[Mapping[str, Any], ...] = ()
    calibration: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """Content of `exported.json`."""
        values = asdict(self)
        values |= {"preprocess": self.preprocess.to_dict(), "tokenizer": self.tokenizer.to_dict()}
        if not self.languages:  # omitted, so that older versions read the file
            values.pop("languages")
        return json.dumps({"format": FORMAT, **values}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ExportSpec:
        """Inverse of `to_json`.

        Raises
        ------
        WeightsError
            The text is invalid or has a later format; the message says what is wrong.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"not JSON: {error}") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            version = values.get("format") if isinstance(values, dict) else None
            raise WeightsError(
                f"it has format {version!r}, this version of diptych reads format {FORMAT}: export it again"
            )
        values = {"languages": [], **values}
        del values["format"]
        if differing := values.keys() ^ {item.name for item in fields(cls)}:
            names = ", ".join(sorted(differing))
            raise WeightsError(f"it was written by another version of diptych ({names}): export it again")
        try:
            values["preprocess"] = PreprocessConfig.from_dict(values["preprocess"])
            values["tokenizer"] = TokenizerConfig.from_dict(values["tokenizer"])
            if not isinstance(values["languages"], list):
                raise ValueError(f"languages is {values['languages']!r}, expected a list of codes")
            values["languages"] = tuple(map(str, values["languages"]))
            values["golden_texts"] = tuple(values["golden_texts"])
            values["checks"] = tuple(dict(check) for check in values["checks"])
            spec = cls(**values)
            _validate(spec)
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise WeightsError(f"it is invalid: {type(error).__name__}: {error}") from error
        return spec

    def refusal(self, runtime: str, precision: str) -> str:
        """Reason against a runtime and precision, from the checks at the export; empty if there is none."""
        for check in self.checks:
            if (check.get("runtime"), check.get("precision")) == (runtime, precision):
                return str(check.get("refused") or "")
        return ""

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of the files: float32, and int8 if it was exported."""
        return ("float32", "int8") if "image.int8.xml" in self.sizes else ("float32",)


@dataclass(frozen=True, eq=False)
class Golden:
    """Golden embeddings: those of the original model in float32, to check a runtime against.

    The field names are the tensor names in the file.

    Attributes
    ----------
    pictures : (K, S, S, 3) uint8
    image_rows : (K, dim) float32
        Embeddings of `pictures`.
    text_rows : (T, dim) float32
        Embeddings of `ExportSpec.golden_texts`.
    """

    pictures: NDArray[np.uint8]
    image_rows: FloatArray
    text_rows: FloatArray


def is_exported(folder: str | Path) -> bool:
    """Whether a folder contains an exported model."""
    return (Path(folder) / SPEC_FILE).is_file()


def is_available(folder: Path) -> bool:
    """Whether an export can be written there: it does not exist, or has only leftovers of a killed export."""
    if not folder.is_dir():
        return not folder.exists()
    return all(
        path.name.startswith(".") and path.name.endswith(_TEMPORARY_SUFFIX) for path in folder.iterdir()
    )


def tower_file(tower: str, precision: str) -> str:
    """Name of a tower's file; bfloat16 is converted from float32 when it is opened."""
    return f"{tower}.int8.xml" if precision == "int8" else f"{tower}.onnx"


def read_export(folder: Path) -> ExportSpec:
    """Read the specification of an exported model and check that its files are complete.

    Raises
    ------
    WeightsError
        The specification cannot be read, or a file is missing or has another size.
    """
    path = folder / SPEC_FILE
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise WeightsError(f"{path} has {path.stat().st_size:,} bytes: expected at most {LARGEST_JSON:,}")
        spec = ExportSpec.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    for name, expected in spec.sizes.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            raise WeightsError(f"{folder} lacks {name}: copy or export the folder again") from error
        if size != expected:
            raise WeightsError(
                f"{folder / name} has {size:,} bytes, expected {expected:,}: copy or export it again"
            )
    return spec


def read_golden(folder: Path) -> Golden:
    """Read the golden images and embeddings of an exported model.

    Raises
    ------
    WeightsError
        The file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return Golden(**load_file(folder / GOLDEN_FILE))
    except (OSError, SafetensorError, TypeError) as error:
        raise WeightsError(f"cannot read {folder / GOLDEN_FILE}: {error}. Export the model again") from error


def write_golden(folder: Path, golden: Golden) -> None:
    """Inverse of `read_golden`.

    Raises
    ------
    SaveError
        As for any file.
    """
    from safetensors.numpy import save

    rows = {"image_rows": golden.image_rows, "text_rows": golden.text_rows}
    write_bytes(folder / GOLDEN_FILE, save({"pictures": golden.pictures, **rows}))


def write_spec(folder: Path, spec: ExportSpec) -> ExportSpec:
    """Write the specification with the sizes of the other files, and return it; call it last."""
    sizes = {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.name != SPEC_FILE and not path.name.startswith(".")
    }
    spec = replace(spec, sizes=sizes)
    write_bytes(folder / SPEC_FILE, spec.to_json().encode())
    return spec


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Provide a temporary folder that becomes `folder` at the end, or is deleted after an error.

    Raises
    ------
    SaveError
        `folder` is not empty, or it cannot be written.
    """
    exists = folder.exists()
    if not is_available(folder):
        raise SaveError(f"{folder} exists and is not an empty folder: name a new one")
    with saving(folder):
        # On the same file system, so that renaming works.
        home = folder if exists else folder.parent
        home.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_TEMPORARY_SUFFIX, dir=home))
    try:
        yield temporary
        with saving(folder):
            (_move_into if exists else _rename_to)(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _move_into(temporary: Path, folder: Path) -> None:
    """Move the files into an existing folder, which may be a working directory, a link or a mount point."""
    # The specification last: with it the folder counts as an export.
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == SPEC_FILE):
        path.replace(folder / path.name)
    temporary.rmdir()


def _rename_to(temporary: Path, folder: Path) -> None:
    # Created only to learn the permissions of a new folder here: mkdtemp's allows access to the owner only.
    folder.mkdir(exist_ok=True)
    temporary.chmod(folder.stat().st_mode)
    folder.rmdir()
    temporary.replace(folder)


def _validate(spec: ExportSpec) -> None:
    """Raise ValueError if a value has another type or is out of range."""
    for name, kind in (("name", str), ("identity", str), ("dim", int)):
        if not isinstance(getattr(spec, name), kind):
            raise ValueError(f"{name} is {getattr(spec, name)!r}, expected a {kind.__name__}")
    for name in ("logit_scale", "logit_bias"):
        object.__setattr__(spec, name, float(getattr(spec, name)))
    if spec.dim < 1 or not isinstance(spec.cut_id, int | None):
        raise ValueError(f"dim is {spec.dim!r} and cut_id {spec.cut_id!r}: expected whole numbers")
    if spec.cut not in CUTS or (spec.cut == "padding" and spec.cut_id is None):
        raise ValueError(f"cut is {spec.cut!r} with the id {spec.cut_id}, expected one of {', '.join(CUTS)}")
    for name, size in spec.sizes.items():
        # The file may come from a stranger: it may only name files of its own folder.
        if Path(name).name != name or not isinstance(size, int):
            raise ValueError(f"sizes has {name!r}: {size!r}, expected files of the folder and their bytes")
