"""Write `recorded_architectures.json`: parameter names and shapes of every model named by open_clip.

One hash covers all names and shapes of a model, beside its number of parameters; models are built without
memory. Of timm's vision transformers, settings that no shape shows are recorded too: heads, epsilons,
activations. Run like `make_families.py`:

    PYTHONPATH=.. python make_architectures.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from make_families import declare_operators

from tests.weights.tiny_families import hash_shapes


def hidden_facts(trunk: Any) -> dict[str, Any]:
    """Settings of a timm vision transformer beside its weights."""
    block = trunk.blocks[0]
    facts = {
        "heads": block.attn.num_heads,
        "activation": "gelu_tanh" if "tanh" in repr(block.mlp.act).lower() else "gelu",
        "norm_eps": block.norm1.eps,
        "class_position": trunk.cls_token is not None and not trunk.no_embed_class,
        "rope_offset": None,
    }
    if trunk.attn_pool is not None:
        pool = trunk.attn_pool
        facts |= {"pool_heads": pool.num_heads, "pool_norm_eps": pool.norm.eps}
        facts["pool_activation"] = "gelu_tanh" if "tanh" in repr(pool.mlp.act).lower() else "gelu"
    if getattr(trunk, "rope", None) is not None:
        rope = trunk.rope
        facts |= {"rope_offset": rope.grid_offset, "rope_indexing": rope.grid_indexing}
        facts |= {"rope_rescaled": tuple(rope.ref_feat_shape) != tuple(rope.feat_shape)}
    return facts


def main() -> None:
    """Record all models whose text tower needs nothing from the hub."""
    library = declare_operators()
    import open_clip
    import torch
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    models, facts = {}, {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        if "hf_model_name" in config["text_cfg"]:
            continue
        custom = config.pop("custom_text", False)
        kind = CoCa if "multimodal_cfg" in config else CustomTextCLIP if custom else CLIP
        with torch.device("meta"):
            model = kind(**config)
        shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        count = sum(parameter.numel() for parameter in model.parameters())
        models[name] = [hash_shapes(shapes), count]
        timm = config["vision_cfg"].get("timm_model_name", "")
        if (
            "_siglip_" in timm
            or "_pe_core_" in timm
            or timm in ("vit_base_mci_224", "vit_large_patch14_clip_224")
        ):
            facts[timm] = hidden_facts(model.visual.trunk)
        print(name, *models[name])
    content = {"open_clip": open_clip.__version__, "models": models, "timm": facts}
    path = Path(__file__).parents[1] / "recorded_architectures.json"
    path.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
    del library


if __name__ == "__main__":
    main()
