"""Pictures as a converted vision model and its teacher see them: from which patches information passes, and classes."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from ..models.compatibility import label_names
from ..report import LayerMaps, Picture, Prediction
from ..tasks.modalities import ImageExamples, Preprocessor
from ..tasks.modalities.pictures import NamedPicture
from .passing import AttentionPair, forward_arguments, record_pairs

CLASS_TOKEN = "the class token"
ALL_PATCHES = "all patches, averaged"


@torch.no_grad()
def measure_picture(
    student: PreTrainedModel, teacher: PreTrainedModel, processor: Preprocessor, picture: NamedPicture
) -> Picture:
    """What reaches the class token of each layer from the patches of a picture, or all patches where there is none.

    processor: the image processor of both. Raises ValueError for bytes that are no image, for models whose attention is
    not between the patches of the whole picture (windows, pyramids), for a teacher of other modules, ImportError
    without Pillow.
    """
    inputs = ImageExamples([picture.content], processor).batch([0])
    pixels = inputs["pixel_values"]
    rows, columns = patch_grid(student.config, pixels)
    pairs = record_pairs(student, teacher, inputs)
    png, size = _as_png(pixels[0], processor)
    return Picture(
        picture.name,
        png,
        size,
        rows,
        columns,
        _patch_maps(pairs, rows * columns),
        _predict(student, inputs),
        _predict(teacher, inputs),
    )


def require_same_classes(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Raise ValueError unless both tell the same classes apart, in the same order, or neither has classes."""
    ours, theirs = (_classes(model) for model in (student, teacher))
    if (ours is None) != (theirs is None):
        has, lacks = ("student", "teacher") if theirs is None else ("teacher", "student")
        raise ValueError(f"the {has} has classes and the {lacks} has none: they do not belong together")
    if ours is not None and theirs is not None and ours != theirs:
        difference = (
            f"{len(ours)} and {len(theirs)}"
            if len(ours) != len(theirs)
            else next(f"{a!r} and {b!r}" for a, b in zip(ours, theirs, strict=True) if a != b)
        )
        raise ValueError(
            f"student and teacher tell different classes apart ({difference}): name the model that the student was "
            "made from, or one fine-tuned alike"
        )


def patch_grid(config: PretrainedConfig, pixels: Tensor) -> tuple[int, int]:
    """Rows and columns of patches in `pixel_values` (B, channels, height, width). Raises ValueError for no patches."""
    vision = getattr(config, "vision_config", config)
    patch = getattr(vision, "patch_size", None)
    height, width = (patch, patch) if isinstance(patch, int) else patch or (0, 0)
    if not (height and width):
        raise ValueError(f"a {config.model_type} model does not cut pictures into patches (no patch_size)")
    return pixels.shape[-2] // height, pixels.shape[-1] // width


def _patch_maps(pairs: list[AttentionPair], patches: int) -> LayerMaps:
    """Raises ValueError if no layer's keys are the patches, with or without tokens of no patch before them."""
    shown = [p for p in pairs if len(p.z) == 1 and p.z.shape[2] == p.z.shape[3] >= patches]
    if not shown:
        seen = " and ".join(sorted({f"{p.z.shape[3]} keys" for p in pairs}))
        raise ValueError(
            f"no converted layer attends between all {patches} patches of a picture (but {seen}, perhaps in windows): "
            "there is no map to draw over it"
        )
    others = shown[0].z.shape[3] - patches
    queries = slice(1) if others else slice(None)
    passing, attention = (
        [_over_patches(row, others).tolist() for row in maps]
        for maps in ([p.passing(queries) for p in shown], [p.probabilities[:, :, queries] for p in shown])
    )
    return LayerMaps(CLASS_TOKEN if others else ALL_PATCHES, [p.layer for p in shown], passing, attention)


def _over_patches(maps: Tensor, others: int) -> Tensor:
    """(1, H, queries, Nk) to the mean over heads and queries, (patches,); the first keys are tokens of no patch."""
    return maps[0, :, :, others:].float().mean((0, 1)).cpu()


def _classes(model: PreTrainedModel) -> list[str] | None:
    """Names of a classifier's outputs; None for a model without."""
    if "Classification" not in type(model).__name__:
        return None
    return label_names(model.config) or [str(i) for i in range(model.config.num_labels)]


def _predict(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Prediction | None:
    classes = _classes(model)
    if classes is None:
        return None
    probabilities = model(**forward_arguments(model, inputs)).logits[0].float().softmax(-1)
    best = int(probabilities.argmax())
    return Prediction(classes[best], float(probabilities[best]))


def _as_png(pixels: Tensor, processor: Preprocessor) -> tuple[bytes, tuple[int, int]]:
    """The picture that the models saw, (3, height, width) as the processor scaled it, as an encoded file."""
    from PIL import Image

    part: Any = getattr(processor, "image_processor", processor)
    shown = pixels.float().cpu()
    if getattr(part, "do_normalize", False):
        mean, std = (torch.tensor(list(v)).view(-1, 1, 1) for v in (part.image_mean, part.image_std))
        shown = shown * std + mean
    if getattr(part, "do_rescale", True):
        shown = shown * 255
    array = shown.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    array = array[..., 0] if array.shape[-1] == 1 else array
    file = io.BytesIO()
    Image.fromarray(array.numpy()).save(file, format="PNG", optimize=True)
    return file.getvalue(), (array.shape[1], array.shape[0])
