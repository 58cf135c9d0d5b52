"""The main claims on real input: all-MiniLM-L6-v2, WikiText-2, SST-2 and STS-B."""

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
from inhibitor_transformers.distill.data import StepBatches, token_windows
from inhibitor_transformers.distill.stages.align_attention import attention_output_errors
from inhibitor_transformers.distill.stages.masked_lm import MaskedLMLoss, MaskedStepBatches
from inhibitor_transformers.distill.task import FinetuneArguments, FineTuning
from inhibitor_transformers.evaluation.similarity import sts_spearman
from inhibitor_transformers.models.pretrained import load_tokenizer
from inhibitor_transformers.tasks import load_task, load_texts, split_held_out
from tests.distill.tiny import assert_same_weights, saved

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RUNTIME = {"use_cpu": True, "disable_tqdm": True}


def distill(config: dict[str, Any], output: Path, **flags: Any) -> Distillation:
    made = Distillation(DistillConfig(**config), output, runtime=RUNTIME, log=lambda _: None, **flags)
    made.run()
    return made


@pytest.fixture(scope="module")
def aligned(minilm_path, shared_data, tmp_path_factory) -> Distillation:
    """MiniLM calibrated, then 20 steps of context alignment on WikiText-2."""
    alignment = {"max_steps": 20, "tokens_per_step": 1024, "lengths": [32, 64, 128], "save_steps": 20}
    config = {
        "teacher": str(minilm_path),
        "text": [str(shared_data / "wikitext-2"), str(shared_data / "glue" / "sst2")],
        "stages": [{"calibrate": {}}, {"align_attention": alignment}],
        "max_texts": 3000,
    }
    return distill(config, tmp_path_factory.mktemp("aligned") / "run")


def errors_after(run: Distillation, stage: str, texts: list[str]) -> list[float]:
    """Relative error of every layer's contexts on texts that were held out."""
    student = AutoModel.from_pretrained(run.output / "stages" / stage / "student")
    windows = token_windows(texts, run.data.tokenizer, [32, 64, 128], max_tokens=4096)
    batches = StepBatches(windows, run.data.tokenizer, steps=4, tokens_per_step=1024, lengths=[32, 64, 128])
    return attention_output_errors(run.pairing.with_student(student), [batches[i] for i in range(len(batches))])


def test_alignment_lowers_the_error_of_every_layer_on_held_out_text(aligned, shared_data):
    texts = load_texts(shared_data / "wikitext-2", max_texts=3000, unk_token="[UNK]")
    held_out = split_held_out(texts)[1]
    assert not set(held_out) & set(aligned.data.texts)
    calibrated, trained = (errors_after(aligned, name, held_out) for name in ("1-calibrate", "2-align_attention"))
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
    assert sts_spearman(student, aligned.data.tokenizer, pairs, max_length=128) > 0.75


