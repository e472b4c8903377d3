"""A transformer decoder that scores captions: patch tokens of the image first, then causal text tokens.

The baseline that contrastive pretraining was compared with (paper, section 2.3 and figure 2; VirTex, arXiv
2006.06666): predict the exact words of a caption. Shapes: B batch, P patch tokens of an image, C their width,
L text tokens, D width of the decoder, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.model.blocks import Transformer
from diptych.model.config import Activation, TextConfig
from diptych.model.sharding import shard_like


class CaptionDecoder(nn.Module):
    """Log-likelihood of captions, given images.

    Parameters
    ----------
    config : TextConfig
        Size of the transformer, vocabulary, and which token ends a text.
    image_width : int
        Width of the image's patch tokens.
    activation : {"gelu", "quick_gelu", "gelu_tanh"}
    seed : int or None
        Seed of the initial parameters; None leaves them unset.
    """

    def __init__(
        self, config: TextConfig, image_width: int, activation: Activation, seed: int | None = 0
    ) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, width))
        self.image_projection = nn.Linear(image_width, width)
        self.transformer = Transformer(
            width, config.layers, config.heads, config.mlp_ratio, activation, config.norm_eps
        )
        self.ln_final = nn.LayerNorm(width, eps=config.norm_eps)
        if seed is not None:
            self.initialise(seed)

    def initialise(self, seed: int) -> None:
        """Set every parameter from a seed."""
        generator = torch.Generator().manual_seed(seed)
        # Layers that write into the residual sum start smaller, so that it keeps its size with depth.
        depth = (2 * len(self.transformer.resblocks)) ** -0.5
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim < 2:  # gains of norms 1, biases 0
                    parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
                    continue
                std = 0.02 if "embedding" in name else parameter.shape[1] ** -0.5
                std *= depth if name.endswith(("out_proj.weight", "c_proj.weight")) else 1
                values = torch.randn(parameter.shape, generator=generator) * std
                parameter.copy_(shard_like(values, parameter))

    def forward(self, patch_tokens: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability of each caption: (B, P, C) and token ids (B, L) -> (B,).

        Summed over every token after the first, up to the end token.
        """
        ends = tokens if self.config.end_id is None else (tokens == self.config.end_id).int()
        end = ends.argmax(-1)  # (B,)
        tokens = tokens[:, : int(end.max()) + 1]
        targets = tokens[:, 1:]  # (B, L - 1)
        inside = torch.arange(targets.shape[1], device=tokens.device) < end[:, None]  # (B, L - 1)
        # The product with the vocabulary is most of the work: padding is left out of it.
        hidden = self.hidden_states(patch_tokens, tokens[:, :-1])  # (B, L - 1, D)
        logits = self.logits(hidden[inside])  # (T, V), T targets in all captions together
        losses = F.cross_entropy(logits.float(), targets[inside], reduction="none")
        return -losses.new_zeros(inside.shape).masked_scatter(inside, losses).sum(1)

    def hidden_states(self, patch_tokens: Tensor, tokens: Tensor) -> Tensor:
        """Hidden state at each text token: (B, P, C) and token ids (B, L) -> (B, L, D)."""
        patches, length = patch_tokens.shape[1], tokens.shape[1]
        x = self.token_embedding(tokens)
        x = x + self.positional_embedding[:length].to(x.dtype)
        x = torch.cat([self.image_projection(patch_tokens).to(x.dtype), x], dim=1)  # (B, P + L, D)
        # A prefix mask: text attends to the image and to earlier text, patches to all patches.
        total = patches + length
        attention_mask = torch.ones(total, total, dtype=torch.bool, device=x.device).tril()
        attention_mask[:patches, :patches] = True
        hidden: Tensor = self.ln_final(self.transformer(x, mask=attention_mask)[:, patches:])
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next token, with tied token embeddings: (..., D) -> (..., V)."""
        return hidden @ self.token_embedding.weight.to(hidden.dtype).T
