"""Loads and checks a task's data, from the Hub or local files, and tokenizes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..common.paths import expand_user
from ..common.progress import progress
from .examples import hub_columns, to_dataset
from .files import Columns, name_classes, read_table
from .folders import split_files, task_folder
from .holdout import HELD_OUT_FRACTION, hold_out, ordered_subset, shuffled_subset
from .own_data import CUSTOM, infer_task, notes_on_labels
from .registry import Task, get_task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

HELD_OUT = "held_out"


@dataclass
class TaskData:
    """Training examples in random order and one dataset per evaluation split, in original order.

    Columns: `task.text_columns` (string) and `task.label_column` (int64 class ids, float32 scores).
    The keys of `evaluation` are `task.evaluation_splits`, the one for model selection first.
    `notes` are sentences about the data: splits held out, subsets sampled, examples that are in both train and
    evaluation, splits with a single label.
    `source` is the local file or folder that it was read from; None for the Hub.
    """

    task: Task
    train: Dataset
    evaluation: dict[str, Dataset]
    notes: list[str] = field(default_factory=list)
    source: Path | None = None


def load_task(
    name: str,
    data: str | Path | None = None,
    *,
    seed: int = 0,
    max_train_examples: int | None = None,
    max_eval_examples: int | None = None,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
) -> TaskData:
    """Load a task of `TASKS`, or the user's own classification data under the name "custom".

    `data`: None for the Hub; a folder, in which data/<group>/<name>/, data/<name>/ and data itself
    are searched for <split>.parquet, .csv, .tsv, .jsonl or .json (shards too). For "custom" a folder
    with train and validation files, or one file. Where no evaluation split is found, a stratified
    20 % of the training examples is held out with `seed` as the split "held_out". `seed` also draws
    the order of the training examples and the subsets of `max_train_examples` and
    `max_eval_examples`. `text_columns` and `label_column` are for "custom" alone.

    Raises ValueError (data that does not fit the task), FileNotFoundError, ConnectionError (Hub).
    """
    _check_limits(max_train_examples=max_train_examples, max_eval_examples=max_eval_examples)
    if name.lower() == CUSTOM:
        loaded = _load_own(data, text_columns, label_column)
    elif text_columns or label_column:
        raise ValueError(f"text and label columns can be named for the task 'custom' only, not for {name!r}")
    elif data is None:
        loaded = _load_hub(get_task(name))
    else:
        loaded = _load_local(get_task(name), expand_user(data))
    loaded.source = None if data is None else expand_user(data)
    if loaded.evaluation:
        loaded.notes.extend(_shared_with_train(loaded))
    else:
        _hold_out(loaded, seed, data)
    loaded = _subsets(loaded, seed, max_train_examples, max_eval_examples)
    loaded.notes.extend(_lacking_labels(loaded))
    return loaded


def encode(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, task: Task, max_length: int) -> Dataset:
    """Tokenize into columns input_ids, attention_mask, labels, and token_type_ids where the tokenizer has them.

    Sequences are cut at `max_length` tokens (of a pair, the longer text first) and not padded: a
    data collator pads per batch. Segment ids of pairs are kept; tokenizers of models without
    segments (DistilBERT, RoBERTa) give none, and then none are made up. Raises ValueError.
    """
    missing = [name for name in (*task.text_columns, task.label_column) if name not in dataset.column_names]
    if missing:
        raise ValueError(f"{task.name}: no column(s) {missing} in the dataset; it has {dataset.column_names}")
    special = tokenizer.num_special_tokens_to_add(pair=task.is_pair)
    if max_length <= special:
        raise ValueError(f"max_length must exceed the {special} special tokens, got {max_length}")

    def tokenize(batch: dict[str, list[str]]) -> dict[str, Any]:
        texts = [batch[name] for name in task.text_columns]
        advance(len(texts[0]))
        return dict(tokenizer(*texts, truncation=True, max_length=max_length))

    labeled = dataset.select_columns([*task.text_columns, task.label_column])
    if task.label_column != "labels":
        labeled = labeled.rename_column(task.label_column, "labels")
    with progress("tokenizing", len(labeled), "examples") as advance, _hide_datasets_bars():
        return labeled.map(
            tokenize,
            batched=True,
            remove_columns=list(task.text_columns),
            keep_in_memory=True,
            new_fingerprint=uuid4().hex,  # of no use in memory, and a bar cannot be hashed
        )


@contextmanager
def _hide_datasets_bars() -> Iterator[None]:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            enable_progress_bars()


def _load_hub(task: Task) -> TaskData:
    import datasets

    try:
        hub = datasets.load_dataset(task.hub_id, task.hub_config)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConnectionError(
            f"{task.name}: cannot load {task.hub_id} ({task.hub_config}) from the Hub: {reason}; "
            "give a local folder with the data instead"
        ) from error
    notes: list[str] = []
    loaded = {}
    for split in (task.train_split, *task.evaluation_splits):
        if split not in hub:
            raise ValueError(f"{task.hub_id} ({task.hub_config}): no split {split!r}; it has {sorted(hub)}")
        source = f"{task.hub_id} ({task.hub_config}) {split}"
        loaded[split] = to_dataset(_hub_table(hub[split], task), task, source, notes)
    return TaskData(task, loaded.pop(task.train_split), loaded, notes)


def _hub_table(split: Dataset, task: Task) -> Columns:
    wanted = [name for name in split.column_names if name in (*task.text_columns, task.label_column)]
    columns: Columns = split.select_columns(wanted).to_dict()
    return name_classes(columns, split.features)


def _load_local(task: Task, data: Path) -> TaskData:
    folder = task_folder(task, data)
    notes: list[str] = []
    train = _read_split(split_files(folder, task.train_split), task, notes)
    files = {split: split_files(folder, split) for split in task.evaluation_splits}
    missing = [split for split, found in files.items() if not found]
    if missing and len(missing) < len(files):
        raise FileNotFoundError(f"{folder}: no file for the split(s) {', '.join(missing)} of {task.name}")
    evaluation = {split: _read_split(found, task, notes) for split, found in files.items() if found}
    return TaskData(task, train, evaluation, notes)


def _read_split(files: list[Path], task: Task, notes: list[str]) -> Dataset:
    from datasets import concatenate_datasets

    return concatenate_datasets(
        [to_dataset(hub_columns(read_table(file), task), task, str(file), notes) for file in files]
    )


def _load_own(data: str | Path | None, text_columns: Sequence[str] | None, label_column: str | None) -> TaskData:
    if data is None:
        raise ValueError("the task 'custom' needs your data: a file, or a folder with train and validation files")
    path = expand_user(data)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    train_files = split_files(path, "train") if path.is_dir() else [path]
    if not train_files:
        raise FileNotFoundError(f"{path}: no train file (such as train.csv) in this folder")
    table = _join_tables([read_table(file) for file in train_files])
    task = infer_task(table, str(train_files[0]), text_columns=text_columns, label_column=label_column)
    kind = "regression (decimal labels)" if task.is_regression else f"classes {', '.join(task.label_names)}"
    notes = [f"{task.name}: text from {'+'.join(task.text_columns)}, {kind} from {task.label_column}"]
    notes += notes_on_labels(task, table[task.label_column])
    train = _read_split(train_files, task, notes)
    evaluation = _own_evaluation(path, task, notes) if path.is_dir() else {}
    task = replace(task, evaluation_splits=tuple(evaluation))
    return TaskData(task, train, evaluation, notes)


def _own_evaluation(folder: Path, task: Task, notes: list[str]) -> dict[str, Dataset]:
    evaluation = {}
    for split in ("validation", "test"):
        files = split_files(folder, split)
        if split == "test" and any(task.label_column not in read_table(file) for file in files):
            notes.append(f"{task.name}: {files[0]} has no column {task.label_column!r} and is left out")
        elif files:
            evaluation[split] = _read_split(files, task, notes)
    return evaluation


def _join_tables(tables: list[Columns]) -> Columns:
    common = [name for name in tables[0] if all(name in table for table in tables)]
    return {name: [value for table in tables for value in table[name]] for name in common}


def _shared_with_train(loaded: TaskData) -> list[str]:
    task = loaded.task

    def texts(dataset: Dataset) -> list[tuple[str, ...]]:
        return list(zip(*(dataset[name][:] for name in task.text_columns), strict=True))

    trained, notes = set(texts(loaded.train)), []
    for split, dataset in loaded.evaluation.items():
        count = sum(text in trained for text in texts(dataset))
        shared = f"{task.name}: {count} of {len(dataset)} {split} examples are also training examples"
        if count:
            notes.append(f"{shared}: scores there measure memorization" if count == len(dataset) else shared)
    return notes


def _lacking_labels(loaded: TaskData) -> list[str]:
    task, notes = loaded.task, []
    for split, dataset in {"training": loaded.train, **loaded.evaluation}.items():
        labels = set(dataset[task.label_column][:])
        if len(labels) == 1:
            (label,) = labels
            name = label if task.is_regression else repr(task.label_names[label])
            notes.append(f"{task.name}: every one of the {len(dataset)} {split} examples has the label {name}")
    trained = set(loaded.train[task.label_column][:])
    lacking = [name for i, name in enumerate(task.label_names) if i not in trained]
    if lacking and len(trained) > 1:
        notes.append(f"{task.name}: no training example has the label {', '.join(lacking)}")
    return notes


def _hold_out(loaded: TaskData, seed: int, data: str | Path | None) -> None:
    name, wanted = loaded.task.name, " or ".join(loaded.task.evaluation_splits) or "validation"
    loaded.train, held_out = hold_out(loaded.train, loaded.task, seed=seed, source=str(data))
    loaded.evaluation = {HELD_OUT: held_out}
    loaded.task = replace(loaded.task, evaluation_splits=(HELD_OUT,))
    how = "random" if loaded.task.is_regression else "stratified"
    loaded.notes.append(
        f"{name}: no {wanted} split in {data}; a {how} {HELD_OUT_FRACTION:.0%} of train (seed {seed}) is held out"
    )


def _subsets(loaded: TaskData, seed: int, max_train: int | None, max_eval: int | None) -> TaskData:
    sizes = {split: len(dataset) for split, dataset in loaded.evaluation.items()}
    limits = {loaded.task.train_split: (len(loaded.train), max_train)}
    limits |= {split: (size, max_eval) for split, size in sizes.items()}
    for split, (size, limit) in limits.items():
        if limit is not None and limit < size:
            loaded.notes.append(f"{loaded.task.name}: {limit} of {size} {split} examples are used (seed {seed})")
    loaded.train = shuffled_subset(loaded.train, max_train, seed)
    loaded.evaluation = {
        split: ordered_subset(examples, max_eval, seed) for split, examples in loaded.evaluation.items()
    }
    return loaded


def _check_limits(**limits: int | None) -> None:
    for name, limit in limits.items():
        if limit is not None and limit < 1:
            raise ValueError(f"{name} must be at least 1, got {limit}")
