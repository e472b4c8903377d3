"""Create tiny random models in the layouts of Immich and transformers.js, with recorded outputs.

    python tests/backends/make_released_onnx.py tests/backends/released_onnx.zip

needs open_clip, transformers, torch and onnx, none of which the tests need. The steps are those of Immich's
exporter (machine-learning/export/immich_model_exporter): open_clip's `encode_image` and `encode_text`,
normalised, by torch.onnx with a batch of one and int32 ids, opset 19. The rows beside each model are those of
the torch models on the pictures and texts below, after open_clip's (or transformers') own preprocessing and
tokenizing.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

OPSET = 19
LENGTH, SIDE, WIDTH = 12, 16, 8
WORDS = ["a", "the", "cat", "dog", "on", "red", "mat", "two", "house", "sea", "photo", "of"]
TEXTS = [
    "a cat",
    "A  photo of the RED house, on the sea!",
    "two dogs?",
    "",
    "the cat on the mat, the dog on the house, two of the sea and a red mat",
]


def pictures() -> list[Image.Image]:
    """Smooth pictures of several shapes, made by a formula: identical on every machine."""
    made = []
    for number, (width, height) in enumerate([(40, 30), (23, 57), (16, 16), (300, 41)]):
        y, x = np.mgrid[0:height, 0:width] / 7.0
        planes = [np.sin(x * (1 + number) + c) + np.cos(y * (2 - 0.3 * number) - c * x / 9) for c in range(3)]
        made.append(Image.fromarray(np.uint8(np.clip(np.stack(planes, -1) * 60 + 128, 0, 255))))
    return made


def write_tokenizer(folder: Path, style: str) -> Any:
    """A word table with special tokens as in CLIP, SigLIP (T5) or XLM-R, as a tokenizer of transformers."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [*WORDS, "dogs", "and", ",", "!", "?", "A", "RED"]
    special = {"clip": ["<s>", "<e>"], "siglip": ["</s>", "<unk>"], "xlm": ["<s>", "<pad>", "</s>", "<unk>"]}[
        style
    ]
    # CLIP's special tokens are last in its table: the text is pooled at the largest id.
    order = ["<unk>", *pieces, *special] if style == "clip" else [*special, *pieces]
    table = {token: number for number, token in enumerate(order)}
    rust = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    rust.normalizer = normalizers.Lowercase() if style == "clip" else None
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    start, end = {"clip": ("<s>", "<e>"), "siglip": ("", "</s>"), "xlm": ("<s>", "</s>")}[style]
    around = [(token, table[token]) for token in (start, end) if token]
    rust.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}".strip(), special_tokens=around
    )
    pad = {"clip": "<e>", "siglip": "</s>", "xlm": "<pad>"}[style]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token=pad, eos_token=end, unk_token="<unk>"
    )
    tokenizer.model_max_length = LENGTH
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_graph(
    module: Any, inputs: dict[str, Any], outputs: list[str], path: Path, *, axes: Any = None
) -> None:
    """Export a torch module in the way of Immich's exporter."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            path.as_posix(),
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamic_axes=axes,
            dynamo=False,
        )


def spread(module: Any) -> None:
    """Scale the weights up: with initial weights all texts have nearly the same vector."""
    import torch

    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(weight.shape) * 0.3)


def open_clip_model(config: dict[str, Any]) -> Any:
    """The open_clip model of a config, with random weights."""
    import open_clip

    rest = {key: value for key, value in config.items() if key != "custom_text"}
    text = {k: v for k, v in rest["text_cfg"].items() if not k.startswith(("hf_", "tokenizer_kwargs"))}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    model = kind(**{**rest, "text_cfg": text}).eval()
    spread(model)
    return model


def encoding(model: Any, method: str) -> Any:
    """Wrap one method of a model as a module."""
    import torch

    class Encoding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return getattr(self.model, method)(batch, normalize=True)

    return Encoding()


def record(folder: Path, image_rows: Any, text_rows: Any) -> None:
    rows = {"images": np.asarray(image_rows).tolist(), "texts": np.asarray(text_rows).tolist()}
    (folder / "rows.json").write_text(json.dumps(rows))


def immich(
    folder: Path, style: str, *, preprocess: dict[str, Any], clean: str | None, external: bool
) -> None:
    """Write an open_clip model in Immich's layout."""
    import torch
    from open_clip.tokenizer import HFTokenizer, get_clean_fn
    from open_clip.transform import PreprocessCfg, image_transform_v2

    folder.mkdir(parents=True)
    tokenizer = write_tokenizer(folder / "textual", style)
    text: dict[str, Any] = {"context_length": LENGTH, "vocab_size": len(tokenizer), "width": WIDTH}
    text |= {"heads": 2, "layers": 1, "mlp_ratio": 2.0}
    config: dict[str, Any] = {"embed_dim": WIDTH, "text_cfg": text}
    config["vision_cfg"] = {"image_size": SIDE, "layers": 1, "width": 8, "patch_size": 8, "head_width": 4}
    config["vision_cfg"]["mlp_ratio"] = 2.0
    if style == "siglip":
        text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
        config |= {"custom_text": True, "init_logit_bias": -10}
    model = open_clip_model(config)
    if clean:
        text |= {"hf_tokenizer_name": "toy/toy", "tokenizer_kwargs": {"clean": clean}}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    write_graph(
        encoding(model, "encode_image"),
        {"image": torch.randn(1, 3, SIDE, SIDE)},
        ["embedding"],
        folder / "visual/model.onnx",
    )
    ids = torch.ones(1, LENGTH, dtype=torch.int32)
    write_graph(encoding(model, "encode_text"), {"text": ids}, ["embedding"], folder / "textual/model.onnx")
    (folder / "visual/preprocess_cfg.json").write_text(json.dumps(preprocess))
    if external:
        keep_outside(folder / "visual/model.onnx")
        keep_outside(folder / "textual/model.onnx")
    with torch.no_grad():
        transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
        images = model.encode_image(torch.stack([transform(p) for p in pictures()]), normalize=True)
        if clean:
            read = HFTokenizer(str(folder / "textual"), context_length=LENGTH, clean=clean)
            tokens = read(TEXTS)
        else:  # CLIP's own table is too large for a toy: use open_clip's text cleaning with the toy's table
            cleaned = [get_clean_fn("lower")(text) for text in TEXTS]
            tokens = tokenizer(
                cleaned, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
            ).input_ids
        texts = model.encode_text(tokens, normalize=True)
    record(folder, images, texts)


