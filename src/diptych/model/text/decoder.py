"""A transformer that writes captions: the picture's cells first, then tokens, each seeing what is before it.

It is what contrastive pretraining was compared with (paper, section 2.3 and figure 2; VirTex, arXiv
2006.06666): to predict the exact words of a caption. Shapes: B batch, P cells of a picture, C their width, L
tokens, D width of the decoder, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.model.blocks import Transformer
from diptych.model.config import Activation, TextConfig
from diptych.model.sharding import shard_like


class CaptionDecoder(nn.Module):
    """How likely a caption is, given a picture.

    Parameters
    ----------
    config : TextConfig
        Size of the transformer, vocabulary, and which token ends a text.
    image_width : int
        Of a picture's cells.
    activation : {"gelu", "quick_gelu", "gelu_tanh"}
    seed : int or None
        Of its parameters; None leaves them unset.
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
        draw = torch.Generator().manual_seed(seed)
        depth = (2 * len(self.transformer.resblocks)) ** -0.5
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim < 2:
                    parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
                    continue
                std = 0.02 if "embedding" in name else parameter.shape[1] ** -0.5
                std *= depth if name.endswith(("out_proj.weight", "c_proj.weight")) else 1
                parameter.copy_(shard_like(torch.randn(parameter.shape, generator=draw) * std, parameter))

    def forward(self, cells: Tensor, tokens: Tensor) -> Tensor:
        """The logarithm of a caption's probability: cells (B, P, C) and tokens (B, L) -> (B,).

        Of every token after the first, up to the end token.
        """
        ends = tokens if self.config.end_id is None else (tokens == self.config.end_id).int()
        end = ends.argmax(-1)  # (B,)
        tokens = tokens[:, : int(end.max()) + 1]
        asked = tokens[:, 1:]  # (B, L - 1)
        inside = torch.arange(asked.shape[1], device=tokens.device) < end[:, None]  # (B, L - 1)
        # The vocabulary is most of the work: nothing after a caption's end is compared with it.
        logits = self.logits(self.read(cells, tokens[:, :-1])[inside])  # (T, V) of T tokens asked for
        losses = F.cross_entropy(logits.float(), asked[inside], reduction="none")
        return -losses.new_zeros(inside.shape).masked_scatter(inside, losses).sum(1)

    def read(self, cells: Tensor, given: Tensor) -> Tensor:
        """What is known at each token: cells (B, P, C) and tokens (B, L) -> (B, L, D)."""
        pictures, length = cells.shape[1], given.shape[1]
        words = self.token_embedding(given)
        words = words + self.positional_embedding[:length].to(words.dtype)
        x = torch.cat([self.image_projection(cells).to(words.dtype), words], dim=1)  # (B, P + L, D)
        sees = torch.ones(pictures + length, pictures + length, dtype=torch.bool, device=x.device).tril()
        sees[:pictures, :pictures] = True  # the picture's cells see each other
        known: Tensor = self.ln_final(self.transformer(x, mask=sees)[:, pictures:])
        return known

    def logits(self, known: Tensor) -> Tensor:
        """Which token comes next: (..., D) -> (..., V)."""
        return known @ self.token_embedding.weight.to(known.dtype).T