def wikitext_tokenizer(texts: list[str]) -> BertTokenizer:
    """WordPiece of 1,000 tokens, learned from the texts: so few that a small model learns more than frequencies."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=1000, limit_alphabet=60, special_tokens=special)
    )
    # tokenizers 0.23 numbers the same tokens otherwise in every process, and each order makes another teacher
    words = sorted(made.get_vocab().keys() - special)
    return BertTokenizer(vocab={token: i for i, token in enumerate([*special, *words])})


@pytest.fixture(scope="module")
def masked_lm_teacher(shared_data, tmp_path_factory) -> str:
    """A small BERT (4 layers, width 128) trained for some minutes as a masked LM on WikiText-2."""
    texts = split_held_out(load_texts(shared_data / "wikitext-2", max_texts=6000))[0]
    tokenizer = wikitext_tokenizer(texts)
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    settings = {"vocab_size": len(tokenizer), "max_position_embeddings": 128, "initializer_range": 0.05}
    model = BertForMaskedLM(BertConfig(**sizes, **no_dropout, **settings))
    windows = token_windows(texts, tokenizer, [64])
    batches = MaskedStepBatches(windows, tokenizer, steps=600, tokens_per_step=2048, lengths=[64])
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=len(batches))
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
        {"align_attention": trained | {"max_steps": 50}},
        {"masked_lm": trained | {"max_steps": 150, "learning_rate": 5e-4}},
    ]
    return {
        "teacher": teacher,
        "layers": "every 2nd",  # as DistilBERT: half of the layers, so that there is something to learn
        "text": [str(data / "wikitext-2")],
        "stages": stages,
        "max_texts": 6000,
    }


@pytest.fixture(scope="module")
def distilled(masked_lm_teacher, shared_data, tmp_path_factory) -> Distillation:
    return distill(task_agnostic(masked_lm_teacher, shared_data), tmp_path_factory.mktemp("agnostic") / "run")


def test_the_triple_loss_falls_on_wikitext(distilled):
    log = json.loads((distilled.output / "stages" / "3-masked_lm" / "log.json").read_text())
    steps = [entry for entry in log if "loss" in entry]
    assert len(steps) == 6
    assert steps[-1]["loss"] < steps[0]["loss"]
    # the masked LM's own term depends on each step's words more than on the training: it is compared below, on the same
    for name in ("loss/soft_targets", "loss/cosine"):
        assert steps[-1][name] < 0.6 * steps[0][name], name


def test_the_triple_loss_falls_on_held_out_text(distilled, shared_data):
    held_out = split_held_out(load_texts(shared_data / "wikitext-2", max_texts=6000))[1]
    windows = token_windows(held_out, distilled.data.tokenizer, [64], max_tokens=8192)
    batches = MaskedStepBatches(windows, distilled.data.tokenizer, steps=4, tokens_per_step=2048, lengths=[64])
    criterion = MaskedLMLoss(distilled.teacher, temperature=2.0, alpha_ce=5.0, alpha_mlm=1.0, alpha_cos=2.0)

    def terms(stage: str) -> dict[str, float]:
        student = distilled.models.student.from_pretrained(distilled.output / "stages" / stage / "student").eval()
        with torch.no_grad():
            parts = [criterion(student, batches[i], (batches[i]["labels"] != -100).sum()) for i in range(4)]
        return {name: sum(part[name].item() for part in parts) / 4 for name in parts[0]}

    before, after = terms("2-align_attention"), terms("3-masked_lm")
    assert all(after[name] < before[name] for name in before), (before, after)


def test_a_killed_task_agnostic_run_resumes_bit_equal(distilled, masked_lm_teacher, shared_data, tmp_path):
    code = f"""
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads({torch.get_num_threads()})
from inhibitor_transformers.distill import DistillConfig, Distillation
from inhibitor_transformers.distill.stages.masked_lm import MaskedLMLoss
original, calls = MaskedLMLoss.__call__, [0]
def killed(self, *arguments):
    calls[0] += 1
    if calls[0] == 80:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *arguments)
MaskedLMLoss.__call__ = killed
config, folder, runtime = json.loads(sys.argv[1])
Distillation(DistillConfig(**config), Path(folder), runtime=runtime).run()
"""
    config = task_agnostic(masked_lm_teacher, shared_data)
    arguments = json.dumps([config, str(tmp_path / "run"), RUNTIME])
    done = subprocess.run([sys.executable, "-c", code, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    distill(config, tmp_path / "run", resume=True)
    assert_same_weights(tmp_path / "run", distilled.output)


def test_fine_tuning_with_a_teacher_through_the_whole_pipeline(aligned, minilm_path, shared_data, tmp_path):
    """Some hundred sentences of SST-2: teacher fine-tuned, student fine-tuned, student with that teacher."""
    data = load_task("sst2", shared_data, max_train_examples=1200, max_eval_examples=240)
    student = str(aligned.output)

    def run(source: str, name: str, **flags: Any) -> dict[str, float]:
        settings = {"num_train_epochs": 2, "per_device_train_batch_size": 24, "max_length": 64, "learning_rate": 1e-4}
        arguments = FinetuneArguments(**settings, **RUNTIME)
        result = FineTuning(source, data, arguments, tmp_path / name, log=lambda _: None, **flags).run()
        return result.scores["validation"]

    taught = run(str(minilm_path), "teacher")
    plain = run(student, "plain")
    distilled = run(student, "distilled", teacher_source=str(tmp_path / "teacher"))
    assert min(scores["accuracy"] for scores in (taught, plain, distilled)) > 0.65, (taught, plain, distilled)
    record = json.loads((tmp_path / "distilled" / "results.json").read_text())
    assert record["teacher_scores"]["validation"] == pytest.approx(taught, abs=1e-6)
    assert load_tokenizer(str(tmp_path / "distilled")).model_input_names[1] == "token_type_ids"
