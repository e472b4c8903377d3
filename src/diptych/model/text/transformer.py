"""The text encoder: a transformer over tokens, whose output at one position is the text's feature.

CLIP's attention is causal and its feature is read at the end token, so padding after the longest text of a
batch cannot matter and is never computed. SigLIP's is bidirectional, always padded to the full length, and
read at the last position. Tokens come from `diptych.inputs`. Shapes: B batch, L length, D width, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.errors import InputError
from diptych.model.blocks import Transformer, l2_normalize, project, projection
from diptych.model.config import Activation, TextConfig
from diptych.model.devices import to_device


class TextTower(nn.Module):
    """Text encoder of CLIP and SigLIP: token ids to one vector per text.

    Parameters
    ----------
    config : TextConfig
        Architecture of the text tower.
    embed_dim, activation
        As for `VisionTransformer`.
    """

    def __init__(self, config: TextConfig, embed_dim: int, activation: Activation) -> None:
        super().__init__()
        self.text_config = config
        width, act = config.width, config.activation or activation
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, width))
        self.transformer = Transformer(
            width, config.layers, config.heads, config.mlp_ratio, act, config.norm_eps
        )
        self.ln_final = nn.LayerNorm(width, eps=config.norm_eps)
        self.text_projection = projection(config, embed_dim)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Embed texts in the shared space.

        Parameters
        ----------
        tokens : Tensor
            Token ids, (B, L) with L at most the context length, padded after the end token. Ids on the CPU
            have their padding cut off without a synchronisation with the model's device.
        normalize : bool
            Scale every embedding to length one.

        Returns
        -------
        Tensor
            (B, E).

        Raises
        ------
        InputError
            The texts are longer than the context length.
        """
        if tokens.ndim != 2 or tokens.shape[1] > self.text_config.context_length:
            limit = self.text_config.context_length
            raise InputError(f"tokens have shape {tuple(tokens.shape)}, expected (texts, at most {limit})")
        end = self._end(tokens)  # (B,)
        # Bidirectional attention attends to the padding too, so there it must stay (MobileCLIP-S).
        if self.text_config.pool == "end" and self.text_config.causal:
            tokens = tokens[:, : int(end.max()) + 1]
        device = self.token_embedding.weight.device
        features = self.features_at(to_device(tokens, device), to_device(end, device))
        return l2_normalize(features) if normalize else features

    def encode_ids(self, tokens: Tensor) -> Tensor:
        """`encode_text` without control flow that depends on the ids, (B, L) -> (B, E), for tracing."""
        return self.features_at(tokens, self._end(tokens))

    def features_at(self, tokens: Tensor, end: Tensor) -> Tensor:
        """Embeddings (B, E) of token ids (B, L), read at the positions `end` (B,)."""
        x = self.token_embedding(tokens)  # (B, L, D)
        x = x + self.positional_embedding[: x.shape[1]].to(x.dtype)
        x = self.transformer(x, causal=self.text_config.causal)
        x = x[torch.arange(x.shape[0], device=x.device), end.long()]  # (B, D)
        return project(self.ln_final(x), self.text_projection)

    def encode_prefix_trees(
        self, tokens: Tensor, depth: Tensor, attention_mask: Tensor, ends: Tensor
    ) -> Tensor:
        """Embed texts given as prefix trees; the embeddings are normalised.

        `diptych.model.text.prefix_tree` builds the trees and says why the result is that of `encode_text`.

        Parameters
        ----------
        tokens : Tensor
            Token id of each node, (B, L): B trees of L nodes.
        depth : Tensor
            Distance of each node from its root, (B, L): the position in the text.
        attention_mask : Tensor of bool
            True where a node (row) may attend to another (column), (B, L, L).
        ends : Tensor
            For each text the index of its end node among all B * L, (N,).

        Returns
        -------
        Tensor
            (N, E).
        """
        x = self.token_embedding(tokens)  # (B, L, D)
        positions = self.positional_embedding.to(x.dtype).index_select(0, depth.flatten())  # (B * L, D)
        x = x + positions.view_as(x)
        x = self.transformer(x, mask=attention_mask[:, None])  # one mask for all heads
        # Only the end nodes are normalised and projected: N of B * L.
        x = self.ln_final(x.flatten(0, 1).index_select(0, ends))  # (N, D)
        return l2_normalize(project(x, self.text_projection))

    def _end(self, tokens: Tensor) -> Tensor:
        """Position (B,) at which each text is read: its first `end_id`, or the first largest id, or the last.

        The tokenizer guarantees an end token; a text without one would be read at position 0.
        """
        if self.text_config.pool == "last":
            return torch.full_like(tokens[:, 0], tokens.shape[1] - 1)
        if self.text_config.end_id is None:
            return tokens.argmax(-1)
        # argmax gives the first of equal values, on every device.
        return (tokens == self.text_config.end_id).int().argmax(-1)
