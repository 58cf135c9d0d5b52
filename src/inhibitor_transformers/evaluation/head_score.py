"""The measure that fits a model's head, on a split of data: one call for text, images and sound."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from ..tasks.modalities import Examples, MaskedTokens, Preprocessor, Selection, draw, in_batches, load_examples
from ..tasks.modalities.source import Part
from .accuracy import accuracy
from .causal_lm import perplexity
from .speech import DIGITS, transcribe, word_error_rate

_BATCH = 32


class Measure(NamedTuple):
    """A number, its name, and whether less of it is better."""

    name: str
    value: float
    lower_is_better: bool = False


def score_head(
    model: PreTrainedModel,
    preprocessor: Preprocessor,
    source: str | Path,
    *,
    split: str = "validation",
    part: Part = "all",
    length: int = 256,
    max_examples: int | None = None,
    seed: int = 0,
) -> Measure:
    """Measure a model with the head that its class has.

    Causal language models: perplexity of windows of `length` tokens that do not overlap. Masked ones: accuracy of 15 %
    of the tokens, hidden by `seed`. Image and audio classifiers: accuracy. Speech to text: word error rate; the labels
    are spoken digits. `max_examples` are drawn with `seed` (None: all, in their order).

    Raises ValueError for another head and for data without labels, and what `load_examples` raises.
    """
    kind = head_of(model)
    packed, ids = kind == "causal", getattr(model.config, "label2id", None)
    examples = load_examples(source, preprocessor, split=split, part=part, length=length, packed=packed, label2id=ids)
    chosen: Examples = examples if max_examples is None else draw(examples, max_examples, seed=seed)
    if kind == "causal":
        return Measure("perplexity", perplexity(model, in_batches(chosen, _BATCH, "perplexity")), True)
    if kind == "speech":
        return Measure("word error rate", _word_error_rate(model, preprocessor, chosen), True)
    if kind == "masked":
        hidden = MaskedTokens(chosen, preprocessor, seed=seed)
        return Measure("masked-token accuracy", accuracy(model, in_batches(hidden, _BATCH, "masked-token accuracy")))
    _require_labels(chosen, source)
    return Measure("accuracy", accuracy(model, in_batches(chosen, _BATCH, "accuracy")))


def head_of(model: PreTrainedModel) -> str:
    """ "causal", "masked", "classes" or "speech", by the Auto class that loads a class of the model's family tree.

    Raises ValueError where there is none.
    """
    names = {base.__name__ for base in type(model).__mro__}
    for kind, mappings in _HEADS.items():
        if any(names & set(_class_names(mapping)) for mapping in mappings):
            return kind
    raise ValueError(
        f"{type(model).__name__} has no head that can be measured: a language model, a classifier of images or audio, "
        "or a model that writes down speech"
    )


_HEADS = {
    "speech": (modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,),
    "masked": (modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,),
    "classes": (
        modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES,
    ),
    "causal": (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,),
}


def _class_names(mapping: dict[str, str | tuple[str, ...]]) -> list[str]:
    return [name for names in mapping.values() for name in ((names,) if isinstance(names, str) else names)]


def _word_error_rate(model: PreTrainedModel, processor: Preprocessor, examples: Examples) -> float:
    labels: list[int] = []
    heard: list[str] = []
    for batch in in_batches(examples, _BATCH, "transcribing"):
        if "labels" not in batch:
            raise ValueError("there are no labels to compare what was heard with")
        labels += batch["labels"].tolist()
        heard += transcribe(model, processor.tokenizer, [batch])
    return word_error_rate(heard, [DIGITS[label] for label in labels])


def _require_labels(examples: Examples, source: str | Path) -> None:
    if "labels" not in Selection(examples, [0]).batch([0]):
        raise ValueError(f"{source}: no label column, so there is no accuracy")
