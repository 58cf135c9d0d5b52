"""An inhibitor head beside the dot-product head of its softmax teacher, on what both compute for the same text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..attention import InhibitorScalars
from ..attention.integer.qparams import Bits
from ..deploy.quantize.texts import Batch, as_batches
from ..distill.data import exact_windows
from ..models.architectures import attention_layers, require_positions
from .circuits.inhibitor_trace import InhibitorTrace
from .circuits.softmax_trace import SoftmaxTrace
from .gates.cells import CellLibrary
from .gates.synthesize import RECIPES, Recipe, recipe_name
from .heads import Cost, measure_head, measure_outputs, measure_scores, trace_inhibitor, trace_softmax
from .operands import InhibitorOperands, SoftmaxOperands, inhibitor_operands, pair_heads, softmax_operands
from .rows import ELEMENT_MEASURES, MEASURES, Row

CALIBRATION_TEXTS = 32
CIRCUIT_BITS: tuple[Bits, ...] = (4, 8, 16)
Part = Literal["head", "scores", "outputs"]
Variant = Literal["own", "same operands", "registers in front"]
load_cells = cache(CellLibrary.load)


@dataclass(frozen=True)
class Setting:
    """What is compared.

    length: n, tokens. doubled: two heads side by side, as one of twice the size. cells: a library's name or path.
    part: the whole head, or the element that makes scores or outputs. variant, of heads: "own"; "same operands": the
    dot-product head gets the student's q, k and v as well; "registers in front": the inhibitor's head keeps operands in
    registers, as the dot-product head does, not what its lanes make of them.
    """

    bits: Bits = 8
    length: int = 128
    doubled: bool = False
    layer: int = 0
    cells: str = "osu018"
    part: Part = "head"
    variant: Variant = "own"


class Comparison:
    """Both heads on the same text.

    Args:
        student: an inhibitor encoder, teacher: the softmax encoder that it comes from; of head `head` each.
        texts: to calibrate on, and to read.
        rows: of queries that are simulated, spread over the text.
        keys: that the heads' memories hold.

    Raises ValueError where the models are others than these, heads differ in size, no text has as many tokens as a
    setting asks for, or a layer or head is not there.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        *,
        head: int = 0,
        rows: int = 2,
        keys: int = 512,
    ) -> None:
        _check_kinds(student, teacher)
        sizes = [head_size(model) for model in (student, teacher)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"the student's heads have {sizes[0]} features, the teacher's {sizes[1]}: not comparable")
        self.student, self.teacher, self.tokenizer, self.texts = student, teacher, tokenizer, texts
        self.head, self.rows, self.keys = head, rows, keys
        self._calibration = as_batches(texts[:CALIBRATION_TEXTS], tokenizer, max_length=128)
        self._inhibitor, self._softmax = cache(self._inhibitor_operands), cache(self._softmax_operands)
        self._recipes: dict[tuple[type, str, int], Sequence[Recipe]] = {}

    def compare(self, settings: Iterable[Setting]) -> Iterator[Row]:
        """The rows of each setting, as they are measured."""
        for setting in settings:
            softmax, inhibitor = self.costs(setting)
            d = head_size(self.student) * (2 if setting.doubled else 1)
            place = (setting.cells, setting.variant, setting.part, setting.layer, setting.bits, setting.length, d)
            for name in MEASURES if setting.part == "head" else ELEMENT_MEASURES:
                yield Row(*place, name, getattr(softmax, name), getattr(inhibitor, name))

    def costs(self, setting: Setting) -> tuple[Cost, Cost]:
        """Of the softmax side and of the inhibitor side."""
        student = setting.variant == "same operands"
        softmax = self._pick(self._softmax(setting.bits, setting.length, student), setting)
        inhibitor = self._pick(self._inhibitor(setting.bits, setting.length), setting)
        rows = np.linspace(0, setting.length - 1, self.rows + 2)[1:-1].astype(int).tolist()
        traces = (trace_softmax(softmax, rows, self.keys), trace_inhibitor(inhibitor, rows, self.keys))
        if setting.part != "head":
            measure = measure_scores if setting.part == "scores" else measure_outputs
            first, second = (measure(trace, load_cells(setting.cells)) for trace in traces)
        else:
            first, second = (self._measure(trace, setting) for trace in traces)
        return first, second

    def _measure(self, trace: InhibitorTrace | SoftmaxTrace, setting: Setting) -> Cost:
        """With the recipe that was the best one for this kind of head when it was measured first."""
        kind = (type(trace), setting.cells, setting.bits)
        cost = measure_head(
            trace,
            load_cells(setting.cells),
            retimed=setting.variant != "registers in front",
            recipes=self._recipes.get(kind, RECIPES),
        )
        best = cost.measurement.provenance.recipe
        self._recipes[kind] = [recipe for recipe in RECIPES if recipe_name(recipe) == best]
        return cost

    def _pick(self, layers: Any, setting: Setting) -> Any:
        if not 0 <= setting.layer < len(layers):
            raise ValueError(f"there is no layer {setting.layer}, the model has {len(layers)}")
        heads = layers[setting.layer]
        last = self.head + setting.doubled
        if last >= len(heads):
            raise ValueError(f"there is no head {last}, layers have {len(heads)}")
        return pair_heads(heads[self.head], heads[last]) if setting.doubled else heads[self.head]

    def _inhibitor_operands(self, bits: Bits, length: int) -> list[list[InhibitorOperands]]:
        return inhibitor_operands(self.student, self._calibration, self._text(length), bits)

    def _softmax_operands(self, bits: Bits, length: int, student: bool) -> list[list[SoftmaxOperands]]:
        model = self.student if student else self.teacher
        return softmax_operands(model, self._calibration, self._text(length), bits)

    def _text(self, length: int) -> Batch:
        for model in (self.student, self.teacher):
            require_positions(model.config, length, "the text")
        windows = exact_windows(self.texts, self.tokenizer, length, 1)
        if not windows:
            raise ValueError(f"no text has {length} tokens: give longer ones")
        ids = torch.from_numpy(windows[0]).long()[None]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def head_size(model: PreTrainedModel) -> int:
    """Features of q and k of each head."""
    return int(model.config.hidden_size // model.config.num_attention_heads)


def _check_kinds(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Raise ValueError unless the one has inhibitor attention in floats, and the other one softmax."""
    for model, wanted in ((student, InhibitorScalars), (teacher, type(None))):
        for layer in attention_layers(model):
            if type(layer.scalars) is not wanted:
                kind = "inhibitor attention in floats" if wanted is InhibitorScalars else "softmax"
                raise ValueError(f"{type(model).__name__} cannot stand on this side: {layer.name} is not {kind}")
