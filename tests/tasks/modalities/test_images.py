"""Images become what the model's image processor makes of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ViTImageProcessorPil

from inhibitor_transformers.tasks.modalities import draw, load_images
from inhibitor_transformers.tasks.modalities.images import decode_image
from tests.tasks.modalities.tiny import SIDE, as_files, pixels, png, write_parquet

MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]


def processor() -> ViTImageProcessorPil:
    return ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_mean=MEAN, image_std=DEVIATION)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_parquet(tmp_path / "train.parquet", image=as_files([png(i) for i in range(5)]), label=[3, 1, 4, 1, 5])
    write_parquet(tmp_path / "test.parquet", img=as_files([png(9)]))
    return tmp_path


def test_a_batch_is_normalized_as_the_processor_says(folder: Path) -> None:
    batch = load_images(folder, processor()).batch([4, 0])
    expected = np.stack([(pixels(i) / 255 - MEAN) / DEVIATION for i in (4, 0)]).transpose(0, 3, 1, 2)
    torch.testing.assert_close(batch["pixel_values"], torch.from_numpy(expected).float())
    assert batch["labels"].tolist() == [5, 3]
    assert batch["labels"].dtype == torch.int64


def test_a_split_without_labels(folder: Path) -> None:
    assert set(load_images(folder, processor(), split="test").batch([0])) == {"pixel_values"}


def test_gray_images_have_three_channels() -> None:
    assert np.asarray(decode_image(png(1, "L"))).shape == (SIDE, SIDE, 3)


def test_bytes_that_are_no_image() -> None:
    pytest.importorskip("PIL")
    with pytest.raises(ValueError, match="not an image that Pillow can decode"):
        decode_image(b"RIFF")


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'inhibitor-transformers\[images\]'"):
        decode_image(b"")


def test_cifar(shared_data: Path) -> None:
    if not (shared_data / "cifar10").is_dir():
        pytest.skip(f"no cifar10 in {shared_data}")
    images = load_images(shared_data / "cifar10", ViTImageProcessorPil(size={"height": 32, "width": 32}), split="test")
    assert len(images) == 10_000
    batch = draw(images, 8, seed=0).batch(range(8))
    assert batch["pixel_values"].shape == (8, 3, 32, 32)
    assert set(batch["labels"].tolist()) <= set(range(10))
