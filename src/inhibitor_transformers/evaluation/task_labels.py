"""Whether a model's outputs are the labels of a task: scores of other labels would be numbers without a meaning."""

from __future__ import annotations

from transformers import PretrainedConfig

from ..models.labels import label_names, order_of
from ..tasks import Task


def label_order(config: PretrainedConfig, task: Task, source: str) -> list[int]:
    """Of each label of the task the place among the model's outputs.

    Names decide where the model has some, whatever their order; outputs named LABEL_0, LABEL_1, … are taken as they
    stand, and so are the Hub's ids, "0", "1", …, of a known task. Raises ValueError for other names, another number of
    labels, and a classifier for a regression or the other way round. `source` names the model.
    """
    count, kind = config.num_labels, getattr(config, "problem_type", None)
    if count != task.num_labels:
        raise ValueError(f"{source} has {count} labels, {task.name} has {task.num_labels}")
    if kind not in (None, task.problem_type):
        raise ValueError(f"{source} was made for {kind}, {task.name} is a {task.problem_type}")
    names, as_they_stand = label_names(config), list(range(count))
    if names is None or task.is_regression or (task.hub_id and names == [str(i) for i in as_they_stand]):
        return as_they_stand
    order = order_of(task.label_names, names)
    if order is None:
        raise ValueError(
            f"{source} tells {', '.join(names)} apart, {task.name} {', '.join(task.label_names)}: it was made for "
            "other labels, or calls them otherwise (then give its config.json the task's names, as id2label)"
        )
    return order


def is_as_it_stands(order: list[int]) -> bool:
    """Whether the model's outputs are in the task's order."""
    return order == sorted(order)