def keep_outside(path: Path) -> None:
    """Move weights to external files: one for the image graph, one per tensor for texts, as torch does."""
    import onnx
    from onnx.external_data_helper import set_external_data

    graph = onnx.load(path)
    for number, tensor in enumerate(graph.graph.initializer):
        if len(tensor.raw_data) > 64:
            together = path.parent.name == "visual"
            set_external_data(tensor, "model.onnx.data" if together else f"weights_{number}")
    onnx.save_model(graph, path)


def m_clip(folder: Path, like: Path) -> None:
    """Write an M-CLIP in Immich's layout: transformers' XLM-R for texts, the image tower of another model."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    shutil.copytree(like, folder)
    shutil.rmtree(folder / "textual")
    tokenizer = write_tokenizer(folder / "textual", "xlm")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=LENGTH + 2, pad_token_id=1, **sizes
    )
    config._attn_implementation = "eager"

    class MultilingualCLIP(torch.nn.Module):
        """The forward method of multilingual_clip, as used by Immich's exporter."""

        def __init__(self) -> None:
            super().__init__()
            self.transformer = XLMRobertaModel(config, add_pooling_layer=False).eval()
            self.linear = torch.nn.Linear(8, WIDTH)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            rows = self.transformer(input_ids, attention_mask)[0]
            rows = (rows * attention_mask.unsqueeze(2)).sum(dim=1) / attention_mask.sum(dim=1)[:, None]
            return torch.nn.functional.normalize(self.linear(rows), dim=-1)

    model = MultilingualCLIP().eval()
    spread(model)
    ones = torch.ones(1, LENGTH, dtype=torch.int32)
    write_graph(
        model,
        {"input_ids": ones, "attention_mask": ones.clone()},
        ["embedding"],
        folder / "textual/model.onnx",
    )
    result = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        texts = model(result.input_ids, result.attention_mask)
    record(folder, json.loads((like / "rows.json").read_text())["images"], texts)


