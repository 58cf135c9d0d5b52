"""pipeline(...), SentenceTransformer(path) and Trainer take these models as they take any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, pipeline, set_seed
from transformers.trainer_utils import get_last_checkpoint

from inhibitor_transformers import InhibiDistilBertForSequenceClassification as Classifier
from tests.models.tiny import MASK, WORDS, save_tokenizer, student_class, tiny_student

TEXTS = ["the old cat sees a bird", "a small dog", "the fish sleeps and the dog hears the cat", "birds"]


def saved(folder: Path, name: str, **fields: Any) -> tuple[Any, Any]:
    """A tiny student and its tokenizer, as they lie in `folder`."""
    model = tiny_student(name, type_vocab_size=2, **fields)
    model.save_pretrained(folder)
    return model, save_tokenizer(folder)


def test_text_classification(tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path, "ForSequenceClassification", id2label={0: "bad", 1: "good"})
    found = pipeline("text-classification", model=str(tmp_path))(TEXTS, batch_size=4, top_k=None)
    for text, scores in zip(TEXTS, found, strict=True):
        expected = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        by_label = {score["label"]: score["score"] for score in scores}
        assert by_label == pytest.approx({"bad": expected[0].item(), "good": expected[1].item()}, abs=1e-5)


def test_fill_mask(tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path, "ForMaskedLM")
    text = "the [MASK] cat sees"
    found = pipeline("fill-mask", model=str(tmp_path))(text, top_k=3, targets=WORDS)
    inputs = tokenizer(text, return_tensors="pt")
    logits = model(**inputs).logits[inputs["input_ids"] == MASK][0]
    best = logits.softmax(-1)[tokenizer.convert_tokens_to_ids(WORDS)].sort(descending=True)
    assert [candidate["token_str"] for candidate in found] == [WORDS[i] for i in best.indices[:3]]
    assert [candidate["score"] for candidate in found] == pytest.approx(best.values[:3].tolist(), abs=1e-5)


def test_feature_extraction(tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path, "Model")
    found = pipeline("feature-extraction", model=str(tmp_path))(TEXTS[0], return_tensors=True)
    torch.testing.assert_close(found, model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state)


def test_token_classification(tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path, "ForTokenClassification")
    found = pipeline("token-classification", model=str(tmp_path), ignore_labels=[])(TEXTS[0])
    labels = model(**tokenizer(TEXTS[0], return_tensors="pt")).logits[0, 1:-1].argmax(-1)
    assert [entity["entity"] for entity in found] == [f"LABEL_{label}" for label in labels]


def test_sentence_transformer(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model, tokenizer = saved(tmp_path, "Model")
    found = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS, convert_to_tensor=True)
    for text, embedding in zip(TEXTS, found, strict=True):
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(embedding, hidden[0].mean(0), atol=1e-5, rtol=1e-5)


def pairs(tokenizer: Any, labels: int = 2) -> Dataset:
    """Sixteen pairs of texts with segments, and a column that no model knows."""
    columns = tokenizer([t for t in TEXTS for _ in TEXTS], TEXTS * len(TEXTS))
    rows = len(columns["input_ids"])
    return Dataset.from_dict({**columns, "label": [i % labels for i in range(rows)], "note": ["unused"] * rows})


def trainer_of(folder: Path, model: Any, tokenizer: Any, **settings: Any) -> Trainer:
    arguments = TrainingArguments(
        folder,
        **({"max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-2} | settings),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        seed=3,
    )
    data = pairs(tokenizer)
    return Trainer(
        model, arguments, train_dataset=data, eval_dataset=data, data_collator=DataCollatorWithPadding(tokenizer)
    )


def weights(model: Any) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_trainer_saves_resumes_and_loses_nothing(tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path / "start", "ForSequenceClassification")
    start = weights(model)

    def run(folder: str, **options: Any) -> dict[str, Tensor]:
        set_seed(3)  # which Trainer also does, but only before it builds its model
        trainer = trainer_of(tmp_path / folder, Classifier.from_pretrained(tmp_path / "start"), tokenizer)
        trainer.train(**options)
        return weights(trainer.model)

    whole = run("whole")
    assert not [name for name, value in whole.items() if torch.equal(value, start[name])]
    checkpoint = tmp_path / "whole" / "checkpoint-1"
    assert set(weights(Classifier.from_pretrained(checkpoint))) == set(whole)
    resumed = run("resumed", resume_from_checkpoint=str(checkpoint))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    last = get_last_checkpoint(str(tmp_path / "whole"))
    assert last is not None
    assert all(torch.equal(value, whole[name]) for name, value in weights(Classifier.from_pretrained(last)).items())


def test_trainer_takes_up_the_best_model(tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path / "start", "ForSequenceClassification")
    each_step = {"eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "score", "greater_is_better": True}
    trainer = trainer_of(tmp_path / "run", model, tokenizer, **each_step, load_best_model_at_end=True)
    scores = iter([1.0, 0.0])
    trainer.compute_metrics = lambda _: {"score": next(scores)}
    trainer.train()
    best = tmp_path / "run" / "checkpoint-1"
    assert trainer.state.best_model_checkpoint == str(best)
    last = weights(Classifier.from_pretrained(tmp_path / "run" / "checkpoint-2"))
    assert not [name for name, value in weights(model).items() if torch.equal(value, last[name])]
    assert all(
        torch.equal(value, weights(model)[name]) for name, value in weights(Classifier.from_pretrained(best)).items()
    )


def test_trainer_evaluates_and_predicts(tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path / "start", "ForSequenceClassification")
    trainer = trainer_of(tmp_path / "run", model, tokenizer)
    assert trainer.label_names == ["labels"]
    assert trainer.evaluate()["eval_loss"] > 0
    data = pairs(tokenizer)
    predicted = torch.from_numpy(trainer.predict(data).predictions)
    for row, logits in zip(data, predicted, strict=True):
        inputs = {key: torch.tensor([row[key]]) for key in ("input_ids", "attention_mask", "token_type_ids")}
        torch.testing.assert_close(model(**inputs).logits[0], logits, atol=1e-5, rtol=1e-5)


def test_trainer_keeps_the_segments_and_drops_what_is_unknown(tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path / "start", "ForSequenceClassification")
    trainer = trainer_of(tmp_path / "run", model, tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert batch["token_type_ids"].any()


def test_question_answering_labels_are_found(tmp_path: Path) -> None:
    model, tokenizer = saved(tmp_path / "start", "ForQuestionAnswering")
    assert trainer_of(tmp_path / "run", model, tokenizer).label_names == ["start_positions", "end_positions"]


def test_gradient_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    still = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    _, tokenizer = saved(tmp_path / "start", "ForSequenceClassification", **still)

    def after_one_step(batch: int) -> dict[str, Tensor]:
        model = student_class("ForSequenceClassification").from_pretrained(tmp_path / "start")
        settings = {"optim": "sgd", "max_grad_norm": 0.0, "max_steps": 1, "save_strategy": "no", "learning_rate": 0.1}
        accumulate = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 16 // batch}
        trainer_of(tmp_path / f"batch-{batch}", model, tokenizer, **settings, **accumulate).train()
        return weights(model)

    expected = after_one_step(16)
    for name, value in after_one_step(4).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
