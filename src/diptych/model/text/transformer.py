"""The text encoder: a transformer over tokens, and one position of it read as the meaning of the text.

CLIP's is causal and read at the end token, so whatever stands after the longest end token of a batch
cannot matter and is never computed. SigLIP's looks both ways, is padded to its full length, never cut, and
read at the last position. Tokens come from `diptych.inputs`; this file knows numbers only. Shapes: B batch,
L length, D width, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.errors import InputError
from diptych.model.blocks import Transformer, unit_rows
from diptych.model.config import Activation, TextConfig
from diptych.model.machine import send


class TextTower(nn.Module):
    """A text as one vector.

    Parameters
    ----------
    config : TextConfig
        The shape.
    embed_dim : int
        Width of the shared space.
    activation : {"gelu", "quick_gelu", "gelu_tanh"}
        The model's, used unless the config names its own.
    """

    def __init__(self, config: TextConfig, embed_dim: int, activation: Activation) -> None:
        super().__init__()
        self.text_config = config
        width = config.width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, width))
        self.transformer = Transformer(
            width,
            config.layers,
            config.heads,
            config.mlp_ratio,
            config.activation or activation,
            config.norm_eps,
        )
        self.ln_final = nn.LayerNorm(width, eps=config.norm_eps)
        # A plain matrix in CLIP's files, a linear layer with a bias in SigLIP's.
        self.text_projection: nn.Parameter | nn.Linear | None = None
        if config.projection:
            self.text_projection = (
                nn.Linear(width, embed_dim)
                if config.projection_bias
                else nn.Parameter(torch.empty(width, embed_dim))
            )

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Texts in the shared space.

        Parameters
        ----------
        tokens : Tensor
            Token ids, (B, L) with L at most the context length, padded after the end token. On the CPU the
            padding is found and cut off without waiting for the model's device.
        normalize : bool
            Make every row of length one.

        Returns
        -------
        Tensor
            (B, E).

        Raises
        ------
        InputError
            The texts are longer than the context.
        """
        if tokens.ndim != 2 or tokens.shape[1] > self.text_config.context_length:
            limit = self.text_config.context_length
            raise InputError(f"tokens have shape {tuple(tokens.shape)}, expected (texts, at most {limit})")
        end = self._end(tokens)  # (B,)
        # Where every token sees all others, the padding is seen too and must stay (MobileCLIP-S).
        if self.text_config.pool == "end" and self.text_config.causal:
            tokens = tokens[:, : int(end.max()) + 1]
        device = self.token_embedding.weight.device
        features = self.read(send(tokens, device), send(end, device))
        return unit_rows(features) if normalize else features

    def encode_ids(self, tokens: Tensor) -> Tensor:
        """`encode_text` without a look at what is in the ids, (B, L) -> (B, E): what can be traced."""
        return self.read(tokens, self._end(tokens))

    def read(self, tokens: Tensor, end: Tensor) -> Tensor:
        """Texts (B, L) at the positions where they are read (B,), in the shared space, (B, E)."""
        x = self.token_embedding(tokens)  # (B, L, D)
        x = x + self.positional_embedding[: x.shape[1]].to(x.dtype)
        x = self.transformer(x, causal=self.text_config.causal)
        x = x[torch.arange(x.shape[0], device=x.device), end.long()]  # (B, D)
        return self._project(self.ln_final(x))

    def encode_tree(self, tokens: Tensor, depth: Tensor, sees: Tensor, ends: Tensor) -> Tensor:
        """Texts whose common beginnings are computed once, in the shared space, of length one.

        A causal transformer's vector at a position depends on the tokens up to it alone. So texts that begin
        alike can share the vectors of the beginning, and a set of texts becomes a tree of tokens in which
        each node sees the nodes on its way to the root: the same numbers, fewer of them.
        `diptych.model.text.prefix_tree` makes the trees.

        Parameters
        ----------
        tokens : Tensor
            The nodes' ids, (B, L): B trees of L nodes.
        depth : Tensor
            The nodes' distance from their root, (B, L): the position in the text.
        sees : Tensor of bool
            Whether a node sees another, (B, L, L).
        ends : Tensor
            For each text the index of its end node among all B * L, (N,).

        Returns
        -------
        Tensor
            (N, E).
        """
        x = self.token_embedding(tokens)  # (B, L, D)
        places = self.positional_embedding.to(x.dtype).index_select(0, depth.flatten())
        x = x + places.view_as(x)
        x = self.transformer(x, mask=sees[:, None])
        x = self.ln_final(x.flatten(0, 1).index_select(0, ends))  # (N, D)
        return unit_rows(self._project(x))

    def _end(self, tokens: Tensor) -> Tensor:
        """Where each text is read: at its first `end_id`, or first largest id; SigLIP's at the last place.

        That every text has one is the tokenizer's promise; a text without would be read at its start.
        """
        if self.text_config.pool == "last":
            return torch.full_like(tokens[:, 0], tokens.shape[1] - 1)
        if self.text_config.end_id is None:
            return tokens.argmax(-1)
        return (tokens == self.text_config.end_id).int().argmax(-1)

    def _project(self, x: Tensor) -> Tensor:
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection(x)  # type: ignore[no-any-return]
        return x if self.text_projection is None else x @ self.text_projection
