"""Progress: silent unless asked for, a bar on a terminal, plain lines elsewhere, and messages that stay readable."""

from __future__ import annotations

import logging
import sys
import time
import warnings

import pytest

from inhibitor_transformers.common import progress as module
from inhibitor_transformers.common.progress import above_bars, can_redraw, progress, showing_progress, track
from tests.terminal import screen, terminal


@pytest.fixture
def quick(monkeypatch) -> None:
    """A clock that goes fast."""
    monkeypatch.setattr(module, "_TICK", 0.01)
    monkeypatch.setattr(module, "_FIRST_LINE", 0.02)


@pytest.mark.usefixtures("quick")
class TestSilence:
    def test_a_library_shows_nothing(self, capsys):
        with progress("reading", 10) as advance:
            advance(5)
            time.sleep(0.1)
        assert list(track([1, 2, 3], "reading")) == [1, 2, 3]
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("name", ["RANK", "OMPI_COMM_WORLD_RANK"])
    def test_of_several_processes_the_first_alone_shows_it(self, name, capsys, monkeypatch):
        monkeypatch.setenv(name, "1")
        with showing_progress(), progress("reading", 10) as advance:
            advance(5)
            time.sleep(0.1)
        assert capsys.readouterr().err == ""

    def test_a_process_forked_from_it_shows_nothing(self, capsys, monkeypatch):
        with showing_progress():
            monkeypatch.setattr("os.getpid", lambda: -1)
            with progress("reading", 10) as advance:
                advance(5)
                time.sleep(0.1)
        assert capsys.readouterr().err == ""

    def test_it_ends_with_the_block(self, capsys):
        with showing_progress():
            pass
        with progress("reading", 10) as advance:
            advance(5)
            time.sleep(0.1)
        assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("quick")
class TestLines:
    def test_a_count_in_plain_lines(self, capsys):
        with showing_progress(), progress("reading", 2000, "rows") as advance:
            advance(1500)
            time.sleep(0.3)
        written = capsys.readouterr().err
        assert written.startswith("reading: 1,500 of 2,000 rows, 0 s\n")
        assert not set("\r\x1b") & set(written)

    def test_lines_become_rarer(self, capsys):
        with showing_progress(), progress("reading") as advance:
            advance(1)
            time.sleep(0.5)
        assert 1 <= capsys.readouterr().err.count("\n") <= 6  # at 0.02, 0.04, 0.08, 0.16, 0.32 s

    def test_a_short_phase_says_nothing(self, capsys, monkeypatch):
        monkeypatch.setattr(module, "_FIRST_LINE", 60.0)
        with showing_progress():
            assert list(track(range(3), "reading")) == [0, 1, 2]
        assert capsys.readouterr().err == ""


class TestBar:
    def test_a_count_at_once_and_nothing_left(self, monkeypatch):
        with terminal(monkeypatch, "stderr") as shown, showing_progress():
            for _ in track(range(1000), "predicting", unit="rows"):
                pass
        written = shown.close()
        assert "predicting 0/1000 rows |" in written
        assert screen(written) == [""]

    def test_a_count_without_a_total(self, monkeypatch):
        with terminal(monkeypatch, "stderr") as shown, showing_progress(), progress("reading", unit="texts") as advance:
            advance(12)
        assert "reading 0 texts, 00:00" in shown.close()

    def test_it_goes_on_while_a_step_takes_long(self, monkeypatch):
        monkeypatch.setattr(module, "_TICK", 0.01)
        with terminal(monkeypatch, "stderr") as shown, showing_progress(), progress("exporting", 3):
            time.sleep(0.3)
        assert shown.close().count("exporting 0/3") > 3

    @pytest.mark.parametrize("columns", [0, 20, 40])
    def test_the_count_is_seen_however_narrow_the_terminal(self, columns, monkeypatch):
        with terminal(monkeypatch, "stderr", columns=columns) as shown, showing_progress(), progress("rows", 67349):
            pass
        written = shown.close()
        assert "rows 0/67349" in written
        assert columns == 0 or max(map(len, written.replace("\r", "\n").split("\n"))) <= columns

    def test_a_phase_within_a_phase(self, monkeypatch):
        with terminal(monkeypatch, "stderr") as shown, showing_progress():
            for _ in track(range(2), "models"):
                for _ in track(range(5), "embedding", unit="texts"):
                    pass
        written = shown.close()
        assert "embedding 0/5 texts" in written
        assert not any(screen(written))

    def test_a_loop_that_an_error_leaves_has_no_bar_any_more(self, monkeypatch):
        """The generator may live on in the traceback, and the error would be written into its bar."""

        def fail() -> None:
            with showing_progress():
                rows = track(range(1000), "reading")
                for _ in rows:
                    raise ValueError("wrong")

        with terminal(monkeypatch, "stderr") as shown:
            with pytest.raises(ValueError, match="wrong") as kept:
                fail()
            print(f"error: {kept.value}", file=sys.stderr)
        assert screen(shown.close()) == ["error: wrong", ""]


class TestMessages:
    def test_they_stand_above_the_bar(self, monkeypatch):
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: print(f"warning: {message}", file=sys.stderr))
        with terminal(monkeypatch, "stderr", "stdout") as shown, showing_progress(), progress("reading", 10) as advance:
            warnings.showwarning(UserWarning("slow"), UserWarning, "file.py", 1)
            with above_bars():
                print("a line")
            advance(1)
        lines = [line for line in screen(shown.close()) if line]
        assert lines == ["warning: slow", "a line"]

    def test_the_package_s_log(self, monkeypatch):
        logger = logging.getLogger("inhibitor_transformers.tasks.text")
        for name in (None, "inhibitor_transformers"):  # pytest's own handlers
            monkeypatch.setattr(logging.getLogger(name), "handlers", [])
        with terminal(monkeypatch, "stderr") as shown, showing_progress(), progress("reading", 10):
            logger.warning("left out: %s", "a.csv")
        assert screen(shown.close()) == ["left out: a.csv", ""]
        assert logging.getLogger("inhibitor_transformers").handlers == []

    def test_warnings_are_as_before_afterwards(self, monkeypatch):
        before = warnings.showwarning
        with terminal(monkeypatch, "stderr"), showing_progress():
            assert warnings.showwarning is not before
        assert warnings.showwarning is before


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("CI", "true")])
def test_where_a_line_cannot_be_written_anew(name, value, monkeypatch):
    with terminal(monkeypatch, "stderr") as shown:
        assert can_redraw(sys.stderr)
        monkeypatch.setenv(name, value)
        assert not can_redraw(sys.stderr)
        with showing_progress(), progress("reading", 10) as advance:
            advance(1)
    assert shown.close() == ""
    assert not can_redraw(None)
