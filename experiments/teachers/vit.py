"""Trains a small vision transformer on CIFAR-10: the teacher of a student for images.

python experiments/teachers/vit.py --output runs/teachers/vit --data ../shared/data/cifar10

Patches of 4 × 4 (65 tokens), 6 layers × 192, 3 heads; random crops (padding 4) and flips. Training takes about 25
minutes on one core that multiplies bfloat16. A student, and its teacher as a control, are trained further with labels:

python experiments/teachers/vit.py --init-from runs/vit --steps 500 --learning-rate 1e-4 --output runs/vit-fine-tuned
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import torch
from metric import write_metric
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from training import Batch, epochs, parser, train
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from inhibitor_transformers.cli.options import quiet

SIZE, PADDING = 32, 4
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MEAN, DEVIATION = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]  # of CIFAR-10's training images, per channel


def build() -> ViTForImageClassification:
    config = ViTConfig(
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=SIZE,
        patch_size=4,
        id2label=dict(enumerate(CLASSES)),
        label2id={name: i for i, name in enumerate(CLASSES)},
        attn_implementation="eager",  # for 65 tokens in bfloat16, 1.7 times as fast as SDPA on a CPU
    )
    return ViTForImageClassification(config)


def read(file: Path) -> tuple[Tensor, Tensor]:
    """Images (M, 3, 32, 32), normalized as the image processor does it, and labels (M,) int64."""
    table = parquet.read_table(file)
    decoded = [np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["image"].to_pylist()]
    pixels = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return (pixels - mean) / deviation, torch.tensor(table["label"].to_pylist())


def augment(images: Tensor, random: np.random.Generator) -> Tensor:
    """Each of (B, 3, 32, 32) shifted by up to four pixels, and half of them mirrored."""
    padded = F.pad(images, (PADDING,) * 4)
    shifts = random.integers(0, 2 * PADDING + 1, (len(images), 2))
    crops = torch.stack([image[:, y : y + SIZE, x : x + SIZE] for image, (y, x) in zip(padded, shifts, strict=True)])
    mirrored = torch.from_numpy(random.random(len(images)) < 0.5).view(-1, 1, 1, 1)
    return torch.where(mirrored, crops.flip(-1), crops)


def main() -> None:
    made = parser(__doc__, steps=4800, batch_size=64, learning_rate=1e-3)
    made.add_argument("--init-from", type=Path, help="a folder with the model to train further")
    made.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    options = made.parse_args()
    quiet(1)
    torch.manual_seed(options.seed)
    images, labels = read(options.data / "train.parquet")
    model = AutoModelForImageClassification.from_pretrained(options.init_from) if options.init_from else build()
    print(f"{model.num_parameters():,} parameters, {len(images):,} images to train on", flush=True)
    order = epochs(len(images), options.steps * options.batch_size, options.seed)

    def batch_of(step: int) -> Batch:
        random = np.random.default_rng([options.seed, step])
        chosen = torch.from_numpy(order[step * options.batch_size :][: options.batch_size])
        return {"pixel_values": augment(images[chosen], random), "labels": labels[chosen]}

    train(model, batch_of, options)
    model.save_pretrained(options.output)
    processor = ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}, image_mean=MEAN, image_std=DEVIATION)
    processor.save_pretrained(options.output)
    write_metric(options.output, model, processor, options.data, "test")


if __name__ == "__main__":
    main()
