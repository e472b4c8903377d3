"""Write `recorded_families.json`: outputs of open_clip, timm and transformers for tiny models of each family.

Run in an environment with open_clip_torch 3.3.0, timm 1.0.31, transformers 5.24.0 and torch 2.13.0, from this
folder (a CPU build of torch needs two operators of torchvision declared first, as below):

    PYTHONPATH=.. python make_families.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

EMBED = 32
TEXT = {"context_length": 12, "vocab_size": 60, "width": 32, "heads": 2, "layers": 2}
OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
UNIT = {"mean": [0.0] * 3, "std": [1.0] * 3}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def declare_operators() -> Any:
    """Make torchvision's wheel importable beside a CPU build of torch."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def tiny_towers() -> dict[str, Any]:
    """Small towers of the same classes and options as timm's large ones."""
    from timm.layers import HybridEmbed, LayerNorm
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_hybrid import ConvStem
    from torch import nn

    size = {"img_size": 32, "embed_dim": 64, "depth": 2, "num_heads": 4}
    siglip = {**size, "patch_size": 8, "class_token": False, "mlp_ratio": 3.7362}
    rope = {
        **size,
        "patch_size": 8,
        "attn_type": "rope",
        "use_pre_transformer_norm": True,
        "use_rot_pos_emb": True,
        "ref_feat_shape": (4, 4),
        "rope_grid_indexing": "xy",
        "attn_pool_num_heads": 8,
        "attn_pool_mlp_ratio": 4.0,
        "norm_layer": partial(LayerNorm, eps=1e-5),
    }

    def mci(**options: Any) -> Any:
        stem = ConvStem(
            channels=(16, 16, 64), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0, act_layer=nn.GELU
        )
        embed = partial(HybridEmbed, backbone=stem, proj=False)
        return VisionTransformer(embed_layer=embed, no_embed_class=True, patch_size=1, **size, **options)

    return {
        "tiny_siglip": partial(VisionTransformer, **siglip),
        "tiny_siglip_tanh": partial(VisionTransformer, act_layer="gelu_tanh", **siglip),
        "tiny_pe_core": partial(Eva, rope_grid_offset=1.0, **rope),
        "tiny_pe_core_g": partial(Eva, class_token=False, mlp_ratio=35 / 6, **rope),
        "tiny_mci": mci,
        "tiny_patch14_clip": partial(
            VisionTransformer, patch_size=8, pre_norm=True, norm_layer=partial(LayerNorm, eps=1e-5), **size
        ),
    }


def bert_table() -> dict[str, Any]:
    """A small BERT tokenizer.json, and its settings."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "a",
        "photo",
        "of",
        "cat",
        "dog",
        "run",
        "##ning",
        ",",
        "!",
        "two",
    ]
    rust = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer(lowercase=True)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    rust.add_special_tokens(words[:4])
    notes = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "sep_token": "[SEP]"}
    return {"tokenizer.json": json.loads(rust.to_str()), "tokenizer_config.json": notes}


def unigram_table(first: list[str], pad: str, template: str, ends: list[tuple[str, int]]) -> dict[str, Any]:
    """A small tokenizer.json of unigram pieces, like those of SigLIP and XLM-V."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = [
        *first,
        "▁",
        "▁a",
        "▁photo",
        "▁of",
        "▁cat",
        "▁dog",
        "▁run",
        "ning",
        "▁two",
        *"abcdeghiknoprstuwxADT,!",
    ]
    pieces = [(word, 0.0 if word in first else -float(i)) for i, word in enumerate(words)]
    rust = Tokenizer(models.Unigram(pieces, unk_id=first.index("<unk>")))
    rust.normalizer = normalizers.NFKC()
    rust.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    rust.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    rust.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)
    rust.add_special_tokens(first)
    notes = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad}
    return {"tokenizer.json": json.loads(rust.to_str()), "tokenizer_config.json": notes}


def siglip_table() -> dict[str, Any]:
    """A table in which the end token is also the padding, as in SigLIP."""
    return unigram_table(["<pad>", "</s>", "<unk>"], "</s>", "$A </s>", [("</s>", 1)])


def xlm_v_table() -> dict[str, Any]:
    """A table for MetaCLIP 2, which pools a text at `</s>`, id 2."""
    return unigram_table(["<s>", "<pad>", "</s>", "<unk>"], "<pad>", "<s> $A </s>", [("<s>", 0), ("</s>", 2)])


