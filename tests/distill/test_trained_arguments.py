"""What Trainer could not use is refused when the settings are made, not when the output folder is there."""

from __future__ import annotations

from typing import Any

import pytest

from inhibitor_transformers.common.errors import ConfigError
from inhibitor_transformers.distill.finetune_arguments import FinetuneArguments
from inhibitor_transformers.distill.trained_arguments import TrainedArguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"report_to": "nope"}, "report_to: nope is not supported"),
        ({"report_to": "comet_ml"}, "report_to: CometCallback requires"),
        ({"optim": "lomo"}, "optim lomo: You need to install"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_type cosine_with_min_lr: One of min_lr"),
        ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"power": 2}}, "lr_scheduler_type linear: .*power"),
    ],
)
@pytest.mark.parametrize("kind", [TrainedArguments, FinetuneArguments])
def test_it_is_named(kind: type[Any], settings: dict[str, Any], message: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(output_dir=str(tmp_path / "out"), use_cpu=True, **settings)
    assert not (tmp_path / "out").exists()


def test_what_trainer_can_use(tmp_path: Any) -> None:
    settings = {"report_to": "none", "optim": "sgd", "lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {}}
    TrainedArguments(output_dir=str(tmp_path / "out"), use_cpu=True, **settings)