def jina(folder: Path) -> None:
    """One graph of both towers with jina-clip-v2's signature; its layers are toys."""
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    tokenizer = write_tokenizer(folder, "xlm")

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(len(tokenizer), WIDTH)
            self.mix = torch.nn.Linear(WIDTH, WIDTH)
            self.patches = torch.nn.Conv2d(3, WIDTH, 8, 8)

        def forward(self, input_ids: torch.Tensor, pixel_values: torch.Tensor) -> Any:
            seen = (input_ids != 1).long().unsqueeze(-1)  # padding is masked by its id, as in the original
            rows = self.mix(torch.nn.functional.gelu(self.table(input_ids)))
            texts = (rows * seen).sum(1) / seen.sum(1)
            images = torch.nn.functional.gelu(self.patches(pixel_values)).mean((2, 3))
            unit = torch.nn.functional.normalize
            return texts, images, unit(texts, dim=-1), unit(images, dim=-1)

    model = Both().eval()
    spread(model)
    names = ["text_embeddings", "image_embeddings", "l2norm_text_embeddings", "l2norm_image_embeddings"]
    inputs = {"input_ids": torch.ones(2, 5, dtype=torch.int64), "pixel_values": torch.randn(2, 3, SIDE, SIDE)}
    axes = {"input_ids": {0: "batch_size", 1: "sequence_length"}, "pixel_values": {0: "batch_size"}}
    axes |= {name: {0: "batch_size"} for name in names}
    write_graph(model, inputs, names, folder / "onnx/model.onnx", axes=axes)
    (folder / "config.json").write_text(json.dumps({"model_type": "jina_clip", "projection_dim": WIDTH}))
    words = {"image_processor_type": "JinaCLIPImageProcessor", "processor_class": "JinaCLIPProcessor"}
    stated = {"size": SIDE, "mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic"}
    stated |= {"resize_mode": "longest", "fill_color": 90}
    (folder / "preprocessor_config.json").write_text(json.dumps(words | stated))
    transform = image_transform_v2(PreprocessCfg(**stated), is_train=False)
    with torch.no_grad():
        pixels = torch.stack([transform(picture) for picture in pictures()])
        images = model(torch.ones(len(pixels), 3, dtype=torch.int64), pixels)[3]
        texts = [
            model(
                tokenizer([t], truncation=True, max_length=LENGTH, return_tensors="pt").input_ids, pixels[:1]
            )[2][0].tolist()
            for t in TEXTS
        ]
    record(folder, images, texts)