def open_clip_cases() -> dict[str, Any]:
    """open_clip configs by family, with the files of their tokenizers."""
    siglip_text = TEXT | {
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }
    siglip_text |= {
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-06},
    }
    tanh = {"act_kwargs": {"approximate": "tanh"}}
    clip_text = TEXT | {"vocab_size": 49408, "width": 32}
    squash = {"resize_mode": "squash"}

    def timm(name: str, pool: str, proj: str | None) -> dict[str, Any]:
        return {
            "image_size": 32,
            "timm_model_name": name,
            "timm_model_pretrained": False,
            "timm_pool": pool,
            "timm_proj": proj,
        }

    def case(vision: Any, text: Any, preprocess: Any, table: Any = None, **more: Any) -> dict[str, Any]:
        model = {"embed_dim": EMBED, "vision_cfg": vision, "text_cfg": text, **more}
        files = {"open_clip_config.json": {"model_cfg": model, "preprocess_cfg": preprocess}, **(table or {})}
        return {"files": files, "weights_file": "open_clip_model.safetensors"}

    vit = {"image_size": 32, "patch_size": 8, "width": 64, "head_width": 16, "layers": 2}
    bert = {"hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": True}}
    worldwide = {"hf_tokenizer_name": "facebook/xlm-v-base", "pool_type": "eos", "eos_id": 2}
    siglip = {"init_logit_bias": -10, "custom_text": True, "embed_dim": 64}
    return {
        "clipa": case(
            vit | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
            TEXT | bert | {"pool_type": "last", "no_causal_mask": True},
            IMAGENET | squash | {"interpolation": "bilinear"},
            bert_table(),
        ),
        "siglip": case(
            timm("tiny_siglip", "map", "none"), siglip_text, HALF | squash, siglip_table(), **siglip
        ),
        "siglip_tanh": case(
            timm("tiny_siglip_tanh", "map", "none"),
            siglip_text | tanh,
            HALF | squash,
            siglip_table(),
            **siglip,
        ),
        "siglip_unprojected": case(
            timm("tiny_siglip_tanh", "map", "none"),
            {key: value for key, value in siglip_text.items() if key != "proj_bias"}
            | {"proj_type": "none", "width": 64},
            HALF | squash,
            siglip_table(),
            **siglip,
        ),
        "metaclip2": case(vit, TEXT | worldwide, OPENAI | squash, xlm_v_table()),
        "metaclip2_quickgelu": case(vit, TEXT | worldwide, OPENAI, xlm_v_table(), quick_gelu=True),
        "pe_core": case(
            timm("tiny_pe_core", "map", None),
            clip_text,
            HALF | squash | {"interpolation": "bilinear"},
            custom_text=True,
        ),
        "pe_core_g": case(
            timm("tiny_pe_core_g", "map", None),
            clip_text,
            HALF | squash | {"interpolation": "bilinear"},
            custom_text=True,
        ),
        "mobileclip_b": case(
            timm("tiny_mci", "token", None) | {"timm_drop": 0.0, "timm_drop_path": 0.0},
            clip_text | {"no_causal_mask": False},
            UNIT | {"interpolation": "bilinear"},
            custom_text=True,
        ),
        **{
            family: case(
                timm(name, pool, proj) | {"image_size": side, "timm_drop": 0.0, "timm_drop_path": 0.1},
                clip_text | {"no_causal_mask": family == "fastvit"},
                UNIT | {"interpolation": "bilinear"} if family == "fastvit" else OPENAI,
                custom_text=family != "convnext",
            )
            for family, name, side, pool, proj in (
                ("convnext", "test_convnext", 160, "", "mlp"),
                ("eva02", "eva02_tiny_patch14_224", 224, "token", None),
                ("fastvit", "fastvit_mci0", 256, "avg", None),
                ("vitamin", "vitamin_small_224", 224, "", "linear"),
            )
        },
        "mobileclip2_l": case(
            timm("tiny_patch14_clip", "token", None) | {"timm_drop": 0.0, "timm_drop_path": 0.1},
            clip_text | {"no_causal_mask": True},
            OPENAI,
            custom_text=True,
        ),
    }


