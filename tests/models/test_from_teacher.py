"""Students from softmax teachers: what is copied, what starts anew, and what is refused."""

from __future__ import annotations

import copy
import logging
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertForPreTraining, ElectraConfig, ElectraModel, PreTrainedModel, RobertaForMaskedLM

from inhibitor_transformers import InhibiDistilBertModel
from inhibitor_transformers.models.inhibidistilbert.from_teacher import teacher_depth
from tests.models.tiny import (
    ARCHITECTURES,
    CLASSES,
    HEADS,
    WIDTH,
    randomized,
    student_class,
    teacher_config,
    texts,
    tiny_student,
    tiny_teacher,
)

LOGGER = "inhibitor_transformers.models.inhibidistilbert.from_teacher"
ENCODER_LAYERS = {"distilbert": "transformer.layer", "bert": "encoder.layer", "roberta": "encoder.layer"}
# Heads that are copied from a teacher with the same head; BERT's and RoBERTa's other heads read a pooler.
COPIED = {
    "distilbert": HEADS,
    "bert": ["MaskedLM", "TokenClassification", "QuestionAnswering"],
    "roberta": ["MaskedLM", "TokenClassification", "QuestionAnswering"],
}
HEAD_MODULES = {
    "MaskedLM": ["vocab_transform", "vocab_layer_norm", "vocab_projector"],
    "SequenceClassification": ["pre_classifier", "classifier"],
    "TokenClassification": ["classifier"],
    "QuestionAnswering": ["qa_outputs"],
    "MultipleChoice": ["pre_classifier", "classifier"],
}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == LOGGER]


