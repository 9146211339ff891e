"""Attention of diffusers' UNets, with what depends on the text alone computed once a job."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from torch.nn.functional import scaled_dot_product_attention


class SelfAttention:
    """A processor of diffusers' `Attention`, as `AttnProcessor2_0`. The transformer blocks of UNets
    have no norms, masks or residuals of their own in it.

    `backend` None: torch's own, which picks a fused kernel by itself.
    """

    def __init__(self, backend: AttentionBackendName | None = None) -> None:
        self._backend = backend

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: None = None,
    ) -> torch.Tensor:
        """Hidden states [rows, S, D] -> the same shape."""
        key, value = self.keys_and_values(attn, hidden_states, encoder_hidden_states)
        heads = [_heads(each, attn.heads) for each in (attn.to_q(hidden_states), key, value)]
        if self._backend is None:
            query, key, value = (each.transpose(1, 2) for each in heads)
            attended = scaled_dot_product_attention(query, key, value).transpose(1, 2)
        else:
            attended = dispatch_attention_fn(*heads, backend=self._backend)
        projected: torch.Tensor = attn.to_out[0](attended.flatten(2))
        return projected

    def keys_and_values(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        attended = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        return attn.to_k(attended), attn.to_v(attended)


class CrossAttention(SelfAttention):
    """The attention to the text in one layer. Instead of the text's embeddings it is given what
    `TextLayers.project` makes of them.
    """

    def __init__(self, layer: int, backend: AttentionBackendName | None = None) -> None:
        super().__init__(backend)
        self._layer = layer

    def keys_and_values(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys_and_values: Sequence[torch.Tensor] = encoder_hidden_states
        return keys_and_values[2 * self._layer], keys_and_values[2 * self._layer + 1]


class TextLayers:
    """The layers of a UNet that attend to the text. Their keys and values are the same at each step
    of a job, so they are projected before the first, not in each call.
    """

    def __init__(self, unet: Any, backend: AttentionBackendName | None) -> None:
        """From now on the UNet takes, as `encoder_hidden_states`, what `project` gives."""
        self._layers: list[Any] = []
        processors: dict[str, SelfAttention] = {}
        for name in unet.attn_processors:
            attn = unet.get_submodule(name.removesuffix(".processor"))
            if attn.is_cross_attention:
                processors[name] = CrossAttention(len(self._layers), backend)
                self._layers.append(attn)
            else:
                processors[name] = SelfAttention(backend)
        unet.set_attn_processor(processors)

    def project(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Embeddings [rows, T, D] -> keys and values of the first layer, of the second, and so on,
        [rows, T, D'] each.
        """
        return tuple(
            projection(tokens) for attn in self._layers for projection in (attn.to_k, attn.to_v)
        )


def _heads(hidden: torch.Tensor, heads: int) -> torch.Tensor:
    """[rows, S, heads * D] -> [rows, S, heads, D]."""
    return hidden.view(*hidden.shape[:2], heads, -1)
