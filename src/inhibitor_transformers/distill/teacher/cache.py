"""Teacher outputs, computed once and kept on disk for every run that asks again.

    FOLDER/made_with.json            fingerprints of teacher, tokenizer and texts
    FOLDER/TEACHER-WINDOWS-float16/  the outputs for one set of windows:
        hidden-3.npy, attention_outputs-3.npy, …         (tokens of all windows, dim) each

An array is written under another name and renamed when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...common.distributed import is_main_process, wait_for_everyone
from ...common.progress import Advance, Log, progress
from ...common.settings import ConfigError, require
from ...tasks.text import Text
from ..data import pad_windows
from .fingerprints import encoder_fingerprint, fingerprint, sequences_fingerprint, tokenizer_fingerprint
from .storage import in_gib, open_array, require_manifest, require_space, write_manifest, writing_arrays
from .teacher import Teacher, TeacherOutputs

_WINDOWS_AT_ONCE = 512  # of which those of similar length share a batch
_TOKENS_AT_ONCE = 4096
_DTYPES = ("float16", "float32")


@dataclass
class TeacherCacheConfig:
    """Where teacher outputs are kept, and as which type; float16 rounds to about 3 digits and halves the size."""

    folder: str
    dtype: str = "float16"

    def __post_init__(self) -> None:
        require(bool(self.folder) and isinstance(self.folder, str), f"folder must be a path, got {self.folder!r}")
        self.folder = os.path.expanduser(self.folder)
        require(self.dtype in _DTYPES, f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}")


class TeacherCache:
    """The outputs of one teacher for one collection of texts.

    Raises ConfigError if the folder holds those of another teacher, tokenizer or texts, naming which.
    """

    def __init__(
        self, config: TeacherCacheConfig, teacher: Teacher, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text]
    ) -> None:
        self.folder, self.dtype = Path(config.folder), np.dtype(config.dtype)
        self.teacher, self.tokenizer = teacher, tokenizer
        self.manifest = {
            "teacher": encoder_fingerprint(teacher.model),
            "tokenizer": tokenizer_fingerprint(tokenizer),
            "collection of texts": fingerprint(sorted(texts, key=str)),
        }
        require_manifest(self.folder, self.manifest)

    def teacher_for(self, windows: Sequence[np.ndarray], teacher_outputs: Sequence[str], log: Log) -> CachedTeacher:
        """A teacher that reads `teacher_outputs` ("hidden-0", "attention_outputs-0", …) of `windows` from disk.

        Computes what is not there yet, in the main process.

        Raises ConfigError if the disk has no room, or if a value does not fit the type.
        """
        folder = self.folder / f"{self.manifest['teacher']}-{sequences_fingerprint(windows)}-{self.dtype}"
        missing = [name for name in teacher_outputs if not (folder / f"{name}.npy").exists()]
        wait_for_everyone()  # until all have looked
        if missing and is_main_process():
            write_manifest(self.folder, self.manifest)
            folder.mkdir(exist_ok=True)
            self._compute(folder, windows, missing, log)
        elif not missing:
            log(f"teacher outputs: {len(teacher_outputs)} arrays from {folder}")
        wait_for_everyone()
        arrays = {name: open_array(folder, name) for name in teacher_outputs}
        return CachedTeacher(self.teacher, arrays, _lengths(windows))

    def _compute(self, folder: Path, windows: Sequence[np.ndarray], names: list[str], log: Log) -> None:
        shape = (sum(_lengths(windows)), self.teacher.model.config.hidden_size)
        size = len(names) * shape[0] * shape[1] * self.dtype.itemsize
        log(f"teacher outputs: {len(names)} arrays of {shape[0]} tokens, {in_gib(size)}, to {folder}")
        require_space(folder, size, "the teacher cache")
        with (
            writing_arrays(folder, names, shape, self.dtype) as files,
            progress("asking the teacher", len(windows), "windows") as advance,
        ):
            for start in range(0, len(windows), _WINDOWS_AT_ONCE):
                self._write(windows[start : start + _WINDOWS_AT_ONCE], names, files, advance)

    def _write(
        self, windows: Sequence[np.ndarray], names: list[str], files: Sequence[IO[bytes]], advance: Advance
    ) -> None:
        """Append all tokens of these windows to every file."""
        found: dict[int, list[np.ndarray]] = {}
        for members in _batches(_lengths(windows)):
            batch = pad_windows([windows[i] for i in members], self.tokenizer)
            batch = {name: t.to(self.teacher.model.device) for name, t in batch.items()}
            teacher_outputs = self.teacher(
                batch, attention_outputs=any(n.startswith("attention_outputs") for n in names), hidden=True
            )
            arrays = [_pick(teacher_outputs, name).to(torch.float32).numpy(force=True) for name in names]
            for place, i in enumerate(members):
                found[i] = [self._convert(a[place, : len(windows[i])], n) for n, a in zip(names, arrays, strict=True)]
            advance(len(members))
        for i in range(len(windows)):
            for file, values in zip(files, found[i], strict=True):
                file.write(values.tobytes())

    def _convert(self, values: np.ndarray, name: str) -> np.ndarray:
        with np.errstate(over="ignore"):
            stored = values.astype(self.dtype)
        if not np.isfinite(stored).all():
            raise ConfigError(
                f"the teacher's {name} reaches {np.abs(values).max():.3g}, which {self.dtype} cannot hold; set "
                "teacher_cache.dtype to float32"
            )
        return stored


def _pick(teacher_outputs: TeacherOutputs, name: str) -> torch.Tensor:
    kind, _, layer = name.partition("-")
    return getattr(teacher_outputs, kind)[int(layer)]


def _lengths(windows: Sequence[np.ndarray]) -> list[int]:
    return [len(window) for window in windows]


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Indices of windows of similar length, at most about `_TOKENS_AT_ONCE` tokens with padding each."""
    members: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if members and lengths[i] * (len(members) + 1) > _TOKENS_AT_ONCE:
            yield members
            members = []
        members.append(i)
    yield members


