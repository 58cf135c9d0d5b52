"""What all commands share: help, errors in one line, interruptions, devices, and a start without torch."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch
import typer

from inhibitor_transformers.cli.app import app, main
from inhibitor_transformers.cli.console import log, output
from inhibitor_transformers.cli.options import choose_device, resolve_model, torch_device
from tests.terminal import screen, terminal

_ALL = typer.main.get_command(app).commands  # type: ignore[attr-defined]
_ENCRYPTED = _ALL["encrypted"].commands
# Those of a group by their two words.
COMMANDS = {name: command for name, command in _ALL.items() if name != "encrypted"} | {
    f"encrypted {name}": command for name, command in _ENCRYPTED.items()
}


def test_the_commands():
    assert list(COMMANDS) == [
        "quickstart",
        "convert",
        "distill",
        "finetune",
        "study",
        "evaluate",
        "report",
        "quantize",
        "export",
        "hardware",
        "env",
        "encrypted train",
        "encrypted plan",
        "encrypted compile",
        "encrypted keys",
        "encrypted serve",
        "encrypted ask",
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, inhibit):
    done = inhibit(*name.split(), "--help")
    assert done.status == 0
    assert done.err == ""
    assert f"Usage: inhibit {name} [OPTIONS]" in done.out
    assert COMMANDS[name].help.strip().splitlines()[0].split(".")[0][:40] in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_and_option_is_explained(name):
    unexplained = [p.name for p in COMMANDS[name].params if not getattr(p, "help", None)]
    assert unexplained == []


@pytest.mark.parametrize("name", ["quickstart", "convert", "distill", "finetune", "evaluate"])
def test_commands_that_compute_have_seed_and_device(name):
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {"--seed", "--device", "--overwrite", "--threads"} <= options
    assert options & {"--output", "output"}


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_without_a_command_the_help_is_shown(arguments, inhibit):
    done = inhibit(*arguments)
    shown = done.out + done.err
    assert all(name in shown for name in _ALL)


def test_an_unknown_command(inhibit):
    done = inhibit("destill")
    assert done.status == 2
    assert "No such command 'destill'" in done.err
    assert "Traceback" not in done.err


def test_an_unknown_option(inhibit):
    done = inhibit("env", "--color")
    assert done.status == 2
    assert "--color" in done.err


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("inhibitor_transformers.evaluation.environment.environment", fail)


@pytest.mark.parametrize("error", [ValueError, OSError, FloatingPointError, FileNotFoundError, ConnectionError])
def test_an_expected_error_is_one_line_and_status_2(error, refused, monkeypatch):
    failing(monkeypatch, error("[red] cannot\n  do that:\n\n\tnothing is there"))
    assert refused("env") == "error: [red] cannot do that: nothing is there"


def test_a_lack_of_memory_is_one_line(refused, monkeypatch):
    failing(monkeypatch, MemoryError("numpy: 80 GiB"))
    assert refused("env") == "error: numpy: 80 GiB"
    failing(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    assert refused("env") == "error: CUDA out of memory"
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    failing(monkeypatch, error.value)
    assert "can't allocate memory" in refused("env")


@pytest.mark.parametrize("error", [RuntimeError, KeyError, TypeError, IndexError, AssertionError])
def test_a_fault_of_ours_keeps_its_traceback(error, monkeypatch):
    failing(monkeypatch, error("shapes differ"))
    monkeypatch.setattr(sys, "argv", ["inhibit", "env"])
    with pytest.raises(error, match="shapes differ"):
        main()


def test_a_long_error_is_not_wrapped(refused, monkeypatch):
    failing(monkeypatch, ValueError("word " * 200))
    assert refused("env").count("word") == 200


def test_an_error_without_words_is_named(refused, monkeypatch):
    failing(monkeypatch, ValueError())
    assert refused("env") == "error: ValueError"


def test_a_traceback_can_be_asked_for(inhibit, monkeypatch):
    failing(monkeypatch, ValueError("no"))
    monkeypatch.setenv("INHIBIT_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["inhibit", "env"])
    from inhibitor_transformers.cli import main

    monkeypatch.setenv("INHIBIT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no"):
        main()


def test_a_mistake_of_ours_keeps_its_traceback(inhibit, monkeypatch):
    failing(monkeypatch, KeyError("gamma"))
    with pytest.raises(KeyError):
        inhibit("env")


def test_an_interruption_says_how_to_go_on(inhibit, monkeypatch):
    failing(monkeypatch, KeyboardInterrupt())
    done = inhibit("env")
    assert done.status == 130
    assert done.err == "interrupted; distill and finetune go on with --resume\n"


def test_env(inhibit):
    done = inhibit("env")
    assert done.status == 0
    for word in ("torch", "transformers", "engines", "reference", "CUDA"):
        assert word in done.out


def test_env_shows_brackets_as_they_are(inhibit, monkeypatch):
    """Rich takes [quickstart] for a style, and would leave it out of the line that says what to install."""
    fact = ("extras", "quickstart", "missing matplotlib: pip install 'inhibitor-transformers[quickstart]'")
    monkeypatch.setattr("inhibitor_transformers.evaluation.environment.environment", lambda: [fact])
    assert fact[2] in inhibit("env").out


def test_env_on_a_narrow_terminal_loses_nothing(inhibit, monkeypatch):
    facts = [("packages", "torch", "2.13.0 (supported: >=2.13, <3)"), ("engines", "cpu", "/a/path/" + "long" * 30)]
    monkeypatch.setattr("inhibitor_transformers.evaluation.environment.environment", lambda: facts)
    monkeypatch.setenv("COLUMNS", "40")
    assert all(value in inhibit("env").out for fact in facts for value in fact)


@pytest.mark.parametrize("columns", ["0", "40", None])
def test_a_message_is_one_line_in_a_file(columns, monkeypatch, capsys):
    """It was broken at 80 characters, in the middle of a path; at a width of 0 nothing was written at all."""
    monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS", raising=False)
    line = "saved in " + "/a-folder" * 30 + " [bold]"
    log(line)
    assert capsys.readouterr().out == f"{line}\n"


@pytest.mark.parametrize("columns", ["0", "40"])
def test_an_error_is_one_line_whatever_the_width(columns, refused, monkeypatch):
    """At a width of 0 there was none."""
    failing(monkeypatch, ValueError("a long reason " * 20))
    monkeypatch.setenv("COLUMNS", columns)
    assert refused("env") == f"error: {'a long reason ' * 20}".strip()


@pytest.mark.parametrize("columns", ["0", "1", "-3", "many"])
def test_a_width_that_is_none_is_not_taken(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert output().width >= 20


def test_a_character_that_stdout_does_not_know_ends_no_command(monkeypatch):
    """On a stdout in Latin-1 a minus sign in the last table was a UnicodeEncodeError after hours of work."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("inhibitor_transformers.evaluation.environment.environment", lambda: [("a", "−", "≥")])
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "argv", ["inhibit", "env"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    file.flush()
    assert file.buffer.getvalue() == b"a\n  \\u2212  \\u2265\n"


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_an_error_without_colors(name, inhibit, monkeypatch):
    failing(monkeypatch, ValueError("wrong"))
    with terminal(monkeypatch, "stderr") as shown:
        monkeypatch.setenv(name, "dumb")
        inhibit("env")
    assert screen(shown.close())[-2:] == ["error: wrong", ""]


class TestDevice:
    @pytest.mark.parametrize(("accelerator", "expected"), [(True, {}), (False, {"use_cpu": True})])
    def test_auto_leaves_the_choice_to_trainer_where_there_is_one(self, accelerator, expected, monkeypatch):
        """With an accelerator nothing is set, so that a YAML's use_cpu holds."""
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
        assert choose_device("auto") == expected

    def test_cpu(self):
        assert choose_device("cpu") == {"use_cpu": True}
        assert str(torch_device("cpu")) == "cpu"

    def test_a_device_that_is_not_there(self, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        with pytest.raises(
            ValueError, match="--device cuda: this machine has none that torch can use; leave --device out"
        ):
            choose_device("cuda")

    def test_a_device_that_is_there(self, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        assert choose_device("cuda") == {"use_cpu": False}
        assert str(torch_device("cuda")) == "cuda"

    def test_an_unknown_device(self, refused):
        assert "--device must be one of auto, cpu, cuda, mps, got 'gpu'" in refused(
            "convert", "x", "y", "--device", "gpu"
        )

    def test_auto_takes_an_accelerator_where_there_is_one(self, monkeypatch):
        monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
        monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device("meta"))
        assert str(torch_device("auto")) == "meta"
        monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
        assert str(torch_device("auto")) == "cpu"


class TestResolveModel:
    def test_a_folder_or_hub_id_is_left_as_it_is(self):
        assert resolve_model("some/model") == "some/model"

    def test_minilm_is_the_model_of_the_installed_package(self, minilm_path):
        assert resolve_model("minilm") == str(minilm_path)

    def test_without_the_package_the_alternative_is_named(self, monkeypatch, refused, tmp_path):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        message = refused("quickstart", "--output", tmp_path / "out")
        assert "pip install 'inhibitor-transformers[quickstart]', or name another teacher" in message


def test_help_needs_neither_torch_nor_transformers():
    code = """
import sys
from inhibitor_transformers.cli import main
commands = ["distill", "finetune", "evaluate", "convert", "quickstart", "quantize", "export", "env"]
for command in ([], *([name] for name in commands)):
    sys.argv = ["inhibit", *command, "--help"]
    try:
        main()
    except SystemExit as stopped:
        assert stopped.code == 0
loaded = {"torch", "transformers", "datasets", "numpy", "yaml"} & sys.modules.keys()
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_installed_command_fails_as_promised(tmp_path):
    """The real process, once: status 2 and one line."""
    code = "from inhibitor_transformers.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "convert", "a/teacher", str(tmp_path / "run"), "--device", "gpu"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: --device must be one of auto, cpu, cuda, mps, got 'gpu'\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "old", "new"),
    [
        (("convert", "minilm", "out"), "--dot-product", "--softmax"),
        (("distill", "run.yaml", "--output", "out"), "--start", "--init-from"),
        (("distill", "run.yaml", "--output", "out"), "--start=student", "--init-from"),
    ],
)
def test_a_former_option_is_refused_by_its_new_name(arguments, old, new, refused):
    assert refused(*arguments, old) == f"error: no such option {old.partition('=')[0]}: it is called {new} now"


def test_a_former_option_of_another_command_is_simply_unknown(inhibit):
    done = inhibit("env", "--start", "x")
    assert done.status == 2
    assert "No such option: --start" in done.err
