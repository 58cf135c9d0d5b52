"""What a teacher says about texts, computed once and kept on disk for every run that asks again.

    FOLDER/made_with.json            fingerprints of teacher, tokenizer and texts
    FOLDER/TEACHER-WINDOWS-float16/  the signals of one set of windows:
        hidden-3.npy, contexts-3.npy, …                  (tokens of all windows, dim) each

An array is written under another name and renamed when it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ...common.distributed import is_main_process, wait_for_everyone
from ...common.progress import Advance, progress
from ...common.settings import ConfigError
from ...tasks.text import Text
from ..config import TeacherCacheConfig
from ..data import pad_windows
from ..fingerprints import encoder_fingerprint, rows_fingerprint, tokenizer_fingerprint
from ..output_dir import fingerprint
from .cached_teacher import CachedTeacher
from .manifest import require_manifest, write_manifest
from .row_arrays import in_gib, open_array, require_space, writing_arrays
from .teacher import Teacher, TeacherOutputs

_ROWS_AT_ONCE = 512  # of which those of similar length share a batch
_TOKENS_AT_ONCE = 4096


class TeacherCache:
    """The signals of one teacher about one collection of texts.

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

    def teacher_for(
        self, windows: Sequence[np.ndarray], teacher_outputs: Sequence[str], log: Callable[[str], None]
    ) -> CachedTeacher:
        """A teacher that knows `teacher_outputs` ("hidden-0", "attention_outputs-0", …) of `windows`; computes what is not there yet.

        Raises ConfigError if the disk has no room, or if a value does not fit the type.
        """
        folder = self.folder / f"{self.manifest['teacher']}-{rows_fingerprint(windows)}-{self.dtype}"
        missing = [name for name in teacher_outputs if not (folder / f"{name}.npy").exists()]
        wait_for_everyone()  # until all have looked
        if missing and is_main_process():
            write_manifest(self.folder, self.manifest)
            folder.mkdir(exist_ok=True)
            self._compute(folder, windows, missing, log)
        elif not missing:
            log(f"teacher's signals: {len(teacher_outputs)} arrays from {folder}")
        wait_for_everyone()
        return CachedTeacher(
            self.teacher, {name: open_array(folder, name) for name in teacher_outputs}, _lengths(windows)
        )

    def _compute(
        self, folder: Path, windows: Sequence[np.ndarray], names: list[str], log: Callable[[str], None]
    ) -> None:
        shape = (sum(_lengths(windows)), self.teacher.model.config.hidden_size)
        size = len(names) * shape[0] * shape[1] * self.dtype.itemsize
        log(f"teacher's signals: {len(names)} arrays of {shape[0]} tokens, {in_gib(size)}, to {folder}")
        require_space(folder, size, "the teacher cache")
        with (
            writing_arrays(folder, names, shape, self.dtype) as files,
            progress("asking the teacher", len(windows), "windows") as advance,
        ):
            for start in range(0, len(windows), _ROWS_AT_ONCE):
                self._write(windows[start : start + _ROWS_AT_ONCE], names, files, advance)

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
            arrays = [_named(teacher_outputs, name).to(torch.float32).numpy(force=True) for name in names]
            for place, i in enumerate(members):
                found[i] = [self._stored(a[place, : len(windows[i])], n) for n, a in zip(names, arrays, strict=True)]
            advance(len(members))
        for i in range(len(windows)):
            for file, values in zip(files, found[i], strict=True):
                file.write(values.tobytes())

    def _stored(self, values: np.ndarray, name: str) -> np.ndarray:
        with np.errstate(over="ignore"):
            stored = values.astype(self.dtype)
        if not np.isfinite(stored).all():
            raise ConfigError(
                f"the teacher's {name} reaches {np.abs(values).max():.3g}, which {self.dtype} cannot hold; set "
                "teacher_cache.dtype to float32"
            )
        return stored


def _named(teacher_outputs: TeacherOutputs, name: str) -> torch.Tensor:
    kind, _, layer = name.partition("-")
    return getattr(teacher_outputs, kind)[int(layer)]


def _lengths(windows: Sequence[np.ndarray]) -> list[int]:
    return [len(window) for window in windows]


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Indices of rows of similar length, at most about `_TOKENS_AT_ONCE` tokens with padding each."""
    members: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if members and lengths[i] * (len(members) + 1) > _TOKENS_AT_ONCE:
            yield members
            members = []
        members.append(i)
    yield members
