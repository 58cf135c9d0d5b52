"""Each benchmark runs on a tiny shape and writes whole tables. Times are never asserted."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import DistilBertConfig

from inhibitor_transformers.attention.cpu import library
from tests.models.tiny import WORDS, save_tokenizer, tiny_student, tiny_teacher
from tests.scripts import Script

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)

NUMBER = re.compile(r"-?\d[\d.]*")


@pytest.fixture(autouse=True)
def _no_tests_within_tests(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of the operation pass, without being run."""
    monkeypatch.setattr(script("require_tests").subprocess, "run", passing(script("require_tests").subprocess.run))


def passing(run: Callable) -> Callable:
    return lambda command, **options: SimpleNamespace(returncode=0) if "pytest" in command else run(command, **options)


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """Folder of a student; text of its tokenizer's words is in text.txt within."""
    folder = tmp_path / "student"
    tiny_student().save_pretrained(folder)
    save_tokenizer(folder)
    (folder / "text.txt").write_text(" ".join(WORDS * 20))
    return folder


def tables(file: Path) -> list[list[list[str]]]:
    """Header and rows of every Markdown table, as cells; each row has as many as the header."""
    found = re.findall(r"(?:^\|.*\n)+", file.read_text(), flags=re.MULTILINE)
    split = [[line[2:-2].split(" | ") for line in table.splitlines() if "|---|" not in line] for table in found]
    for header, *rows in split:
        assert rows
        assert all(len(row) == len(header) for row in rows), header
    return split


@pytest.mark.slow
def test_attention_with_a_student(script: Script, student: Path, tmp_path: Path) -> None:
    output, kernels = tmp_path / "table.md", library.load()
    before = kernels.isa
    inputs = ["--student", str(student), "--text", str(student / "text.txt"), "--lengths", "8", "16"]
    shapes = ["--shape", "2,1,5,4"]
    script("attention").main(["--threads", "1", *shapes, *inputs, "--seconds", "0", "--output", str(output)])
    generation, forward, both, *of_sets = tables(output)
    assert {row[0] for row in generation[1:]} == {"causal prefill", "window of 256", "decoding"}
    names = ["gaussian"] + ["aligned, layer 0", "aligned, layer 1", "**aligned, 2 layers**"] * 2
    for table in (forward, both):
        assert [row[0] for row in table[1:]] == names
        assert [row[1] for row in table[1:]] == ["2×1×5×4"] + ["8×2×8×8"] * 3 + ["8×2×16×8"] * 3
        for row in table[1:]:
            needs_no_compiler = [
                i for i, column in enumerate(table[0]) if column not in ("MiB ours, SDPA", "of the roofline")
            ]
            assert all(NUMBER.match(row[i]) for i in needs_no_compiler[2:]), row
    assert len(of_sets) == (3 if len(kernels.isas) > 1 else 0)
    assert kernels.isa == before


