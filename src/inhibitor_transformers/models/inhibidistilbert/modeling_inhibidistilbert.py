"""InhibiDistilBERT (arXiv 2503.15983): DistilBERT whose attention is inhibitor attention, with all its heads.

Thin subclasses of transformers' DistilBERT: what differs is the attention function and its scalars, an
optional segment embedding, and the guards against running these weights as softmax attention.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput, QuestionAnsweringModelOutput
from transformers.models.distilbert import modeling_distilbert as distilbert
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...attention import InhibitorScalars
from ..attention_interface import ATTENTION_NAME, require_inhibitor
from ..loading import (
    check_heads_were_split,
    check_loaded_keys,
    checked_afterwards,
    find_saver,
    own_memory,
    refuse_new_weights,
)
from ..quantized.modules import require_float32
from ..savable import check_savable
from ..saved_format import check_saving, join_saved_heads
from .configuration_inhibidistilbert import InhibiDistilBertConfig
from .from_teacher import student_from_teacher


class InhibiDistilBertSelfAttention(distilbert.DistilBertSelfAttention):
    """DistilBERT's self-attention with inhibitor scalars; refuses to run any other attention function."""

    config: InhibiDistilBertConfig
    found_joined_heads = False  # in the files that this layer was loaded from

    def __init__(self, config: InhibiDistilBertConfig) -> None:
        super().__init__(config)
        self.inhibitor = InhibitorScalars(
            config.n_heads,
            gamma=config.inhibitor_gamma,
            eta=config.inhibitor_eta,
            delta=config.inhibitor_delta,
            length_exponent=config.inhibitor_length_exponent,
            length_reference=config.inhibitor_length_reference,
        )
        self.register_load_state_dict_pre_hook(join_saved_heads)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> tuple[Tensor, ...]:
        require_inhibitor(self.config._attn_implementation)
        return super().forward(hidden_states, attention_mask=attention_mask, **kwargs)


