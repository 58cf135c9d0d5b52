"""Settings of the stages: their defaults, and what is refused."""

from __future__ import annotations

import pytest

from inhibitor_transformers.common.settings import ConfigError
from inhibitor_transformers.distill.stages.align_attention import AlignAttention
from inhibitor_transformers.distill.stages.align_hidden import AlignHidden
from inhibitor_transformers.distill.stages.calibrate import Calibrate
from inhibitor_transformers.distill.stages.masked_lm import MaskedLM
from tests.distill.test_config import stage


class TestStages:
    def test_the_weights_of_the_triple_loss_are_those_of_inhibidistilbert(self):
        """arXiv 2503.15983: 5, 1, 2 at temperature 2; DistilBERT itself was trained with 5, 2, 1."""
        made = stage("masked_lm", {})
        assert isinstance(made, MaskedLM)
        assert (made.alpha_ce, made.alpha_mlm, made.alpha_cos, made.temperature) == (5.0, 1.0, 2.0, 2.0)

    def test_dropout_is_off_where_the_teacher_is_matched(self):
        assert not AlignAttention.dropout
        assert not AlignHidden.dropout
        assert MaskedLM.dropout

    @pytest.mark.parametrize(
        ("name", "settings", "message"),
        [
            ("calibrate", {"lengths": []}, "calibrate.lengths must be a list of at least 8 tokens each"),
            ("calibrate", {"lengths": [4, 16]}, "calibrate.lengths must be a list of at least 8 tokens each"),
            ("calibrate", {"tokens_per_length": 64}, "calibrate.tokens_per_length must hold one longest text"),
            ("calibrate", {"gammas": []}, "calibrate.gammas must be a list of numbers"),
            ("calibrate", {"length_exponents": 0.5}, "calibrate.length_exponents must be a list of numbers"),
            ("align_hidden", {"cls_weight": -1.0}, "cls_weight must not be negative"),
            ("align_hidden", {"pooled_weight": -1.0}, "pooled_weight must not be negative"),
            ("align_attention", {"pair_fraction": 1.5}, "pair_fraction must be from 0 to 1"),
            ("align_attention", {"frozen_scalars": "gamma"}, "frozen_scalars must be a list of gamma, .*, got 'gamma'"),
            ("align_attention", {"frozen_scalars": 5}, "frozen_scalars must be a list of gamma, .*, got 5"),
            ("align_attention", {"frozen_scalars": None}, "frozen_scalars must be a list of gamma, .*, got None"),
            ("align_attention", {"frozen_scalars": [5]}, r"frozen_scalars must be a list of gamma, .*, got \[5\]"),
            (
                "align_attention",
                {"frozen_scalars": ["rho"]},
                r"frozen_scalars must be a list of gamma, .*, got \['rho'\]",
            ),
            ("align_attention", {"eval_strategy": "steps"}, "^align_attention.eval_strategy cannot be used"),
            ("align_attention", {"eval_on_start": True}, "^align_attention.eval_on_start cannot be used"),
            ("align_attention", {"fsdp": "full_shard"}, "^align_attention.fsdp cannot be used"),
            ("align_attention", {"dataloader_drop_last": True}, "^align_attention.dataloader_drop_last cannot be used"),
            ("calibrate", {"max_steps": 3}, "stage 'calibrate' has no setting 'max_steps'"),
            ("align_attention", {"lengths": 64}, "align_attention.lengths must be a list .* got 64"),
            ("align_attention", {"lengths": "32,64"}, "align_attention.lengths must be a list .* got '32,64'"),
            ("align_attention", {"max_steps": 0}, "align_attention.max_steps must be positive, got 0"),
            (
                "align_attention",
                {"tokens_per_step": 255},
                r"tokens_per_step \(255\) must hold the longest text \(256\)",
            ),
            ("align_hidden", {"scalar_learning_rate_factor": -1}, "scalar_learning_rate_factor must not be negative"),
            ("masked_lm", {"temperature": 0}, "masked_lm.temperature must be positive, got 0"),
            ("masked_lm", {"alpha_cos": -1.0}, "masked_lm.alpha_cos must not be negative, got -1"),
            ("masked_lm", {"alpha_ce": 0, "alpha_mlm": 0, "alpha_cos": 0}, "one of masked_lm's .* must be positive"),
            ("align_hidden", {"learning_rate": 0}, "^align_hidden.learning_rate must be positive, got 0"),
            ("align_hidden", {"max_steps": -1}, "align_hidden.max_steps must be positive, got -1"),
            ("align_attention", {"save_steps": -5}, "align_attention.save_steps must be positive, got -5"),
            ("calibrate", {"gammas": [1.0, float("nan")]}, "each of calibrate.gammas must be positive, got nan"),
            ("calibrate", {"gammas": [0.0]}, "each of calibrate.gammas must be positive, got 0.0"),
            ("calibrate", {"deltas": [float("inf")]}, "each of calibrate.deltas must be a finite number, got inf"),
            ("calibrate", {"length_exponents": [True]}, "each of calibrate.length_exponents must be a finite number"),
        ],
    )
    def test_what_is_out_of_range(self, name, settings, message):
        with pytest.raises(ConfigError, match=message):
            stage(name, settings)

    def test_calibration_has_no_trainer(self):
        assert isinstance(stage("calibrate", {}, use_cpu=True), Calibrate)
