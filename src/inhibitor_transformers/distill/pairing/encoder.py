"""An InhibiDistilBERT and the encoder that its layers were copied from."""

from __future__ import annotations

import torch
from torch import nn

from ...models import InhibiDistilBertPreTrainedModel, LayerMap
from ...models.architectures import attention_layers, record_attention_outputs
from ..teacher.teacher import Teacher, model_inputs
from .base import Batch, Matched, Outputs, Pairing, TeacherStates


class EncoderPairing(Pairing):
    """Compares layer i of the student with the teacher layer that it stands for. Labels: "layer_0", "layer_1", ….

    layer_map: which teacher layer each student layer stands for.
    """

    student: InhibiDistilBertPreTrainedModel
    has_logits = False  # of a student with a head, the stage masked_lm asks the models themselves

    def __init__(self, student: InhibiDistilBertPreTrainedModel, teacher: Teacher, layer_map: LayerMap) -> None:
        super().__init__(student, teacher)
        self.layer_map = layer_map
        self.widths = (student.config.hidden_size, teacher.model.config.hidden_size)

    def attention_outputs(self, batch: Batch) -> list[Matched]:
        target = self.teacher(batch, attention_outputs=True, hidden=True)
        valid = batch["attention_mask"].bool()
        mask = None if valid.all() else valid
        layers, sources = attention_layers(self.student), self.layer_map.teacher_layers
        with record_attention_outputs(layers) as ours:
            for layer, source in zip(layers, sources, strict=True):
                layer.module(target.hidden[source], attention_mask=mask)
        return [
            Matched(f"layer_{i}", ours[i], target.attention_outputs[source], valid) for i, source in enumerate(sources)
        ]

    @torch.no_grad()
    def teacher_attention_outputs(self, batch: Batch) -> list[TeacherStates]:
        outputs = self.teacher(batch, attention_outputs=True).attention_outputs
        valid = batch["attention_mask"].bool()
        return [
            TeacherStates(f"layer_{i}", outputs[source], valid)
            for i, source in enumerate(self.layer_map.teacher_layers)
        ]

    def outputs(self, batch: Batch) -> Outputs:
        hidden = self.student(**model_inputs(batch), output_hidden_states=True).hidden_states
        states = [
            Matched(label, hidden[i + 1], theirs, valid)
            for i, (label, theirs, valid) in enumerate(self.teacher_hidden_states(batch))
        ]
        return Outputs(states, None)

    @torch.no_grad()
    def teacher_hidden_states(self, batch: Batch) -> list[TeacherStates]:
        hidden = self.teacher(batch, hidden=True).hidden
        valid = batch["attention_mask"].bool()
        return [
            TeacherStates(f"layer_{i}", hidden[source + 1], valid)
            for i, source in enumerate(self.layer_map.teacher_layers)
        ]

    def attention_parameters(self) -> list[nn.Parameter]:
        layers = attention_layers(self.student)
        modules = [part for layer in layers for part in (layer.query, layer.key, layer.value, layer.scalars)]
        return [parameter for module in modules for parameter in module.parameters()]

    def embedding_parameters(self) -> list[nn.Parameter]:
        # They are the teacher's to begin with: training could only move the many words that the texts lack.
        return list(self.student.base_model.embeddings.parameters())

    def describe(self, teacher: str) -> list[str]:
        layers = f"{self.layer_map.teacher_depth} layers; {len(self.layer_map)} in the student"
        return [f"teacher {teacher}: {layers}", self.layer_map.table()]
