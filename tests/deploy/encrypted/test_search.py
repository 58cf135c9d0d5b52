"""Private search: distances without a table."""

from __future__ import annotations

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan
from inhibitor_transformers.deploy.encrypted.search import search_graph, thermometer


@pytest.mark.parametrize("qmax", [1, 3, 7])
def test_distances(qmax):
    rng = np.random.default_rng(0)
    keys, queries = rng.integers(0, qmax + 1, (50, 6)), rng.integers(0, qmax + 1, (20, 6))
    plan = EncryptedPlan(search_graph(keys, qmax))
    assert plan.bootstraps == 0
    distances = plan.evaluate(thermometer(queries, qmax)[:, None])
    assert (distances == np.abs(queries[:, None] - keys).sum(-1)).all()
    assert plan.output.bounds == (0, 6 * qmax)


def test_thermometer():
    assert thermometer(np.array([[0, 2, 3]]), 3).tolist() == [[0, 0, 0, 1, 1, 0, 1, 1, 1]]


@pytest.mark.parametrize("levels", [np.array([4]), np.array([-1]), np.array([0.5])])
def test_levels_out_of_range_are_refused(levels):
    with pytest.raises(ValueError, match=r"levels must be integers in \[0, 3\]"):
        thermometer(levels, 3)
    with pytest.raises(ValueError, match="levels must be integers"):
        search_graph(levels[None], 3)


@pytest.mark.parametrize("keys", [np.zeros(3, int), np.zeros((0, 3), int)])
def test_other_keys_are_refused(keys):
    with pytest.raises(ValueError, match=r"keys must be \(N, F\) levels"):
        search_graph(keys, 3)
