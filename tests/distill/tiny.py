"""Tiny random teachers, a tiny tokenizer and texts in its words: everything that the tests of distillation share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)

from inhibitor_transformers.distill.stages.align_hidden import HiddenVariances
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.models import (
    InhibiDistilBertConfig,
    InhibiDistilBertModel,
    InhibiDistilBertPreTrainedModel,
    LayerMap,
    map_layers,
)

WIDTH, HEADS, LAYERS, FEED_FORWARD, POSITIONS = 32, 4, 2, 48, 160

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NOUNS = ("cat", "dog", "bird", "fish", "horse", "house", "tree", "river", "stone", "boat", "child", "queen")
VERBS = ("sees", "likes", "finds", "takes", "wants", "draws", "hears", "moves")
GOOD = ("good", "fine", "lovely", "bright")
BAD = ("bad", "poor", "ugly", "dull")
LITTLE = ("the", "a", "and", "on", "in", "of", "with", "not", "very", "it", ".", ",")
LETTERS = (*"bcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "aeiou"))
VOCABULARY = (*SPECIAL, *NOUNS, *VERBS, *GOOD, *BAD, *LITTLE, *LETTERS)

_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_SIZES = {
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "hidden_size": WIDTH,
    "intermediate_size": FEED_FORWARD,
    # far from the usual 0.02, at which attention is flat and every attention output is nearly the same
    "initializer_range": 0.25,
}


def bert_tokenizer(vocabulary: Sequence[str] = VOCABULARY, **settings: Any) -> BertTokenizer:
    """WordPiece over `VOCABULARY`: [CLS] text [SEP], with segment ids."""
    return BertTokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, **settings)


def distilbert_tokenizer() -> DistilBertTokenizer:
    """The same tokens as `bert_tokenizer`, without segment ids."""
    return DistilBertTokenizer(vocab={token: i for i, token in enumerate(VOCABULARY)})


def roberta_tokenizer() -> RobertaTokenizer:
    """Bytes of ASCII without merges: <s> text </s>, a space is "Ġ"."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *(chr(i) for i in range(33, 127))]
    return RobertaTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])


def bert(model_class: type[PreTrainedModel] = BertModel, *, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """A random BERT of 2 layers and width 32, with large enough weights for its attention to differ between pairs."""
    torch.manual_seed(seed)
    fields = _SIZES | _NO_DROPOUT | {"vocab_size": len(VOCABULARY), "max_position_embeddings": POSITIONS} | settings
    return model_class(BertConfig(**fields)).eval()


def roberta(model_class: type[PreTrainedModel] = RobertaModel, *, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    tokenizer = roberta_tokenizer()
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
    fields = _SIZES | _NO_DROPOUT | special | {"max_position_embeddings": POSITIONS + 2}
    return model_class(RobertaConfig(vocab_size=len(tokenizer), **fields)).eval()


def distilbert(
    model_class: type[PreTrainedModel] = DistilBertModel, *, seed: int = 0, **settings: Any
) -> PreTrainedModel:
    torch.manual_seed(seed)
    sizes = {"n_heads": HEADS, "n_layers": LAYERS, "dim": WIDTH, "hidden_dim": FEED_FORWARD, "initializer_range": 0.25}
    fields = sizes | {"vocab_size": len(VOCABULARY), "max_position_embeddings": POSITIONS} | settings
    return model_class(DistilBertConfig(dropout=0.0, attention_dropout=0.0, **fields)).eval()


def saved(model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
    """Model and tokenizer in `folder`, as they come from the Hub; returns its path."""
    model.save_pretrained(folder)
    (tokenizer or bert_tokenizer()).save_pretrained(folder)
    return str(folder)


def sentences(count: int, *, seed: int = 0, clauses: tuple[int, int] = (2, 40)) -> list[str]:
    """Sentences of 5 words a clause and of very different lengths, with an order of words that can be learned."""
    random = np.random.default_rng(seed)

    def clause() -> str:
        subject, thing = random.choice(NOUNS, size=2)
        return f"the {subject} {random.choice(VERBS)} a {thing}"

    return [" and ".join(clause() for _ in range(int(random.integers(*clauses)))) + " ." for _ in range(count)]


def reviews(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of `text` and `label`: 1 where good words are among the others, 0 where bad ones are."""
    random = np.random.default_rng(seed)
    rows = []
    for label in random.integers(0, 2, size=count):
        words = [*random.choice(NOUNS, size=int(random.integers(1, 5))), *random.choice(GOOD if label else BAD, size=4)]
        rows.append({"text": " ".join(random.permutation(words)), "label": int(label)})
    return rows


def text_file(folder: Path, texts: Sequence[str]) -> str:
    """A plain text file, one text per line; returns its path."""
    file = folder / "texts.txt"
    file.write_text("\n".join(texts), encoding="utf-8")
    return str(file)


def padded_batch(lengths: Sequence[int], *, seed: int = 0, vocabulary: int = len(VOCABULARY)) -> dict[str, Tensor]:
    """Random ordinary tokens, one row per length, padded on the right: input_ids, attention_mask, labels."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.randint(len(SPECIAL), vocabulary, (len(lengths), longest), generator=generator)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    ids = ids.masked_fill(mask == 0, 0)
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def pair(
    model_class: type[InhibiDistilBertPreTrainedModel] = InhibiDistilBertModel,
    layers: Any = "all",
    **teacher_settings: Any,
) -> tuple[InhibiDistilBertPreTrainedModel, Teacher, LayerMap]:
    """A student made from a tiny BERT, that teacher, and the layer map between them."""
    model = bert(**teacher_settings)
    student = model_class.from_teacher(model, layers)
    return student, Teacher(model), map_layers(layers, model.config.num_hidden_layers)


def narrow_student() -> InhibiDistilBertModel:
    """Half as wide as its teacher."""
    torch.manual_seed(1)
    sizes = {"dim": 16, "hidden_dim": 24, "n_heads": HEADS, "n_layers": LAYERS, "max_position_embeddings": 160}
    return InhibiDistilBertModel(InhibiDistilBertConfig(vocab_size=len(VOCABULARY), dropout=0.0, **sizes)).eval()


def weights_of(folder: Path | str) -> dict[str, Tensor]:
    """The tensors of a saved model by name, in the shapes that they have in memory."""
    from safetensors.torch import load_file

    weights = load_file(Path(folder) / "model.safetensors")
    return {name: tensor.flatten(0, 1) if tensor.dim() == 3 else tensor for name, tensor in weights.items()}


def assert_same_weights(a: Path | str, b: Path | str) -> None:
    """Bit-equal weights of two saved models."""
    ours, theirs = weights_of(a), weights_of(b)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def equal_variances(layer_map: LayerMap) -> HiddenVariances:
    """Every layer and dimension as large as any other."""
    return HiddenVariances([torch.ones(WIDTH) for _ in layer_map.teacher_layers], [1.0] * len(layer_map), 1.0)