def xenova(folder: Path) -> None:
    """Write transformers' CLIPModel in the layout of transformers.js: one graph for each tower."""
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = write_tokenizer(folder, "clip")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = CLIPConfig(
        text_config={
            **sizes,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": LENGTH,
            "eos_token_id": len(tokenizer) - 1,
        },
        vision_config={**sizes, "image_size": SIDE, "patch_size": 8},
        projection_dim=WIDTH,
    )
    config._attn_implementation = "eager"
    model = CLIPModel(config).eval()
    spread(model)

    class Texts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            out = self.model.text_model(input_ids=input_ids, attention_mask=attention_mask)
            return self.model.text_projection(out.pooler_output), out.last_hidden_state

    class Images(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> Any:
            out = self.model.vision_model(pixel_values=pixel_values)
            return self.model.visual_projection(out.pooler_output), out.last_hidden_state

    ids = torch.ones(2, LENGTH, dtype=torch.int64)
    both = {0: "batch_size", 1: "sequence_length"}
    write_graph(
        Texts(),
        {"input_ids": ids, "attention_mask": ids.clone()},
        ["text_embeds", "last_hidden_state"],
        folder / "onnx/text_model.onnx",
        axes={"input_ids": both, "attention_mask": both, "text_embeds": {0: "batch_size"}},
    )
    write_graph(
        Images(),
        {"pixel_values": torch.randn(2, 3, SIDE, SIDE)},
        ["image_embeds", "last_hidden_state"],
        folder / "onnx/vision_model.onnx",
        axes={"pixel_values": {0: "batch_size"}, "image_embeds": {0: "batch_size"}},
    )
    (folder / "config.json").write_text(
        json.dumps({"model_type": "clip", "vision_config": {"image_size": SIDE}})
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor.save_pretrained(folder)
    result = tokenizer(TEXTS, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        # OpenAI's own transform; the Pillow processor of transformers rounds odd margins the other way.
        transform = image_transform_v2(PreprocessCfg(size=SIDE), is_train=False)
        pixels = torch.stack([transform(picture) for picture in pictures()])
        images = Images()(pixels)[0]
        texts = Texts()(result.input_ids, result.attention_mask)[0]
    unit = torch.nn.functional.normalize
    record(folder, unit(images, dim=-1), unit(texts, dim=-1))


def siglip_js(folder: Path) -> None:
    """Write transformers' SiglipModel in the layout of transformers.js: rows are the pooled tower outputs."""
    import torch
    from open_clip.tokenizer import get_clean_fn
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from transformers import SiglipConfig, SiglipModel

    tokenizer = write_tokenizer(folder, "siglip")
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
    config = SiglipConfig(text_config=text, vision_config={**sizes, "image_size": SIDE, "patch_size": 8})
    config._attn_implementation = "eager"
    model = SiglipModel(config).eval()
    spread(model)

    class Tower(torch.nn.Module):
        def __init__(self, tower: Any) -> None:
            super().__init__()
            self.tower = tower

        def forward(self, batch: torch.Tensor) -> Any:
            out = self.tower(batch)
            return out.last_hidden_state, out.pooler_output

    towers = {"text": Tower(model.text_model), "vision": Tower(model.vision_model)}
    names = {"text": "input_ids", "vision": "pixel_values"}
    examples = {"text": torch.ones(2, LENGTH, dtype=torch.int64), "vision": torch.randn(2, 3, SIDE, SIDE)}
    for name, tower in towers.items():
        axes = {each: {0: "batch_size"} for each in (names[name], "last_hidden_state", "pooler_output")}
        outputs = ["last_hidden_state", "pooler_output"]
        path = folder / f"onnx/{name}_model.onnx"
        write_graph(tower, {names[name]: examples[name]}, outputs, path, axes=axes)
    message = {"model_type": "siglip", "text_config": {}, "vision_config": {"image_size": SIDE}}
    (folder / "config.json").write_text(json.dumps(message))
    square = {"height": SIDE, "width": SIDE}
    steps = {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "resample": 3,
    }
    stated = {"image_processor_type": "SiglipImageProcessor", "size": square, **steps}
    stated |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    cleaned = [get_clean_fn("canonicalize")(text) for text in TEXTS]
    result = tokenizer(cleaned, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    cfg = PreprocessCfg(size=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash")
    transform = image_transform_v2(cfg, is_train=False)
    unit = torch.nn.functional.normalize
    with torch.no_grad():
        images = towers["vision"](torch.stack([transform(picture) for picture in pictures()]))[1]
        texts = towers["text"](result.input_ids)[1]
    record(folder, unit(images, dim=-1), unit(texts, dim=-1))


def main(target: Path) -> None:
    """Write all models into one zip file."""
    import torch

    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)
    clip = {"size": [SIDE, SIDE], "mode": "RGB", "mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
    clip |= {"interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
    siglip = clip | {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        immich(home / "clip", "clip", preprocess=clip, clean=None, external=False)
        immich(home / "siglip", "siglip", preprocess=siglip, clean="canonicalize", external=True)
        m_clip(home / "m_clip", home / "clip")
        jina(home / "jina")
        xenova(home / "xenova")
        siglip_js(home / "siglip_js")
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(home.rglob("*")):
                if path.is_file():
                    entry = zipfile.ZipInfo(
                        path.relative_to(home).as_posix()
                    )  # no date: the bytes are the same each time
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
