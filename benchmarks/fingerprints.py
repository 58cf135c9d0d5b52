"""Fingerprints of what every part of the library computes, to see whether a change moved a bit.

Runs the command line on a tiny random BERT: calibration, 20 steps of each stage, fine-tuning with a teacher,
quantization, ONNX export. Prints JSON, {job: hash of the weights or outputs}. Run it at two commits on one machine:

    .venv/bin/python benchmarks/fingerprints.py > before.json
"""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import yaml
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, BertConfig, BertForMaskedLM, BertTokenizer

import inhibitor_transformers  # noqa: F401  registers the models

SUBJECTS = ("cat", "dog", "bird", "fish", "horse", "house", "tree", "river", "stone", "boat", "child", "queen")
VERBS = ("sees", "likes", "finds", "takes", "wants", "draws", "hears", "moves")
GOOD, BAD = ("good", "fine", "lovely", "bright"), ("bad", "poor", "ugly", "dull")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *SUBJECTS, *VERBS, *GOOD, *BAD, "the", "a", "and", ".")
TRAINING = {"max_steps": 20, "tokens_per_step": 512, "lengths": [16, 32, 64], "save_steps": 20}
# One run of all stages; values in groups so that every option that changes the numbers is on somewhere.
STAGES = [
    {"calibrate": {"lengths": [16, 32], "tokens_per_length": 256}},
    {"align_attention": TRAINING | {"pair_fraction": 0.5}},
    {"align_hidden": TRAINING | {"pooled_weight": 4.0, "frozen_scalars": ["delta"]}},
    {"masked_lm": TRAINING},
]
FINE_TUNING = {
    "num_train_epochs": 2,
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 16,
    "max_length": 32,
    "selection_fraction": 0.2,
}
DISTILLING = {"alignment_epochs": 1, "alpha_hidden": 0.1}


def make_teacher(folder: Path) -> None:
    """A random BERT whose weights are large enough for its attention to differ between pairs."""
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48}
    model = BertForMaskedLM(
        BertConfig(vocab_size=len(WORDS), max_position_embeddings=160, initializer_range=0.25, **sizes)
    )
    model.save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)


def make_texts(file: Path) -> None:
    random = np.random.default_rng(0)

    def clause() -> str:
        subject, thing = random.choice(SUBJECTS, size=2)
        return f"the {subject} {random.choice(VERBS)} a {thing}"

    texts = [" and ".join(clause() for _ in range(int(random.integers(2, 30)))) + " ." for _ in range(400)]
    file.write_text("\n\n".join(texts), encoding="utf-8")


def make_task(folder: Path) -> None:
    random = np.random.default_rng(1)
    folder.mkdir()
    for split, count in (("train", 320), ("validation", 64)):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("text", "label"))
            for label in random.integers(0, 2, size=count):
                words = [*random.choice(SUBJECTS, size=4), *random.choice(GOOD if label else BAD, size=4)]
                rows.writerow((" ".join(random.permutation(words)), label))


def inhibit(*arguments: Any) -> None:
    command = [str(Path(sys.executable).with_name("inhibit")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def settings(values: dict[str, Any]) -> list[str]:
    return [part for name, value in values.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def of_arrays(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def of_model(folder: Path) -> str:
    return of_arrays(load_file(folder / "model.safetensors"))


def inputs_for(names: Iterable[str]) -> dict[str, np.ndarray]:
    ids = np.arange(2 * 24, dtype=np.int64).reshape(2, 24) % len(WORDS)
    return {name: ids if name == "input_ids" else np.ones_like(ids) for name in names}


@torch.no_grad()
def of_outputs(folder: Path) -> str:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    inputs = {name: torch.from_numpy(array) for name, array in inputs_for(["input_ids", "attention_mask"]).items()}
    return of_arrays({"logits": model(**inputs).logits.numpy()})


def of_exported(folder: Path) -> str:
    """Outputs of the exported model: names and order of its nodes may change, its numbers may not."""
    session = onnxruntime.InferenceSession(next(folder.glob("*.onnx")))
    inputs = inputs_for(i.name for i in session.get_inputs())
    return of_arrays({o.name: v for o, v in zip(session.get_outputs(), session.run(None, inputs), strict=True)})


def main() -> None:
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        make_teacher(place / "teacher")
        make_texts(place / "texts.txt")
        make_task(place / "task")
        run = {"teacher": str(place / "teacher"), "text": [str(place / "texts.txt")], "stages": STAGES}
        (place / "run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
        on_cpu = ("--device", "cpu", "--threads", 1)
        inhibit("distill", place / "run.yaml", "--output", place / "run", *on_cpu)
        for stage in sorted((place / "run" / "stages").iterdir()):
            found[f"stage {stage.name[0]}"] = of_model(stage / "student")
        task = ("--task", "custom", "--data", place / "task", *on_cpu)
        tuned = {"teacher": place / "teacher", "student": place / "run"}
        inhibit("finetune", tuned["teacher"], "--output", place / "tuned", *task, *settings(FINE_TUNING))
        found["fine-tuned softmax"] = of_model(place / "tuned")
        taught = ("--teacher", place / "tuned", *settings(FINE_TUNING | DISTILLING))
        inhibit("finetune", tuned["student"], "--output", place / "taught", *task, *taught)
        found["fine-tuned with a teacher"] = of_model(place / "taught")
        calibration = ("--text", place / "texts.txt", "--threads", 1)
        inhibit("quantize", place / "taught", place / "quantized", *calibration)
        found["quantized"] = of_model(place / "quantized")
        found["quantized, outputs"] = of_outputs(place / "quantized")
        inhibit("export", place / "taught", place / "exported", "--threads", 1)
        found["exported, outputs"] = of_exported(place / "exported")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
