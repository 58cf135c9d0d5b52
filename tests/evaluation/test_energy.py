"""A counter is readable only if it was seen to move; zero is never a reading."""

from __future__ import annotations

import itertools

import pytest

from inhibitor_transformers.evaluation import energy


@pytest.mark.parametrize("stuck_at", [0, 123456])
def test_counter_that_does_not_move_is_rejected(stuck_at):
    reason = energy.why_not_readable(lambda: stuck_at, seconds=0.01)
    assert reason is not None
    assert reason.startswith(f"does not move: {stuck_at} again after 0.01 s")


def test_counter_that_moves_is_readable():
    assert energy.why_not_readable(itertools.count().__next__) is None


def test_counter_that_wraps_around_is_readable():
    assert energy.why_not_readable(iter([2**32 - 1, 0]).__next__) is None


def test_slow_counter_is_waited_for():
    values = itertools.chain([7] * 100, itertools.repeat(8))
    assert energy.why_not_readable(values.__next__, seconds=5) is None


def test_forbidden_counter_names_the_remedy():
    def read() -> int:
        raise PermissionError(13, "Permission denied", "/sys/energy_uj")

    assert "chmod a+r /sys/energy_uj" in (energy.why_not_readable(read) or "")


def test_counter_that_holds_no_number_is_rejected(tmp_path, monkeypatch):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "energy_uj").write_text("none\n")
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    ((name, status),) = energy._processor_counters()
    assert name == "processor (intel-rapl:0)"
    assert status.startswith("cannot be read: ")


def test_stuck_zone_is_not_readable(tmp_path, monkeypatch):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "energy_uj").write_text("0\n")
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    ((_, status),) = energy._processor_counters()
    assert status.startswith("does not move: 0 ")


def test_no_counter_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "absent")
    ((_, status),) = energy._processor_counters()
    assert status.startswith("unavailable: ")


def test_every_counter_of_this_machine_has_a_verdict():
    statuses = [status for _, status in energy.energy_counters()]
    assert len(statuses) >= 2
    verdicts = ("readable", "unavailable: ", "does not move: ", "cannot be read: ", "no permission ")
    assert all(status.startswith(verdicts) for status in statuses)