class InhibiDistilBertPreTrainedModel(distilbert.DistilBertPreTrainedModel):
    """Loading, saving and initialization shared by all InhibiDistilBERT models."""

    config_class = InhibiDistilBertConfig
    config: InhibiDistilBertConfig
    _supports_flash_attn = False
    _supports_sdpa = False
    _supports_flex_attn = False
    _keep_in_fp32_modules_strict = ("inhibitor",)
    # The heads average their loss over the batch at hand; else Trainer takes it for a part of all accumulated batches.
    accepts_loss_kwargs = False
    _can_record_outputs = {  # noqa: RUF012 (transformers declares it so)
        "hidden_states": distilbert.TransformerBlock,
        "attentions": InhibiDistilBertSelfAttention,
    }

    def post_init(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = self.config.layer_norm_eps
        super().post_init()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        require_float32(self, fn)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(self, InhibiDistilBertModel):
            refuse_new_weights(self)
        super()._init_weights(module)
        if isinstance(module, InhibitorScalars):
            for name, value in module.initial.items():
                init.constant_(getattr(module, name), value)

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """Inhibitor attention, always. Raises ValueError for any other request."""
        if requested_attention is not None:
            require_inhibitor(requested_attention)
        return ATTENTION_NAME

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but a missing or unexpected encoder weight is an error, never a silent new start.

        Only a task head may be new, and only where the checkpoint was saved by a class with another head.
        """
        wants_info, source = kwargs.pop("output_loading_info", False), str(pretrained_model_name_or_path)
        with checked_afterwards():
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        if kwargs.get("state_dict") is None:
            check_heads_were_split(model, source)
        check_loaded_keys(model, info, source, find_saver(pretrained_model_name_or_path, model, kwargs))
        own_memory(model)
        return (model, info) if wants_info else model

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in transformers, in a form that no softmax class loads (see `models/saved_format.py`).

        Raises ValueError, before anything is written, for `save_original_format=False` and
        `distributed_checkpoint=True`, which know no such form; for weights that loading would not find under their
        names (adapters, parametrizations, pruning); and where modules and configuration disagree.
        """
        options = inspect.signature(super().save_pretrained).bind(save_directory, *args, **kwargs).arguments
        check_saving(options)
        check_savable(self, options)
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def from_teacher(cls, teacher: nn.Module, layers: Any = "all", *, segments: str = "auto", **overrides: Any) -> Self:
        """A student with the weights of a DistilBERT, BERT or RoBERTa teacher (any head), and inhibitor attention.

        Args:
            teacher: the pretrained model; it is not changed.
            layers: "all", "every 2nd", "last 3", "first 3", "0,2,4,7,9,11" or a list of teacher layers.
            segments: "keep" keeps the teacher's segment embeddings, "fold" adds segment 0 to the position
                embeddings (pairs then lose which sentence a token is in), "auto" keeps them where there are any.
            overrides: fields of `InhibiDistilBertConfig`, e.g. `inhibitor_signed=False`.

        Raises ValueError for another architecture or an impossible layer rule, naming what is possible, and for a
        teacher with weights that are NaN or infinite.
        """
        return student_from_teacher(cls, teacher, layers, segments=segments, overrides=overrides)


class InhibiDistilBertEmbeddings(distilbert.Embeddings):
    """DistilBERT's embeddings, with segment embeddings where the config asks for them."""

    def __init__(self, config: InhibiDistilBertConfig) -> None:
        super().__init__(config)
        if config.type_vocab_size:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.dim)

    def forward(
        self,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """(B, N, dim) of ids (B, N) or of word embeddings (B, N, dim).

        token_type_ids: (B, N), (1, N), or (batch, choices, N) with batch · choices = B; None means segment 0. Read only
        if there are segments. Raises ValueError for other shapes.
        """
        if hasattr(self, "token_type_embeddings"):
            words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
            input_ids, inputs_embeds = None, words + self._segments(words, token_type_ids)
        return super().forward(input_ids, inputs_embeds, position_ids)

    def _segments(self, words: Tensor, token_type_ids: Tensor | None) -> Tensor:
        if token_type_ids is None:
            return self.token_type_embeddings(torch.zeros((), dtype=torch.long, device=words.device))
        flat = token_type_ids.reshape(-1, token_type_ids.shape[-1])
        if flat.shape[1] != words.shape[1] or flat.shape[0] not in (1, words.shape[0]):
            raise ValueError(
                f"token_type_ids must be (batch, length) = {tuple(words.shape[:2])}, got {tuple(token_type_ids.shape)}"
            )
        return self.token_type_embeddings(flat)


class InhibiDistilBertModel(InhibiDistilBertPreTrainedModel, distilbert.DistilBertModel):
    """The bare encoder: hidden states of the last layer, without a head."""

    def __init__(self, config: InhibiDistilBertConfig) -> None:
        super().__init__(config)
        self.embeddings = InhibiDistilBertEmbeddings(config)
        for block in self.transformer.layer:
            block.attention = InhibiDistilBertSelfAttention(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput | tuple[Tensor, ...]:
        """As `DistilBertModel.forward`; `attentions` are the inhibition scores Z (0 = passes fully, +inf = masked).

        token_type_ids: (B, N) int64, segment of each token; used only if `config.type_vocab_size` > 0.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids or inputs_embeds")
        if position_ids is None:
            self._require_positions(inputs_embeds if input_ids is None else input_ids)
        hidden = self.embeddings(input_ids, inputs_embeds, position_ids, token_type_ids)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=attention_mask)
        return self.transformer(hidden_states=hidden, attention_mask=mask, **kwargs)

    def _require_positions(self, inputs: Tensor | None) -> None:
        if inputs is None or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return  # a graph keeps what it was made with
        length, limit = inputs.shape[1], self.config.max_position_embeddings
        if length > limit:
            raise ValueError(
                f"an input of {length} tokens is longer than this model can read ({limit}): cut it, for example with "
                f"tokenizer(…, truncation=True, max_length={limit})"
            )


class _InhibitorHead(InhibiDistilBertPreTrainedModel):
    """Puts a DistilBERT head, whose class stands behind this one, on an inhibitor encoder."""

    def __init__(self, config: InhibiDistilBertConfig) -> None:
        checkpointing = getattr(config, "gradient_checkpointing", False)  # the first that is built deletes it
        super().__init__(config)
        self.distilbert = InhibiDistilBertModel(config)
        if checkpointing:
            config.gradient_checkpointing = True
        self.post_init()

    # Every input is named, not left to **kwargs: Trainer drops the columns that the signature does not name.
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As the DistilBERT model with this head; `token_type_ids` as in `InhibiDistilBertModel.forward`."""
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            labels=labels,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            **kwargs,
        )


class InhibiDistilBertForMaskedLM(_InhibitorHead, distilbert.DistilBertForMaskedLM):
    """Masked language modeling; the projection is tied to the word embeddings."""


class InhibiDistilBertForSequenceClassification(_InhibitorHead, distilbert.DistilBertForSequenceClassification):
    """Classification or regression of a text or a pair."""


class InhibiDistilBertForTokenClassification(_InhibitorHead, distilbert.DistilBertForTokenClassification):
    """Classification of every token."""


class InhibiDistilBertForMultipleChoice(_InhibitorHead, distilbert.DistilBertForMultipleChoice):
    """Choice among several texts; inputs are (B, choices, N)."""


class InhibiDistilBertForQuestionAnswering(_InhibitorHead, distilbert.DistilBertForQuestionAnswering):
    """Start and end of an answer span."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput | tuple[Tensor, ...]:
        """As `DistilBertForQuestionAnswering.forward`; `token_type_ids` as in `InhibiDistilBertModel.forward`."""
        return distilbert.DistilBertForQuestionAnswering.forward(
            self,
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            start_positions=start_positions,
            end_positions=end_positions,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            **kwargs,
        )
