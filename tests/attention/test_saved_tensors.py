"""Whether a tensor is still what it was: what is kept of it must not outlive it."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.attention.saved_tensors import TensorVersions


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(3), torch.zeros(2)


def test_the_same_tensors_match() -> None:
    a, b = pair()
    versions = TensorVersions(a, b)
    assert versions.match(a, b)
    a.add(1.0)  # of another tensor
    assert versions.match(a, b)


@pytest.mark.parametrize("which", [0, 1])
def test_a_change_in_place_is_seen(which: int) -> None:
    tensors = pair()
    versions = TensorVersions(*tensors)
    tensors[which].mul_(1.0)
    assert not versions.match(*tensors)
    assert TensorVersions(*tensors).match(*tensors)


@pytest.mark.parametrize("which", [0, 1])
def test_other_memory_is_seen(which: int) -> None:
    tensors = pair()
    versions = TensorVersions(*tensors)
    tensors[which].data = tensors[which].clone()  # which counts as no change
    assert not versions.match(*tensors)


def test_equal_tensors_are_not_the_same() -> None:
    a, b = pair()
    versions = TensorVersions(a, b)
    assert not versions.match(a, b.clone())
    assert not versions.match(a.view_as(a), b)  # the same memory in the same version
    assert not versions.match(b, a)
    with pytest.raises(ValueError, match="zip"):
        versions.match(a)


def test_what_inference_mode_made_is_never_known_to_be_the_same() -> None:
    a, _ = pair()
    with torch.inference_mode():
        b = torch.zeros(2)
    versions = TensorVersions(a, b)
    assert not versions.match(a, b)