def record_open_clip(case: dict[str, Any]) -> None:
    """Add the names, shapes, ids and vectors from open_clip."""
    import torch
    from open_clip.model import CLIP, CustomTextCLIP
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from tests.weights.tiny_families import TEXTS, pictures, state_of

    config = json.loads(json.dumps(case["files"]["open_clip_config.json"]))
    model_config = config["model_cfg"]
    kind = CustomTextCLIP if model_config.pop("custom_text", False) else CLIP
    model = kind(**model_config).eval()
    case["shapes"] = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(state_of(case["shapes"]))
    text = model_config["text_cfg"]
    if "tokenizer.json" in case["files"]:
        with tempfile.TemporaryDirectory() as folder:
            for name in ("tokenizer.json", "tokenizer_config.json"):
                Path(folder, name).write_text(json.dumps(case["files"][name]), encoding="utf-8")
            tokenizer = HFTokenizer(folder, text["context_length"], **text.get("tokenizer_kwargs", {}))
            ids = tokenizer(TEXTS)
    else:
        ids = SimpleTokenizer(context_length=text["context_length"])(TEXTS)
    stated = PreprocessCfg(size=model.visual.image_size, **config["preprocess_cfg"])
    transform = image_transform_v2(stated, is_train=False)
    pixels = torch.stack([transform(picture) for picture in pictures()])
    with torch.no_grad():
        image, words = model.encode_image(pixels, normalize=True), model.encode_text(ids, normalize=True)
    case["ids"] = ids.tolist()
    case["image"], case["text"] = rounded(image), rounded(words)


def record_metaclip2() -> dict[str, Any]:
    """Write a folder of transformers' `MetaClip2Model`, with its outputs."""
    import torch
    from transformers import MetaClip2Config, MetaClip2Model, PreTrainedTokenizerFast
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from tests.weights.tiny_families import TEXTS, pictures, state_of

    sizes = {"num_hidden_layers": 2, "projection_dim": EMBED, "hidden_act": "gelu"}
    text = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 2}
    text |= {"max_position_embeddings": 12, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
    vision = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}
    vision |= {"image_size": 32, "patch_size": 8}
    config = MetaClip2Config(text_config=text | sizes, vision_config=vision | sizes, projection_dim=EMBED)
    model = MetaClip2Model(config).eval()
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(state_of(shapes))
    # With Pillow, as models are trained; the default processor uses torchvision, and vectors differ by 3e-4.
    processor = CLIPImageProcessorPil(
        size={"height": 32, "width": 32}, do_center_crop=False, crop_size={"height": 32, "width": 32}
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        for file, content in xlm_v_table().items():
            (folder / file).write_text(json.dumps(content), encoding="utf-8")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        files = {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    texts = [" ".join(text.split()) for text in TEXTS]
    ids = tokenizer(
        texts, padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    ).input_ids
    pixels = processor(pictures(), return_tensors="pt").pixel_values
    with torch.no_grad():
        image, words = model.get_image_features(pixel_values=pixels), model.get_text_features(input_ids=ids)
    image, words = (getattr(rows, "pooler_output", rows) for rows in (image, words))
    case: dict[str, Any] = {"files": files, "weights_file": "model.safetensors", "shapes": shapes}
    case |= {"ids": ids.tolist()}
    return case | {
        "image": rounded(torch.nn.functional.normalize(image, dim=-1)),
        "text": rounded(torch.nn.functional.normalize(words, dim=-1)),
    }


def rounded(rows: Any) -> list[list[float]]:
    """Unit rows rounded to the precision of float32."""
    return [[float(f"{number:.7g}") for number in row] for row in np.asarray(rows).tolist()]


def main() -> None:
    """Record every family."""
    library = declare_operators()
    import open_clip
    import timm
    import transformers

    towers, create = tiny_towers(), timm.create_model

    def create_model(name: str, pretrained: bool = False, **options: Any) -> Any:
        return towers[name](**options) if name in towers else create(name, pretrained=pretrained, **options)

    timm.create_model = create_model
    cases = open_clip_cases()
    for case in cases.values():
        record_open_clip(case)
    cases["metaclip2_transformers"] = record_metaclip2()
    versions = {module.__name__: module.__version__ for module in (open_clip, timm, transformers)}
    content = {"made_with": {**versions, "python": sys.version.split()[0]}, "cases": cases}
    path = Path(__file__).parents[1] / "recorded_families.json"
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size:,} bytes, {len(cases)} cases")
    del library


if __name__ == "__main__":
    main()