class _Layers(Sequence[Tensor]):
    """Layer i is read when it is asked for."""

    def __init__(self, layers: int, read: Callable[[int], Tensor]) -> None:
        self._layers, self._read = layers, read

    def __len__(self) -> int:
        return self._layers

    def __getitem__(self, index: Any) -> Any:
        return self._read(range(self._layers)[index])  # IndexError beyond, as iteration expects


class CachedTeacher(Teacher):
    """Called as a teacher, with batches whose `window_indices`, (B,) int64, say which of the stored windows they hold.

    Args:
        teacher: gave the stored values.
        arrays: "hidden-i" and "attention_outputs-i", (tokens of all windows, dim) each.
        lengths: tokens of every window.
    """

    def __init__(self, teacher: Teacher, arrays: Mapping[str, np.ndarray], lengths: Sequence[int]) -> None:
        super().__init__(teacher.model)
        self.arrays, self.lengths = arrays, np.asarray(lengths)
        self.starts = np.cumsum(self.lengths) - self.lengths

    def __call__(
        self, batch: Mapping[str, Tensor], *, attention_outputs: bool = False, hidden: bool = False
    ) -> TeacherOutputs:
        """As a teacher's, without logits. Raises ValueError if the batch holds other windows than it names."""
        indices, given = batch["window_indices"].tolist(), batch["attention_mask"].sum(-1).tolist()
        if self.lengths[indices].tolist() != given:
            raise ValueError(
                f"a batch of windows {indices} has {given} tokens, the stored ones {self.lengths[indices].tolist()}"
            )
        layers = self.model.config.num_hidden_layers
        read = partial(self._read_padded, indices, batch["input_ids"])
        return TeacherOutputs(
            hidden=_Layers(layers + 1, lambda i: read(f"hidden-{i}")) if hidden else (),
            attention_outputs=_Layers(layers, lambda i: read(f"attention_outputs-{i}")) if attention_outputs else (),
        )

    def _read_padded(self, indices: list[int], ids: Tensor, name: str) -> Tensor:
        array = self.arrays[name]
        padded = np.zeros((*ids.shape, array.shape[-1]), dtype=array.dtype)
        for place, i in enumerate(indices):
            start, length = self.starts[i], self.lengths[i]
            padded[place, :length] = array[start : start + length]
        return torch.from_numpy(padded).to(ids.device, self.model.dtype)
