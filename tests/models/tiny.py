"""Tiny models with random weights: students, teachers, their inputs, and a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

import inhibitor_transformers
from inhibitor_transformers import InhibiDistilBertConfig

HEADS = ["MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering", "MultipleChoice"]
CLASSES = ["Model", *(f"For{head}" for head in HEADS)]
AUTO_CLASSES = {name: f"AutoModel{name.removeprefix('Model')}" for name in CLASSES}
ARCHITECTURES = ["distilbert", "bert", "roberta"]
VOCAB, WIDTH, POSITIONS = 100, 16, 48
PAD, MASK = 0, 4
_TEACHER_CLASSES = {"distilbert": "DistilBert", "bert": "Bert", "roberta": "Roberta"}


def student_class(name: str) -> Any:
    """`name` is one of CLASSES."""
    return getattr(inhibitor_transformers, f"InhibiDistilBert{name}")


def auto_class(name: str) -> Any:
    return getattr(transformers, AUTO_CLASSES[name])


def tiny_config(**fields: Any) -> InhibiDistilBertConfig:
    sizes = {"n_layers": 2, "n_heads": 2, "dim": WIDTH, "hidden_dim": 2 * WIDTH}
    return InhibiDistilBertConfig(vocab_size=VOCAB, max_position_embeddings=POSITIONS, **(sizes | fields))


def tiny_student(name: str = "Model", **fields: Any) -> Any:
    """A student in evaluation mode, no parameter of which is zero, one or equal to another."""
    return randomized(student_class(name)(tiny_config(**fields)))


def tiny_teacher(architecture: str, head: str = "", *, layers: int = 2, **fields: Any) -> Any:
    """A softmax model in evaluation mode; `head` is one of HEADS, or "" for the bare encoder."""
    model_class = getattr(transformers, _TEACHER_CLASSES[architecture] + (f"For{head}" if head else "Model"))
    return randomized(model_class(teacher_config(architecture, layers=layers, **fields)))


def teacher_config(architecture: str, *, layers: int = 2, **fields: Any) -> PreTrainedConfig:
    config_class = getattr(transformers, f"{_TEACHER_CLASSES[architecture]}Config")
    inner = {"hidden_dim" if architecture == "distilbert" else "intermediate_size": 2 * WIDTH}
    if architecture == "roberta":
        inner |= {"pad_token_id": 1, "layer_norm_eps": 1e-5, "type_vocab_size": 1}
    sizes = {"hidden_size": WIDTH, "num_attention_heads": 2, "num_hidden_layers": layers}
    return config_class(vocab_size=VOCAB, max_position_embeddings=POSITIONS, **(sizes | inner | fields))


@torch.no_grad()
def randomized(model: PreTrainedModel) -> Any:
    """Every parameter moved, so that one that is lost, left at its start or misplaced changes the output."""
    for parameter in model.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def texts(batch: int = 3, length: int = 7, *, padding: bool = True, first_id: int = 5) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, (batch, length); with padding, row i ends i tokens early."""
    ids = torch.randint(first_id, VOCAB, (batch, length))
    ends = torch.arange(batch)[:, None] if padding else torch.zeros(batch, 1, dtype=torch.long)
    mask = (torch.arange(length) < length - ends).long()
    return {"input_ids": ids, "attention_mask": mask}


def inputs_for(name: str) -> dict[str, Tensor]:
    """Padded inputs of the class `name`, with segments."""
    inputs = texts()
    inputs["token_type_ids"] = (torch.arange(7) > 3).long().repeat(3, 1)
    if name == "ForMultipleChoice":
        return {key: torch.stack([value, value.flip(0)], dim=1) for key, value in inputs.items()}
    return inputs


def labels_for(name: str) -> dict[str, Tensor]:
    """Labels that fit `inputs_for(name)`; none for the bare encoder."""
    if name == "Model":
        return {}
    if name == "ForQuestionAnswering":
        return {"start_positions": torch.tensor([0, 1, 2]), "end_positions": torch.tensor([2, 2, 3])}
    if name == "ForMaskedLM":
        return {"labels": torch.randint(5, VOCAB, (3, 7))}
    if name == "ForTokenClassification":
        return {"labels": torch.randint(0, 2, (3, 7))}
    return {"labels": torch.tensor([0, 1, 1])}


def outputs_of(model: PreTrainedModel, **inputs: Any) -> dict[str, Tensor]:
    """Every tensor that the model returns."""
    with torch.no_grad():
        return {name: value for name, value in model(**inputs).items() if isinstance(value, Tensor)}


def same_outputs(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


WORDS = ["the", "old", "cat", "dog", "sees", "hears", "a", "small", "bird", "fish", "and", "sleeps"]


def save_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A BERT tokenizer of a dozen words, saved in `folder`."""
    vocab = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = transformers.BertTokenizer(vocab=vocab)
    tokenizer.save_pretrained(folder)
    return tokenizer
