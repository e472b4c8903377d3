"""The folder of an exported model: both towers, what travels with them, and how it is known to be whole.

    exported.json         identity, preprocessing, tokenizer, scale, what was measured, sizes of the files
    image.onnx, text.onnx      float32
    image.int8.xml, .bin       8-bit, for OpenVINO; text.int8.xml, .bin
    golden.safetensors    a few pictures and the float32 rows of these and of a few texts
    tokenizer.json        where the model has its own

No torch, no pickles. Running the towers is `exported`'s work, making them `converting`'s.
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
_PART = ".part"


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """What an exported model is besides its towers.

    Parameters
    ----------
    name, licence, source : str
        As the model it was made from says.
    identity : str
        Of that model: vectors of either may stand in one index.
    dim : int
    preprocess : PreprocessConfig
    tokenizer : TokenizerConfig
    logit_scale, logit_bias : float
        The scale already exponentiated.
    cut : {"end", "padding", "never"}
        Which ids of a batch may be left out: those after its longest end token, where nothing later is seen;
        those that are padding in every text, where padding is masked; or none.
    cut_id : int, optional
        The end token, None where that is the largest id; or the padding.
    languages : tuple of str
        As the model says; empty where it says nothing.
    architecture : mapping
        For people; nothing here is built from it.
    golden_texts : tuple of str
        Those whose rows are kept.
    checks : tuple of mapping
        What was measured of each runtime and precision when the folder was made.
    calibration : str
        The pictures that the 8-bit towers were fitted to; empty where there are none.
    sizes : mapping
        Bytes of every file: what was cut short is noticed before it is opened.
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
        """The content of `exported.json`."""
        values = asdict(self)
        values |= {"preprocess": self.preprocess.to_dict(), "tokenizer": self.tokenizer.to_dict()}
        if not self.languages:  # left out, so that older versions read the file
            values.pop("languages")
        return json.dumps({"format": FORMAT, **values}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ExportSpec:
        """Inverse of `to_json`.

        Raises
        ------
        WeightsError
            No such description, or one of a later format; the message says what is wrong with it.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"not JSON: {error}") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            version = values.get("format") if isinstance(values, dict) else None
            raise WeightsError(
                f"of format {version!r}, this version of diptych reads format {FORMAT}: export it again"
            )
        values = {"languages": [], **values}
        del values["format"]
        if differing := values.keys() ^ {one.name for one in fields(cls)}:
            told = ", ".join(sorted(differing))
            raise WeightsError(f"written by another version of diptych ({told}): export it again")
        try:
            values["preprocess"] = PreprocessConfig.from_dict(values["preprocess"])
            values["tokenizer"] = TokenizerConfig.from_dict(values["tokenizer"])
            if not isinstance(values["languages"], list):
                raise ValueError(f"languages is {values['languages']!r}, expected a list of codes")
            values["languages"] = tuple(map(str, values["languages"]))
            values["golden_texts"] = tuple(values["golden_texts"])
            values["checks"] = tuple(dict(check) for check in values["checks"])
            spec = cls(**values)
            _plausible(spec)
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise WeightsError(f"does not hold together: {type(error).__name__}: {error}") from error
        return spec

    def refusal(self, runtime: str, precision: str) -> str:
        """Why this is not to be used, as it was found when the folder was made; else empty."""
        for check in self.checks:
            if (check.get("runtime"), check.get("precision")) == (runtime, precision):
                return str(check.get("refused") or "")
        return ""

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the files are there for: float32, and int8 where it was made."""
        return ("float32", "int8") if "image.int8.xml" in self.sizes else ("float32",)


@dataclass(frozen=True, eq=False)
class Golden:
    """What the model gave in float32 when the folder was made.

    Attributes
    ----------
    pictures : (K, S, S, 3) uint8
    image_rows : (K, dim) float32
    text_rows : (T, dim) float32
        Of `ExportSpec.golden_texts`.
    """

    pictures: NDArray[np.uint8]
    image_rows: FloatArray
    text_rows: FloatArray


def is_exported(folder: str | Path) -> bool:
    """Whether a folder holds an exported model."""
    return (Path(folder) / SPEC_FILE).is_file()


def is_free(folder: Path) -> bool:
    """Whether an export can be written there: nothing is, or a folder with a killed export's part at most."""
    if not folder.is_dir():
        return not folder.exists()
    return all(path.name.startswith(".") and path.name.endswith(_PART) for path in folder.iterdir())


def tower_file(tower: str, precision: str) -> str:
    """The name of a tower's file: bfloat16 is made of float32's when it is opened."""
    return f"{tower}.int8.xml" if precision == "int8" else f"{tower}.onnx"


def read_export(folder: Path) -> ExportSpec:
    """The description of an exported model, its files there and whole.

    Raises
    ------
    WeightsError
        It cannot be read, or a file is missing or has another size.
    """
    path = folder / SPEC_FILE
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise WeightsError(f"{path} has {path.stat().st_size} bytes: expected a description")
        spec = ExportSpec.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    for name, expected in spec.sizes.items():
        try:
            found = (folder / name).stat().st_size
        except OSError as error:
            raise WeightsError(f"{folder} lacks {name}: copy or export the folder again") from error
        if found != expected:
            raise WeightsError(
                f"{folder / name} has {found:,} bytes, expected {expected:,}: copy or export it again"
            )
    return spec


def read_golden(folder: Path) -> Golden:
    """The golden pictures and rows of an exported model.

    Raises
    ------
    WeightsError
        They cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        held = load_file(folder / GOLDEN_FILE)
        return Golden(**held)
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


def finish(folder: Path, spec: ExportSpec) -> ExportSpec:
    """Write the description, with the sizes of the other files, and give it back; it is written last."""
    sizes = {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.name != SPEC_FILE and not path.name.startswith(".")
    }
    spec = replace(spec, sizes=sizes)
    write_bytes(folder / SPEC_FILE, spec.to_json().encode())
    return spec


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to fill: it takes the place of `folder` when all went well, and vanishes else.

    Raises
    ------
    SaveError
        There is something in `folder`, or the system refuses.
    """
    there = folder.exists()
    if not is_free(folder):
        raise SaveError(f"{folder} is there already and not an empty folder: name a new one")
    with saving(folder):
        home = folder if there else folder.parent
        home.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_PART, dir=home))
    try:
        yield made
        with saving(folder):
            (_move_into if there else _rename_to)(made, folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _move_into(made: Path, folder: Path) -> None:
    """Into a folder that stays: it may be where somebody stands, a link, or where a drive is mounted."""
    for path in sorted(made.iterdir(), key=lambda path: path.name == SPEC_FILE):  # that comes last
        path.replace(folder / path.name)
    made.rmdir()


def _rename_to(made: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    made.chmod(folder.stat().st_mode)  # mkdtemp leaves a folder to its owner alone
    folder.rmdir()
    made.replace(folder)


def _plausible(spec: ExportSpec) -> None:
    for name, kind in (("name", str), ("identity", str), ("dim", int)):
        if not isinstance(getattr(spec, name), kind):
            raise ValueError(f"{name} is {getattr(spec, name)!r}, expected a {kind.__name__}")
    for name in ("logit_scale", "logit_bias"):
        object.__setattr__(spec, name, float(getattr(spec, name)))
    if spec.dim < 1 or not isinstance(spec.cut_id, int | None):
        raise ValueError(f"dim {spec.dim!r} or cut_id {spec.cut_id!r} is no number of that kind")
    if spec.cut not in CUTS or (spec.cut == "padding" and spec.cut_id is None):
        raise ValueError(f"cut is {spec.cut!r} with the id {spec.cut_id}, expected one of {', '.join(CUTS)}")
    for name, size in spec.sizes.items():
        # The description may come from elsewhere: it names files of its own folder, nothing else.
        if Path(name).name != name or not isinstance(size, int):
            raise ValueError(f"sizes has {name!r}: {size!r}, expected files of the folder and their bytes")
