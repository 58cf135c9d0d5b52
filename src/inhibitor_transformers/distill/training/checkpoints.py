"""Trainer's checkpoints and saved models: which of them training can go on from, and why not from the others.

A file that a full disk or a lost machine cut off is found by its own structure, without reading what it holds.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ...common.settings import require

Log = Callable[[str], None]

_RANDOM_STATES = "rng_state*.pth"


def require_trainable(config: PretrainedConfig, what: str) -> None:
    """Raise ConfigError for a quantized model: its whole numbers have no gradient."""
    quantized = getattr(config, "quantization_config", None) is not None
    require(not quantized, f"{what} is quantized, which cannot be trained; train what it was made from, then quantize")


def checkpoint_to_resume(folder: Path, log: Log, what: str) -> Path | None:
    """`last_whole_checkpoint`; `log` hears that `what` ("the stage") goes on from it, or that it starts anew."""
    checkpoint = last_whole_checkpoint(folder, log)
    if checkpoint is not None:
        log(f"resuming from {checkpoint.name}")
    elif any(folder.glob("checkpoint-*")):
        log(f"no checkpoint is whole: {what} starts anew")
    return checkpoint


def last_whole_checkpoint(folder: Path, log: Log = lambda _: None) -> Path | None:
    """The newest checkpoint-N in `folder` that training goes on from exactly; None if there is none.

    Of those that are passed over, `log` hears which and why.
    """
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    for path in sorted(numbered, key=_number, reverse=True):
        fault = _checkpoint_fault(path)
        if fault is None:
            return path
        log(f"{path} is passed over: {fault}")
    return None


class BestStaysBeside(TrainerCallback):
    """Finds the best checkpoint beside the others, also where their folder was moved since it was written."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        best = Path(str(args.output_dir)) / f"checkpoint-{state.best_global_step}"
        if state.best_global_step and best.is_dir():
            state.best_model_checkpoint = str(best)


def best_checkpoint(checkpoint: Path) -> Path | None:
    """The checkpoint with the best score until this one, which stands beside it; None if nothing was scored."""
    best = _state(checkpoint).get("best_global_step")
    return None if not best else checkpoint.with_name(f"checkpoint-{best}")


def had_ended(checkpoint: Path) -> bool:
    """Whether training was over with this checkpoint: all steps done, or stopped early."""
    control = _state(checkpoint).get("stateful_callbacks", {}).get("TrainerControl", {})
    return bool(control.get("args", {}).get("should_training_stop"))


def model_fault(folder: Path) -> str | None:
    """Why the model saved in `folder` cannot be loaded ("config.json is missing", …); None if it can."""
    needed = [CONFIG_NAME] if (folder / SAFE_WEIGHTS_INDEX_NAME).exists() else [CONFIG_NAME, SAFE_WEIGHTS_NAME]
    return _folder_fault(folder, needed)


def _checkpoint_fault(checkpoint: Path) -> str | None:
    if fault := _folder_fault(checkpoint, [TRAINER_STATE_NAME, OPTIMIZER_NAME, SCHEDULER_NAME]):
        return fault
    if not any(checkpoint.glob(_RANDOM_STATES)):
        return "rng_state.pth is missing"
    if fault := model_fault(checkpoint):
        return fault
    best = best_checkpoint(checkpoint)
    if best is not None and (fault := model_fault(best)):
        return f"the best until then, {best.name}, is damaged ({fault})"
    return None


def _folder_fault(folder: Path, needed: list[str]) -> str | None:
    for name in needed:
        if not (folder / name).is_file():
            return f"{name} is missing"
    for file in sorted(folder.iterdir()):
        if (look := _LOOKS.get(file.suffix)) and (fault := look(file)):
            return f"{file.name} {fault}"
    return None


def _json_fault(file: Path) -> str | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return "is cut off or no JSON"
    if file.name == SAFE_WEIGHTS_INDEX_NAME:
        return _index_fault(file.parent, found)
    return None if isinstance(found, dict) or file.name != TRAINER_STATE_NAME else "holds no state"


def _index_fault(folder: Path, index: Any) -> str | None:
    """Shards of two saves fit together only by chance: each must hold just the tensors that the index says it does."""
    if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
        return "holds no weight_map"
    tensors: dict[str, set[str]] = {}
    for tensor, shard in index["weight_map"].items():
        tensors.setdefault(shard, set()).add(tensor)
    for shard, names in sorted(tensors.items()):
        if not (folder / shard).is_file():
            return f"names {shard}, which is missing"
        if fault := _safetensors_fault(folder / shard):
            return f"names {shard}, which {fault}"
        with safe_open(folder / shard, "pt") as opened:
            if set(opened.keys()) != names:
                return f"names other tensors than {shard} holds: they are from different saves"
    return None


def _safetensors_fault(file: Path) -> str | None:
    try:
        with safe_open(file, "pt"):  # compares the sizes of all tensors with that of the file
            return None
    except (SafetensorError, OSError):
        return "is cut off or no safetensors file"


def _archive_fault(file: Path) -> str | None:
    try:
        with zipfile.ZipFile(file):  # its directory is at the end
            return None
    except (zipfile.BadZipFile, OSError):
        return "is cut off"


_LOOKS: dict[str, Callable[[Path], str | None]] = {
    ".json": _json_fault,
    ".safetensors": _safetensors_fault,
    ".pt": _archive_fault,
    ".pth": _archive_fault,
}


def _state(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    return state


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
