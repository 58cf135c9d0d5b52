"""Sentences of STS-B as a synthesizer says them: recordings that a speech model can be aligned and measured on.

apt install flite
python experiments/synthetic_speech.py --output runs/synthetic_speech --data ../shared/data/glue/stsb

Writes train.parquet and test.parquet: `audio`, WAV at 16 kHz, `text`, what was said, and `voice`. Plain sentences of 5
to 12 words, voices in turn; none of the test is in train. Flite (Black and Lenzo, 2001) is a program of its own.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet

from inhibitor_transformers.tasks.files import read_table

VOICES = ("slt", "rms")
SPLITS = {"train": ("train", 160), "test": ("validation", 64)}  # from which split of the sentences, how many
PLAIN = re.compile(r"[A-Z][a-z ]+\.")  # no numbers, names within or quotes, which can be written in several ways
WORDS = range(5, 13)


def plain_sentences(data: Path, split: str) -> list[str]:
    """The sentences that are easy to write down as they are said, each once, in their order."""
    sentences = read_table(data / f"{split}.parquet")["sentence1"]
    return [s for s in dict.fromkeys(sentences) if PLAIN.fullmatch(s) and len(s.split()) in WORDS]


def choose(data: Path, seed: int) -> dict[str, list[str]]:
    """So many sentences of each split, in random order, none in two splits."""
    random, chosen = np.random.default_rng(seed), dict[str, list[str]]()
    for name, (source, count) in SPLITS.items():
        taken = {sentence for others in chosen.values() for sentence in others}
        found = [s for s in plain_sentences(data, source) if s not in taken]
        chosen[name] = [found[i] for i in random.permutation(len(found))[:count]]
    return chosen


def speak(sentence: str, voice: str) -> bytes:
    """A WAV file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "said.wav"
        subprocess.run(["flite", "-voice", voice, "-t", sentence, "-o", str(file)], check=True)
        return file.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/glue/stsb"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    for split, sentences in choose(options.data, options.seed).items():
        voices = [VOICES[i % len(VOICES)] for i in range(len(sentences))]
        rows = [
            {"audio": {"bytes": speak(text, voice), "path": None}, "text": text, "voice": voice}
            for text, voice in zip(sentences, voices, strict=True)
        ]
        parquet.write_table(pyarrow.Table.from_pylist(rows), options.output / f"{split}.parquet")
        print(f"{split}: {len(rows)} recordings")


if __name__ == "__main__":
    main()
