"""Tokenizers of a fixed vocabulary, for sequences that a regular expression cuts: residues, atoms."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast


def word_level_tokenizer(
    vocabulary: dict[str, int], pattern: str, *, max_length: int, **settings: bool
) -> PreTrainedTokenizerFast:
    """[CLS] sequence [SEP], or [CLS] a [SEP] b [SEP]; a token is what `pattern` matches, anything else is dropped."""
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = Split(Regex(pattern), behavior="removed", invert=True)
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
        **settings,
    )
