"""What a client needs of a plan: how raw data become levels, and decrypted numbers logits and labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import array_bytes, json_bytes, read_arrays, read_json, sha256
from .graph import Array, Graph, check_inputs
from .plan import EncryptedPlan

FORMAT = 1
FILES = JSON_FILE, ARRAY_FILE = "client.json", "client.npz"


@dataclass(frozen=True, eq=False)
class ClientPart:
    """One plan's client.

    plan: the plan's digest. low, high: of each element of one input. output_low, output_high: of each element of what
    is computed. offset: see `EncryptedPlan`. labels: names of the classes, () if they have none. encoder, arrays: the
    state of the encoder of raw data; {} if inputs are levels already.
    """

    plan: str
    low: Array
    high: Array
    output_low: Array
    output_high: Array
    offset: Array | None = None
    labels: tuple[str, ...] = ()
    encoder: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: EncryptedPlan, labels: tuple[str, ...] = (), encoder: Any = None) -> ClientPart:
        """Of a plan, and the encoder that its model was trained with. Raises ValueError for too few or many labels."""
        output, classes = plan.output, plan.finish(plan.output.low[None]).shape[-1]
        if labels and len(labels) != classes:
            raise ValueError(f"{len(labels)} labels for {classes} classes")
        state, arrays = ({}, {}) if encoder is None else encoder.state()
        bounds = plan.input.low, plan.input.high, output.low, output.high
        return cls(plan.digest, *bounds, plan.offset, labels, state, arrays)

    def encode(self, raw: Any) -> Array:
        """Levels (B, …) of a batch of raw data. Raises ValueError for what the encoder or the plan cannot take."""
        if self.encoder:
            from .encoders import encoder_from_state

            raw = encoder_from_state(self.encoder, self.arrays).encode(raw)
        levels = check_inputs(Graph().input("input", self.low, self.high).node, raw)
        if len(levels) == 0:
            raise ValueError("there is no example to classify")
        return levels

    def decode(self, decrypted: Array) -> Array:
        """Logits (C,) of one decrypted output, which begins at 0. Raises ValueError if it cannot be this plan's."""
        if decrypted.shape != self.output_low.shape:
            raise ValueError(f"the answer has shape {decrypted.shape}, the plan's output {self.output_low.shape}")
        output = decrypted.astype(np.int64) + self.output_low
        if (output < self.output_low).any() or (output > self.output_high).any():
            raise ValueError("the answer decrypts to numbers that the plan cannot compute: it is not this request's")
        return output if self.offset is None else output.sum(0) + self.offset

    def files(self, program: dict[str, Any] | None = None) -> dict[str, bytes]:
        """The content of client.json and client.npz. program: of the compiled program, for the folder of a client."""
        named = {"low": self.low, "high": self.high, "output_low": self.output_low, "output_high": self.output_high}
        if self.offset is not None:
            named["offset"] = self.offset
        arrays = array_bytes(named | {f"encoder/{name}": array for name, array in self.arrays.items()})
        description = {
            "format": FORMAT,
            "plan": self.plan,
            "labels": self.labels,
            "encoder": self.encoder,
            "arrays": sha256(arrays),
        }
        return {JSON_FILE: json_bytes(description | ({"program": program} if program else {})), ARRAY_FILE: arrays}

    @classmethod
    def load(cls, folder: Path) -> ClientPart:
        """Of a plan's or a client's folder. Raises ValueError for files that are absent or damaged."""
        description, arrays = read_json(folder / JSON_FILE), read_arrays(folder / ARRAY_FILE)
        try:
            if description["format"] != FORMAT:
                raise ValueError(f"format {description['format']}, this version reads {FORMAT}")
            if sha256((folder / ARRAY_FILE).read_bytes()) != description["arrays"]:
                raise ValueError(f"{ARRAY_FILE} is not the one that {JSON_FILE} names")
            return cls(
                plan=str(description["plan"]),
                low=arrays["low"],
                high=arrays["high"],
                output_low=arrays["output_low"],
                output_high=arrays["output_high"],
                offset=arrays.get("offset"),
                labels=tuple(map(str, description["labels"])),
                encoder=dict(description["encoder"]),
                arrays={name.removeprefix("encoder/"): a for name, a in arrays.items() if name.startswith("encoder/")},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder} holds no client that can be read: {error!r}") from None
