"""Pictures: the maps against both models' own scores, the classes, and the picture as it was seen."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from inhibitor_transformers import convert
from inhibitor_transformers.evaluation.passing import passing_fraction, record_pairs
from inhibitor_transformers.evaluation.pictures import (
    ALL_PATCHES,
    CLASS_TOKEN,
    measure_picture,
    patch_grid,
    require_same_classes,
)
from inhibitor_transformers.tasks.modalities.pictures import NamedPicture
from tests.evaluation import converted
from tests.models.conversion import zoo
from tests.tasks.modalities.tiny import SIDE, pixels, png

image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'inhibitor-transformers[images]'")


def picture(seed: int = 0) -> NamedPicture:
    return NamedPicture("a.png", png(seed))


def inputs(pair: converted.Pair) -> dict[str, torch.Tensor]:
    return {"pixel_values": pair.preprocessor(images=[image.fromarray(pixels(0))], return_tensors="pt")["pixel_values"]}


def test_maps_are_those_of_the_class_token() -> None:
    pair = converted.vit()
    found = measure_picture(*pair, picture())
    assert (found.rows, found.columns, found.maps.query) == (2, 2, CLASS_TOKEN)
    eager = copy.deepcopy(pair.teacher)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = eager(**inputs(pair), output_attentions=True).attentions
    theirs = torch.stack([a[0, :, 0, 1:].mean(0) for a in attentions])
    torch.testing.assert_close(torch.tensor(found.maps.attention), theirs, rtol=1e-4, atol=1e-6)
    ours = torch.stack(
        [
            passing_fraction(p.z, p.values, signed=p.signed)[0, :, 0, 1:].mean(0)
            for p in record_pairs(pair.student, pair.teacher, inputs(pair))
        ]
    )
    torch.testing.assert_close(torch.tensor(found.maps.passing), ours)


def test_classes_and_their_probabilities() -> None:
    pair = converted.vit()
    found = measure_picture(*pair, picture())
    for model, prediction in ((pair.student, found.student), (pair.teacher, found.teacher)):
        with torch.no_grad():
            probabilities = model(**inputs(pair)).logits[0].softmax(-1)
        assert prediction is not None
        assert prediction.label == ["cat", "dog", "frog"][int(probabilities.argmax())]
        assert prediction.probability == pytest.approx(float(probabilities.max()), rel=1e-5)


def test_the_picture_is_as_the_models_see_it() -> None:
    found = measure_picture(*converted.vit(), NamedPicture("large.png", png(3, size=20)))
    shown = image.open(io.BytesIO(found.png))
    assert found.size == shown.size == (SIDE, SIDE)
    wanted = image.open(io.BytesIO(png(3, size=20))).resize((SIDE, SIDE), image.Resampling.BILINEAR)
    difference = torch.tensor(list(shown.tobytes())) - torch.tensor(list(wanted.tobytes()))
    assert difference.abs().max() <= 2


def test_models_without_a_class_token_show_all_queries() -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    teacher = SiglipVisionModel(SiglipVisionConfig(image_size=SIDE, patch_size=4, **sizes)).eval()
    student = convert(teacher, {"pixel_values": torch.randn(2, 3, SIDE, SIDE)})
    found = measure_picture(student, teacher, converted.image_processor(), picture())
    assert found.maps.query == ALL_PATCHES
    assert found.student is found.teacher is None
    for row in found.maps.attention:
        assert sum(row) == pytest.approx(1.0, rel=1e-5)  # each query's does, and so does their mean


def test_attention_in_windows_has_no_map() -> None:
    teacher, student = zoo.teacher("Swin"), zoo.student("Swin")
    processor = converted.image_processor()
    processor.size = {"height": 32, "width": 32}
    with pytest.raises(ValueError, match=r"no converted layer attends between all 64 patches.*perhaps in windows"):
        measure_picture(student, teacher, processor, picture())


def test_a_model_without_patches() -> None:
    with pytest.raises(ValueError, match="a gpt2 model does not cut pictures into patches"):
        patch_grid(converted.gpt2().teacher.config, torch.zeros(1, 3, 8, 8))


def test_bytes_that_are_no_image() -> None:
    with pytest.raises(ValueError, match="not an image that Pillow can decode"):
        measure_picture(*converted.vit(), NamedPicture("a.png", b"text"))


def test_classes_that_differ() -> None:
    pair = converted.vit()
    require_same_classes(pair.student, pair.teacher)
    other = copy.deepcopy(pair.teacher)
    other.config.id2label = {0: "cat", 1: "frog", 2: "dog"}
    with pytest.raises(ValueError, match=r"different classes apart \('dog' and 'frog'\)"):
        require_same_classes(pair.student, other)
    other.config.id2label = {0: "cat", 1: "frog"}
    with pytest.raises(ValueError, match=r"different classes apart \(3 and 2\)"):
        require_same_classes(pair.student, other)
    with pytest.raises(ValueError, match="the student has classes and the teacher has none"):
        require_same_classes(pair.student, pair.teacher.vit)