def test_attention_quickly(script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where memory and roofline cannot be measured."""
    attention, output = script("attention"), tmp_path / "table.md"
    monkeypatch.setattr(attention, "extra_memory", lambda *_: None)
    monkeypatch.setattr(attention, "roofline", lambda *_: {})
    monkeypatch.setattr(attention, "integer_roofline", lambda *_: 0.0)
    monkeypatch.setattr(attention.generation, "CASES", attention.generation.CASES[:1])
    shapes = ["--shape", "1,1,4,4", "1,2,9,8"]
    attention.main(["--threads", "1", "1", *shapes, "--quick", "--seconds", "0", "--output", str(output)])
    found = [table for table in tables(output) if table[1][0] != "causal prefill"]
    assert len(found) == 4
    assert all([row[1] for row in table[1:]] == ["1×1×4×4", "1×2×9×8"] for table in found)
    for column in ("cdist / SDPA", "naive / SDPA", "of the roofline"):
        assert {row[found[0][0].index(column)] for row in found[0][1:]} == {"-"}


def test_attention_of_long_sequences(script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attention, output = script("attention"), tmp_path / "table.md"
    monkeypatch.setattr(attention, "extra_memory", lambda side, *_: {"fused": (1.5, 9.0), "softmax": None}[side])
    asked = ["--tables", "long", "--shape", "1,1,40,8", "1,2,9,8", "--quick"]
    attention.main(["--threads", "1", *asked, "--seconds", "0", "--output", str(output)])
    (table,) = tables(output)
    assert [row[0] for row in table[1:]] == ["1×1×40×8", "1×2×9×8"]
    assert all(NUMBER.match(cell) for row in table[1:] for cell in row[1:6])
    assert {row[6] for row in table[1:]} == {"1.50, -"}


def test_a_long_call_with_a_wrong_gradient_is_not_timed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    attention, baselines = script("attention"), importlib.import_module("baselines")
    right = baselines.fused
    monkeypatch.setattr(baselines, "fused", lambda q, k, *rest: right(q, k.detach() + 0 * k, *rest))
    with pytest.raises(SystemExit, match="ours, gradient of k"):
        attention.main(["--threads", "1", "--tables", "long", "--shape", "1,1,40,8", "--quick", "--seconds", "0"])


def test_models_of_the_default_size(script: Script, tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    quick = ["--layers", "1", "--threads", "1", "--seconds", "0", "--rounds", "1"]
    script("models").main([*quick, "--batches", "1", "2", "--lengths", "4", "--output", str(output)])
    (table,) = tables(output)
    assert [row[:2] for row in table[1:]] == [["1", "4"], ["2", "4"]]
    assert all(NUMBER.match(cell) for row in table[1:] for cell in row)


def test_models_of_a_student_and_its_teacher(script: Script, student: Path, tmp_path: Path) -> None:
    output, teacher = tmp_path / "table.md", tmp_path / "teacher"
    tiny_teacher("bert").save_pretrained(teacher)
    pair = ["--student", str(student), "--teacher", str(teacher), "--text", str(student / "text.txt")]
    quick = ["--threads", "1", "--seconds", "0", "--rounds", "1", "--batches", "2", "--lengths", "8"]
    script("models").main([*pair, *quick, "--output", str(output)])
    assert "BertModel, 2 layers, 16 wide, 2 heads" in output.read_text()
    assert len(tables(output)) == 1


@pytest.mark.slow
def test_quantized_models(script: Script, tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    quick = ["--layers", "1", "--threads", "1", "--seconds", "0", "--rounds", "1"]
    script("quantized").main([*quick, "--batches", "2", "--lengths", "8", "--output", str(output)])
    times, memory = tables(output)
    assert all(NUMBER.match(cell) for cell in times[1])
    weights = {row[0]: float(row[1]) for row in memory[1:]}
    assert weights["int8 inhibitor"] < weights["inhibitor"]
    assert "not measured" in output.read_text()


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="this torch has no FBGEMM")
def test_linear_layers(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linears, output = script("linears"), tmp_path / "table.md"
    monkeypatch.setattr(linears, "SIZES", ((32, 48),))
    before = torch.backends.quantized.engine
    try:
        linears.main(["--rows", "3", "4", "--seconds", "0", "--output", str(output)])
    finally:
        torch.backends.quantized.engine = before
    (table,) = tables(output)
    assert [row[:3] for row in table[1:]] == [["32", "48", "3"], ["32", "48", "4"]]
    assert all(NUMBER.match(cell) for row in table[1:] for cell in row)


def test_stages(script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages, engines, output = script("stages"), [], tmp_path / "table.md"

    def run(stage: object, engine: str, options: object) -> object:
        engines.append(engine)
        return stages.Run(per_step={"reference": 3.0, "cpu": 1.5}[engine], wall=10.0, cpu=8.0, losses=[2.0, 1.0])

    monkeypatch.setattr(stages, "run", run)
    stages.main(["--output", str(output)])
    (table,) = tables(output)
    assert engines == ["reference", "cpu"] * 3
    assert [row[0].split()[1] for row in table[1:]] == ["distill", "quickstart", "finetune"]
    assert all(row[2:5] == ["3.000", "1.500", "2.00"] for row in table[1:])


@pytest.mark.slow
def test_stages_for_real(script: Script, student: Path, tmp_path: Path) -> None:
    """Fine-tuning of a tiny student; what it took is found in the log, and both engines were really asked for."""
    stages, mrpc = script("stages"), tmp_path / "data"
    mrpc.mkdir()
    lines = ["sentence1\tsentence2\tlabel", *(f"the old cat\ta dog sleeps\t{i % 2}" for i in range(64))]
    for split in ("train", "validation"):
        (mrpc / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    options = stages.parse(["--model", str(student), "--data", str(mrpc), "--steps", "2", "--stages", "finetune"])
    stage = stages.all_stages(options)["finetune"]
    stage.arguments.extend(["--set", "max_length=16"])
    run = stages.run(stage, "cpu", options)
    assert 0 < run.per_step * options.steps < run.wall
    assert len(run.losses) == 1
    with pytest.raises(SystemExit, match="known engines"):
        stages.run(stage, "none", options)


def test_nothing_is_timed_when_a_test_of_the_operation_fails(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script("require_tests").subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    monkeypatch.setattr(script("operation"), "interleave", lambda *_: pytest.fail("something was timed"))
    for name in ("attention", "models", "quantized", "stages"):
        with pytest.raises(SystemExit, match="the tests of the operation fail"):
            script(name).main([])


@pytest.fixture
def untimed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is timed fails the test."""
    for name in ("operation", "models", "quantized", "linears"):
        monkeypatch.setattr(script(name), "interleave", lambda *_: pytest.fail("something was timed"))


QUICK = ["--threads", "1", "--seconds", "0"]


@pytest.mark.parametrize("side", ["softmax", "fused", "cdist", "naive"])
@pytest.mark.usefixtures("untimed")
def test_a_side_that_computes_something_else_is_not_timed(
    side: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    baselines, operation = script("baselines"), script("operation")
    right = getattr(baselines, side)
    monkeypatch.setattr(baselines, side, lambda q, k, *rest: right(q, 1.1 * k, *rest))
    with pytest.raises(SystemExit, match=r"computes something else .*: nothing is reported"):
        operation.measure(script("inputs").gaussian(1, 2, 9, 4), operation.Effort(0.0, 1))


@pytest.mark.usefixtures("untimed")
def test_integers_must_be_those_of_their_reference(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = script("operation")
    right = operation.integer_attention

    def wrong(*arguments: object, engine: str, **options: object) -> torch.Tensor:
        return right(*arguments, engine=engine, **options) * (1.0 if engine == "reference" else 1.0 + 1e-6)

    monkeypatch.setattr(operation, "integer_attention", wrong)
    with pytest.raises(SystemExit, match="int8 computes something else"):
        operation.measure(script("inputs").gaussian(1, 2, 9, 4), operation.Effort(0.0, 1))


@pytest.mark.usefixtures("untimed")
def test_gradients_are_compared_too(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    baselines, operation = script("baselines"), script("operation")
    right = baselines.fused
    monkeypatch.setattr(baselines, "fused", lambda q, k, v, *rest: right(q, k, v.detach() + 0.0 * v, *rest))
    with pytest.raises(SystemExit, match="ours, gradient of v computes something else"):
        operation.measure(script("inputs").gaussian(1, 2, 9, 4), operation.Effort(0.0, 1))


@pytest.mark.usefixtures("untimed")
def test_a_model_that_computes_something_else_is_not_timed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    from inhibitor_transformers.attention import scalars

    models, right = script("models"), scalars.inhibitor_attention
    monkeypatch.setattr(models, "DistilBertConfig", tiny_distilbert)

    def wrong(*tensors: object, engine: str = "auto", **options: object) -> torch.Tensor:
        return right(*tensors, engine=engine, **options) * (1.0 if engine == "reference" else 1.1)

    monkeypatch.setattr(scalars, "inhibitor_attention", wrong)
    with pytest.raises(SystemExit, match="inhibitor computes something else"):
        models.main([*QUICK, "--layers", "1", "--batches", "2", "--lengths", "8"])
    assert scalars.inhibitor_attention is wrong  # what was put in its place is gone


def tiny_distilbert(**settings: object) -> DistilBertConfig:
    return DistilBertConfig(dim=16, hidden_dim=32, n_heads=2, initializer_range=0.3, **settings)


@pytest.mark.usefixtures("untimed")
def test_a_quantized_model_far_from_its_own_is_not_timed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    quantized = script("quantized")
    monkeypatch.setattr(quantized, "DistilBertConfig", tiny_distilbert)
    models = quantized.all_models(1)
    quantized.require_right(models)
    monkeypatch.setattr(quantized, "all_models", lambda _: models | {"int8 softmax": models["inhibitor"]})
    with pytest.raises(SystemExit, match="int8 softmax computes something else"):
        quantized.main(QUICK)


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="this torch has no FBGEMM")
@pytest.mark.usefixtures("untimed")
def test_a_linear_layer_with_other_weights_is_not_timed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    linears = script("linears")
    right, before = linears.fbgemm, torch.backends.quantized.engine
    monkeypatch.setattr(linears, "SIZES", ((32, 48),))
    monkeypatch.setattr(linears, "fbgemm", lambda _: right(torch.nn.Linear(32, 48)))
    try:
        with pytest.raises(SystemExit, match="FBGEMM, scale of the batch computes something else"):
            linears.main(["--rows", "3"])
    finally:
        torch.backends.quantized.engine = before


@pytest.mark.parametrize("losses", [[], [2.0], [2.0, 1.1], [2.0, float("nan")]])
def test_stages_with_other_losses_are_not_reported(script: Script, losses: list[float]) -> None:
    with pytest.raises(SystemExit, match=r"align: the losses are .* nothing is reported"):
        script("stages").require_same_losses("align", [2.0, 1.0], losses)


def test_what_is_far_and_what_has_another_shape(script: Script) -> None:
    close, one = script("agreement").require_close, torch.ones(3)
    close("a", one, one * 1.0001, 1e-3)
    for wrong in (one * 1.1, one * float("nan"), torch.ones(4)):
        with pytest.raises(SystemExit, match="nothing is reported"):
            close("a", wrong, one, 1e-3)


def test_sides_take_turns(script: Script) -> None:
    timing, order = script("timing"), []
    sides = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = timing.interleave(sides, timing.Budget(rounds=3, seconds=0))
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {t.rounds for t in times.values()} == {3}
    assert all(0 <= t.minimum <= t.median for t in times.values())
    assert times["a"] + times["b"] == timing.Summary(
        times["a"].minimum + times["b"].minimum, times["a"].median + times["b"].median, 3
    )


@pytest.mark.parametrize("side", ["fused", "cdist", "naive"])
def test_all_sides_compute_the_same(script: Script, side: str) -> None:
    q, k, v, scalars = script("inputs").gaussian(2, 3, 17, 8)
    baselines = script("baselines")
    scalars = {name: s + 0.1 * torch.arange(3) for name, s in scalars.items()}
    expected = baselines.naive(*(t.double() for t in (q, k, v)), None, {n: s.double() for n, s in scalars.items()})
    torch.testing.assert_close(
        getattr(baselines, side)(q, k, v, None, scalars).double(), expected, rtol=1e-4, atol=1e-4
    )


def test_sum_of_layers_is_weighted_by_their_number(script: Script) -> None:
    operation, timing = script("operation"), script("timing")

    def layer(inactive: float, seconds: float) -> object:
        times = {"sdpa": timing.Summary(seconds, seconds, 7), "ours": timing.Summary(1.0, 2.0, 5)}
        return operation.Measurement((1, 2, 3, 4), 1, inactive, times, times)

    total = operation.total([layer(0.1, 1.0), layer(0.2, 2.0), layer(0.6, 4.0)])
    assert total.inactive == pytest.approx(0.3)
    assert total.elements == 3 * 2 * 1 * 2 * 3 * 3 * 4
    assert script("attention").ratio(total.forward, "ours") == "0.43 (0.86)"


def test_memory_sees_scores_where_there_are_any(script: Script) -> None:
    memory, shape = script("memory"), (1, 2, 256, 8)
    cdist = memory.extra_memory("cdist", shape, 1)
    if cdist is None:
        pytest.skip("needs Linux with glibc and a compiler")
    fused = memory.extra_memory("fused", shape, 1)
    scores = 2 * 256 * 256 * 4 / 2**20
    assert 2 * scores <= cdist[0] < 10 * scores
    assert cdist[1] > cdist[0]
    assert 0 < fused[0] < scores / 4


def test_roofline(script: Script) -> None:
    rates = script("roofline").roofline("portable", 1)
    if script("compiler").shared_library("roofline.cpp") is None:
        assert rates == {}
    else:
        assert rates.keys() == {"add", "multiply-add"}
        assert min(rates.values()) > 1e6


def test_what_was_measured_before_is_kept(script: Script, tmp_path: Path) -> None:
    older = tmp_path / "table.md"
    older.write_text("an hour of measuring")
    with pytest.raises(SystemExit, match=r"table\.md: File exists; name a new file"):
        script("report").Report(older)
    assert older.read_text() == "an hour of measuring"