def every_layer_norm_eps(model: PreTrainedModel) -> set[float]:
    return {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("head", ["", *HEADS])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_head_from_any_teacher(architecture: str, head: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    teacher = tiny_teacher(architecture, head)
    before = copy.deepcopy(teacher.state_dict())
    with caplog.at_level(logging.WARNING, LOGGER):
        student = student_class(name).from_teacher(teacher)
    assert type(student) is student_class(name)
    assert not student.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    wanted = name.removeprefix("Model").removeprefix("For")
    is_new = wanted and not (wanted == head and head in COPIED[architecture])
    expected = (
        [f"task head of {type(student).__name__} starts anew: {', '.join(HEAD_MODULES[wanted])}"] if is_new else []
    )
    assert warnings_of(caplog) == expected
    outputs = student(**{key: value[:, None] for key, value in texts().items()} if "Choice" in name else texts())
    assert outputs[0].isfinite().all()
    after = teacher.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_student_and_teacher_share_no_memory(architecture: str, head: str) -> None:
    teacher = tiny_teacher(architecture, head)
    before = copy.deepcopy(teacher.state_dict())
    student = student_class(f"For{head}").from_teacher(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.fill_(7.0)
    assert all(torch.equal(teacher.state_dict()[key], value) for key, value in before.items())


def test_a_frozen_teacher_gives_a_student_that_learns() -> None:
    teacher = tiny_teacher("bert").requires_grad_(False)
    assert all(p.requires_grad for p in InhibiDistilBertModel.from_teacher(teacher).parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_head_weights(architecture: str) -> None:
    for head in COPIED[architecture]:
        teacher = tiny_teacher(architecture, head)
        student = student_class(f"For{head}").from_teacher(teacher)
        theirs = {id(p): p for p in teacher.parameters()}.values()
        for module in HEAD_MODULES[head]:
            for key, value in getattr(student, module).named_parameters():
                found = any(p.shape == value.shape and torch.equal(p, value) for p in theirs)
                assert found, f"{architecture} {head} {module}.{key}"


def test_a_classifier_for_another_task_is_not_taken_though_it_would_fit() -> None:
    sequence = tiny_teacher("distilbert", "SequenceClassification")
    student = student_class("ForTokenClassification").from_teacher(sequence)
    assert not torch.equal(student.classifier.weight, sequence.classifier.weight)
    choice = tiny_teacher("distilbert", "MultipleChoice")
    student = student_class("ForSequenceClassification").from_teacher(choice, num_labels=1)
    assert not torch.equal(student.pre_classifier.weight, choice.pre_classifier.weight)


def test_pre_training_models_have_a_masked_lm_head() -> None:
    teacher = randomized(BertForPreTraining(teacher_config("bert")))
    student = student_class("ForMaskedLM").from_teacher(teacher)
    assert torch.equal(student.vocab_transform.weight, teacher.cls.predictions.transform.dense.weight)


def test_subclasses_of_teachers_are_teachers() -> None:
    class Mine(RobertaForMaskedLM):
        pass

    teacher = randomized(Mine(teacher_config("roberta")))
    student = student_class("ForMaskedLM").from_teacher(teacher)
    assert torch.equal(student.vocab_transform.weight, teacher.lm_head.dense.weight)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_untied_embeddings_stay_untied(architecture: str) -> None:
    teacher = tiny_teacher(architecture, "MaskedLM", tie_word_embeddings=False)
    student = student_class("ForMaskedLM").from_teacher(teacher)
    assert torch.equal(student.get_input_embeddings().weight, teacher.get_input_embeddings().weight)
    assert torch.equal(student.vocab_projector.weight, teacher.get_output_embeddings().weight)
    assert not torch.equal(student.vocab_projector.weight, student.get_input_embeddings().weight)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tied_embeddings_stay_tied(architecture: str) -> None:
    student = student_class("ForMaskedLM").from_teacher(tiny_teacher(architecture, "MaskedLM"))
    assert student.vocab_projector.weight is student.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("rule", "layers"),
    [("all", [0, 1, 2]), ("every 2nd", [0, 2]), ("last 1", [2]), ("first 2", [0, 1]), ([2, 0, 0], [2, 0, 0])],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layers(architecture: str, rule: Any, layers: list[int]) -> None:
    teacher = tiny_teacher(architecture, layers=3)
    student = InhibiDistilBertModel.from_teacher(teacher, rule)
    theirs = teacher.get_submodule(ENCODER_LAYERS[architecture])
    assert student.config.n_layers == len(student.transformer.layer) == len(layers)
    for block, layer in zip(student.transformer.layer, layers, strict=True):
        weights = [p for name, p in block.named_parameters() if ".inhibitor." not in name]
        expected = sorted(p.sum().item() for p in theirs[layer].parameters())
        assert sorted(p.sum().item() for p in weights) == expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("last 4", "layer rule 'last 4' asks for 4 layers; the teacher has 3"),
        ("0,3", "the teacher has layers 0 to 2; layer rule '0,3' asks for [3]"),
        ("half", "cannot read layer rule 'half'; write"),
        (2, "cannot read layer rule 2; write"),
    ],
)
def test_impossible_layers(rule: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        InhibiDistilBertModel.from_teacher(tiny_teacher("bert", layers=3), rule)


def test_sizes_and_settings_come_from_the_teacher() -> None:
    dropout = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.15}
    training = dropout | {"num_labels": 3, "problem_type": "single_label_classification"}
    rest = {"layer_norm_eps": 1e-7, "hidden_act": "relu", "bos_token_id": 7, "eos_token_id": 8}
    teacher = tiny_teacher("bert", "SequenceClassification", **training, **rest)
    config = student_class("ForSequenceClassification").from_teacher(teacher, "0").config
    expected = {
        "n_layers": 1, "n_heads": 2, "dim": WIDTH, "hidden_dim": 2 * WIDTH, "vocab_size": 100, "dropout": 0.2,
        "attention_dropout": 0.15, "activation": "relu", "layer_norm_eps": 1e-7, "max_position_embeddings": 48,
        "pad_token_id": 0, "bos_token_id": 7, "eos_token_id": 8, "type_vocab_size": 2, "num_labels": 3,
        "problem_type": "single_label_classification",
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected
    rates = {"seq_classif_dropout": 0.35, "qa_dropout": 0.15, "dropout": 0.25, "attention_dropout": 0.05}
    config = InhibiDistilBertModel.from_teacher(tiny_teacher("distilbert", **rates)).config
    assert {name: getattr(config, name) for name in rates} == rates


@pytest.mark.parametrize(("pad_token_id", "positions"), [(1, 46), (0, 47), (3, 44)])
def test_positions_of_roberta_begin_after_its_padding(pad_token_id: int, positions: int) -> None:
    teacher = tiny_teacher("roberta", pad_token_id=pad_token_id)
    student = InhibiDistilBertModel.from_teacher(teacher)
    assert student.config.max_position_embeddings == positions
    assert student.config.pad_token_id == pad_token_id
    inputs = texts()
    check_embeddings(student, teacher, inputs, inputs["attention_mask"].bool())


@pytest.mark.parametrize("segments", ["auto", "keep", "fold"])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_embeddings_of_single_texts(architecture: str, segments: str) -> None:
    teacher = tiny_teacher(architecture)
    student = InhibiDistilBertModel.from_teacher(teacher, segments=segments)
    inputs = texts(padding=False)
    check_embeddings(student, teacher, inputs)
    zeros = torch.zeros_like(inputs["input_ids"])
    check_embeddings(student, teacher, inputs | {"token_type_ids": zeros})


@pytest.mark.parametrize("segments", ["auto", "fold"])
def test_embeddings_of_distilbert(segments: str) -> None:
    teacher = tiny_teacher("distilbert")
    student = InhibiDistilBertModel.from_teacher(teacher, segments=segments)
    assert student.config.type_vocab_size == 0
    check_embeddings(student, teacher, texts())


def check_embeddings(student: Any, teacher: Any, inputs: dict[str, Tensor], valid: Tensor | None = None) -> None:
    """The first hidden states are the same, up to the order of a sum of three."""
    with torch.no_grad():
        ours, theirs = (model(**inputs, output_hidden_states=True).hidden_states[0] for model in (student, teacher))
    everywhere = torch.ones_like(inputs["input_ids"]).bool()
    torch.testing.assert_close(*(h[everywhere if valid is None else valid] for h in (ours, theirs)))
    assert every_layer_norm_eps(student) == every_layer_norm_eps(teacher)


@pytest.mark.parametrize("segments", ["auto", "keep"])
def test_segments_kept_are_right_on_pairs_too(segments: str) -> None:
    teacher = tiny_teacher("bert")
    student = InhibiDistilBertModel.from_teacher(teacher, segments=segments)
    assert student.config.type_vocab_size == 2
    check_embeddings(student, teacher, texts(padding=False) | {"token_type_ids": torch.randint(0, 2, (3, 7))})


def test_segments_folded_are_lost_on_pairs_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    teacher = tiny_teacher("bert")
    with caplog.at_level(logging.WARNING, LOGGER):
        student = InhibiDistilBertModel.from_teacher(teacher, segments="fold")
    assert warnings_of(caplog) == [
        "segment embeddings folded: the student cannot tell the two texts of a pair apart by segment"
    ]
    assert student.config.type_vocab_size == 0
    inputs = texts(padding=False) | {"token_type_ids": torch.ones(3, 7, dtype=torch.long)}
    with pytest.raises(AssertionError, match="not close"):
        check_embeddings(student, teacher, inputs)


def test_nothing_is_said_where_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for architecture, segments in (
            ("bert", "auto"),
            ("roberta", "fold"),
            ("roberta", "keep"),
            ("distilbert", "fold"),
        ):
            InhibiDistilBertModel.from_teacher(tiny_teacher(architecture), segments=segments)
    assert caplog.messages == []


def test_keeping_segments_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="a distilbert teacher has no segment embeddings to keep"):
        InhibiDistilBertModel.from_teacher(tiny_teacher("distilbert"), segments="keep")
    with pytest.raises(ValueError, match='segments must be "auto", "keep" or "fold", got \'both\''):
        InhibiDistilBertModel.from_teacher(tiny_teacher("bert"), segments="both")


def test_scalars_start_at_the_given_values_and_in_float32() -> None:
    teacher = tiny_teacher("bert").bfloat16()
    student = InhibiDistilBertModel.from_teacher(teacher, inhibitor_gamma=0.3, inhibitor_length_exponent=0.7)
    for block in student.transformer.layer:
        for name, value in {"gamma": 0.3, "eta": 1.0, "delta": 0.5, "length_exponent": 0.7}.items():
            scalar = getattr(block.attention.inhibitor, name)
            assert torch.equal(scalar, torch.full((2,), value))  # float32, not rounded through bfloat16
    others = [p.dtype for name, p in student.named_parameters() if ".inhibitor." not in name]
    assert set(others) == {torch.bfloat16}
    assert student(**texts()).last_hidden_state.dtype == torch.bfloat16


def test_overrides() -> None:
    teacher = tiny_teacher("bert", "SequenceClassification", num_labels=3, problem_type="single_label_classification")
    make = student_class("ForSequenceClassification").from_teacher
    config = make(teacher, inhibitor_signed=False, inhibitor_center="none", attention_dropout=0.1, dropout=0.3).config
    assert (config.inhibitor_signed, config.inhibitor_center) == (False, "none")
    assert (config.attention_dropout, config.dropout) == (0.1, 0.3)
    labeled = make(teacher, num_labels=5).config
    assert (labeled.num_labels, len(labeled.label2id), labeled.problem_type) == (5, 5, None)
    names = {0: "low", 1: "high"}
    labeled = make(teacher, id2label=names, label2id={"low": 0, "high": 1}).config
    assert (labeled.id2label, labeled.num_labels) == (names, 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"inhibitor_sined": False}, "InhibiDistilBertConfig has no field inhibitor_sined"),
        ({"lr": 1, "droput": 2}, "InhibiDistilBertConfig has no field droput, lr"),
        ({"n_heads": 4}, "n_heads cannot be overridden: sizes come from the teacher, layers and segments"),
        ({"hidden_size": 4}, "hidden_size cannot be overridden"),
        ({"n_layers": 1, "dim": 8}, "dim, n_layers cannot be overridden"),
        ({"type_vocab_size": 0}, "type_vocab_size cannot be overridden"),
        ({"attn_implementation": "sdpa"}, "this model computes inhibitor attention; attn_implementation='sdpa'"),
        ({"inhibitor_length_reference": 0}, "inhibitor_length_reference must be positive, got 0"),
        ({"inhibitor_signed": "no"}, "field 'inhibitor_signed': TypeError: Field 'inhibitor_signed' expected bool"),
        ({"inhibitor_center": "max"}, "field 'inhibitor_center'"),
    ],
)
def test_overrides_that_make_no_sense(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        InhibiDistilBertModel.from_teacher(tiny_teacher("bert"), **overrides)
    assert "\n" not in str(error.value)


SUPPORTED = "supported: ['bert', 'distilbert', 'roberta']"


def electra() -> PreTrainedModel:
    sizes = {"hidden_size": 16, "embedding_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    return ElectraModel(ElectraConfig(vocab_size=20, intermediate_size=16, **sizes))


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (electra, f"no student can be built from a 'electra' teacher; {SUPPORTED}"),
        (tiny_student, f"no student can be built from a 'inhibidistilbert' teacher; {SUPPORTED}"),
        (lambda: tiny_teacher("bert", is_decoder=True), "no student can be built from a 'bert' decoder"),
        (lambda: nn.Linear(2, 2), "the teacher must be a transformers model, got Linear"),
        (lambda: "bert-base-uncased", "the teacher must be a transformers model, got str"),
        (lambda: None, "the teacher must be a transformers model, got NoneType"),
    ],
)
def test_teachers_that_are_none(teacher: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        InhibiDistilBertModel.from_teacher(teacher())


def test_teacher_depth_reads_the_config_alone() -> None:
    assert [teacher_depth(teacher_config(architecture, layers=5)) for architecture in ARCHITECTURES] == [5, 5, 5]
    with pytest.raises(ValueError, match=re.escape(SUPPORTED)):
        teacher_depth(ElectraConfig())


def test_a_student_saves_and_loads(tmp_path: Any) -> None:
    student, inputs = student_class("ForMaskedLM").from_teacher(tiny_teacher("roberta", "MaskedLM")), texts()
    student.save_pretrained(tmp_path)
    again = student_class("ForMaskedLM").from_pretrained(tmp_path)
    assert torch.equal(again(**inputs).logits, student(**inputs).logits)
    assert again.config.layer_norm_eps == 1e-5
