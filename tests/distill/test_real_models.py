"""The main claims on real input: all-MiniLM-L6-v2, WikiText-2, MRPC and STS-B."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig, BertForMaskedLM, BertTokenizer

from inhibitor_transformers.distill import Distillation, DistillConfig
from inhibitor_transformers.distill.compare import context_errors
from inhibitor_transformers.distill.data import MaskedStepBatches, StepBatches, token_windows
from inhibitor_transformers.measure.similarity import sts_spearman
from inhibitor_transformers.tasks import load_task, load_texts, split_held_out
from tests.distill.tiny import assert_same_weights, saved

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RUNTIME = {"use_cpu": True, "disable_tqdm": True}


def distill(config: dict[str, Any], output: Path, **flags: Any) -> Distillation:
    made = Distillation(DistillConfig(**config), output, runtime=RUNTIME, say=lambda _: None, **flags)
    made.run()
    return made


@pytest.fixture(scope="module")
def aligned(minilm_path, shared_data, tmp_path_factory) -> Distillation:
    """MiniLM calibrated, then 20 steps of context alignment on WikiText-2."""
    alignment = {"max_steps": 20, "tokens_per_step": 1024, "lengths": [32, 64, 128], "save_steps": 20}
    config = {
        "teacher": str(minilm_path),
        "text": [str(shared_data / "wikitext-2"), str(shared_data / "glue" / "sst2")],
        "stages": [{"calibrate": {}}, {"align_contexts": alignment}],
        "max_texts": 3000,
    }
    return distill(config, tmp_path_factory.mktemp("aligned") / "run")


def errors_after(run: Distillation, stage: str, texts: list[str]) -> list[float]:
    """Relative error of every layer's contexts on texts that were held out."""
    student = AutoModel.from_pretrained(run.output / "stages" / stage / "student")
    windows = token_windows(texts, run.tokenizer, [32, 64, 128], max_tokens=4096)
    batches = StepBatches(windows, run.tokenizer, steps=4, tokens_per_step=1024, lengths=[32, 64, 128])
    return context_errors(student, run.teacher, run.plan, [batches[i] for i in range(len(batches))])


def test_alignment_lowers_the_error_of_every_layer_on_held_out_text(aligned, shared_data):
    texts = load_texts(shared_data / "wikitext-2", max_texts=3000, unk_token="[UNK]")
    held_out = split_held_out(texts)[1]
    assert not set(held_out) & set(aligned.texts)
    calibrated, trained = (errors_after(aligned, name, held_out) for name in ("1-calibrate", "2-align_contexts"))
    assert len(calibrated) == 6
    assert all(b < a < 1 for a, b in zip(calibrated, trained, strict=True)), (calibrated, trained)


def test_every_head_is_better_than_an_empty_context_after_calibration(aligned):
    record = json.loads((aligned.output / "stages" / "1-calibrate" / "calibration.json").read_text())
    after = torch.tensor(record["relative_error"])
    assert after.shape == (6, 12)
    assert (after < torch.tensor(record["before"])).all()
    assert (after < 0.95).all()


def test_calibration_alone_gives_useful_sentence_embeddings(aligned, shared_data):
    student = AutoModel.from_pretrained(aligned.output / "stages" / "1-calibrate" / "student")
    pairs = load_task("stsb", shared_data).evaluation["validation"][:]
    assert sts_spearman(student, aligned.tokenizer, pairs, max_length=128) > 0.75


def wikitext_tokenizer(texts: list[str]) -> BertTokenizer:
    """WordPiece of 2,000 tokens, learnt from the texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=2000, special_tokens=special))
    return BertTokenizer(vocab=made.get_vocab())


@pytest.fixture(scope="module")
def masked_lm_teacher(shared_data, tmp_path_factory) -> str:
    """A small BERT (4 layers, width 128) trained for some minutes as a masked LM on WikiText-2."""
    texts = load_texts(shared_data / "wikitext-2", max_texts=6000)
    tokenizer = wikitext_tokenizer(texts)
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **sizes))
    windows = token_windows(texts, tokenizer, [64])
    batches = MaskedStepBatches(windows, tokenizer, steps=600, tokens_per_step=2048, lengths=[64])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=len(batches))
    for i in range(len(batches)):
        optimizer.zero_grad()
        model(**batches[i]).loss.backward()
        optimizer.step()
        schedule.step()
    return saved(model.eval(), tmp_path_factory.mktemp("masked-lm"), tokenizer)


def task_agnostic(teacher: str, data: Path) -> dict[str, Any]:
    trained = {"tokens_per_step": 1024, "lengths": [32, 64], "logging_steps": 25, "save_steps": 50}
    stages = [
        {"calibrate": {"lengths": [16, 32, 64]}},
        {"align_contexts": trained | {"max_steps": 50}},
        {"masked_lm": trained | {"max_steps": 150, "learning_rate": 5e-4}},
    ]
    return {"teacher": teacher, "text": [str(data / "wikitext-2")], "stages": stages, "max_texts": 6000}


@pytest.fixture(scope="module")
def distilled(masked_lm_teacher, shared_data, tmp_path_factory) -> Distillation:
    return distill(task_agnostic(masked_lm_teacher, shared_data), tmp_path_factory.mktemp("agnostic") / "run")


def test_a_killed_task_agnostic_run_resumes_bit_equal(distilled, masked_lm_teacher, shared_data, tmp_path):
    code = f"""
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads({torch.get_num_threads()})
from inhibitor_transformers.distill import DistillConfig, Distillation
from inhibitor_transformers.distill.objectives import MaskedLMObjective
original, calls = MaskedLMObjective.__call__, [0]
def killed(self, *arguments):
    calls[0] += 1
    if calls[0] == 80:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *arguments)
MaskedLMObjective.__call__ = killed
config, folder, runtime = json.loads(sys.argv[1])
Distillation(DistillConfig(**config), Path(folder), runtime=runtime).run()
"""
    config = task_agnostic(masked_lm_teacher, shared_data)
    arguments = json.dumps([config, str(tmp_path / "run"), RUNTIME])
    done = subprocess.run([sys.executable, "-c", code, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    distill(config, tmp_path / "run", resume=True)
    assert_same_weights(tmp_path / "run", distilled.output)
