"""An exported folder computes what the model computes, on any batch; what cannot be exported leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.deploy.export import export, export_model
from inhibitor_transformers.deploy.export.export import RUNTIMES
from inhibitor_transformers.deploy.export.onnx_file import write_onnx
from inhibitor_transformers.deploy.export.runtime import Precision, Run, Runtime
from tests.deploy.export.cases import NO_ONNX, saved_student
from tests.models.tiny import CLASSES, POSITIONS, outputs_of, save_tokenizer, tiny_student, tiny_teacher

Exports = Callable[..., tuple[Any, Run, Path]]
QUICK = [name for name in RUNTIMES if name != "aotinductor"]  # which compiles: test_to_aotinductor.py


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """`exports(runtime, class, **config)`: the model, its export to be called, and the folder; each is made once."""
    made: dict[str, tuple[Any, Run, Path]] = {}

    def get(runtime: str, name: str, **fields: Any) -> tuple[Any, Run, Path]:
        for package in RUNTIMES[runtime].packages:
            pytest.importorskip(package, reason=NO_ONNX)
        key = f"{runtime}, {name}, {fields}"
        if key not in made:
            folder = tmp_path_factory.mktemp("export")
            torch.manual_seed(1)
            source, model = saved_student(folder / "model", name, **fields)
            done = export_model(source, folder / "out", runtime)
            assert done[:2] == (folder / "out" / RUNTIMES[runtime].file, type(model).__name__)
            assert max(done.differences.values()) < 1e-5
            made[key] = model, run_of(done.file, runtime), folder / "out"
        return made[key]

    return get


def run_of(file: Path, runtime: str) -> Run:
    """The first way in which the file can be run here."""
    return next(RUNTIMES[runtime].runs(file, "float32"))[1]


def inputs_of(model: Any, *shape: int) -> dict[str, Tensor]:
    """Token ids, of another shape than any that is checked after exporting; every row but the first ends early."""
    ids = torch.randint(5, 100, shape)
    ends = shape[-1] - torch.arange(ids.numel() // shape[-1])
    valid = torch.arange(shape[-1]) < ends[:, None]
    inputs = {"input_ids": ids, "attention_mask": valid.long().reshape(shape)}
    return inputs | ({"token_type_ids": torch.randint(0, 2, shape)} if model.config.type_vocab_size else {})


def assert_same(run: Run, model: Any, inputs: dict[str, Tensor]) -> None:
    found, there = run(inputs), outputs_of(model, **inputs)
    assert found.keys() == there.keys()
    for name in there:
        torch.testing.assert_close(found[name], there[name], atol=1e-5, rtol=1e-4)


UNLIKE = {"type_vocab_size": 2, "inhibitor_signed": False, "inhibitor_center": "none"}
CENTERED = {"inhibitor_value_center": "mean"}
VARIANTS = [
    *(("onnxruntime", name, {}) for name in CLASSES),
    *(("torch", name, {}) for name in ("Model", "ForSequenceClassification", "ForMultipleChoice")),
    *((runtime, "Model", fields) for runtime in QUICK for fields in (UNLIKE, CENTERED)),
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("runtime", "name", "fields"), VARIANTS, ids=[f"{r}-{n}-{len(x)}" for r, n, x in VARIANTS])
def test_every_class(runtime: str, name: str, fields: dict[str, Any], exports: Exports) -> None:
    model, run, folder = exports(runtime, name, **fields)
    batches = [(1, 2, 9), (4, 5, 20)] if name == "ForMultipleChoice" else [(1, 2), (4, 20), (2, POSITIONS)]
    for shape in batches:
        assert_same(run, model, inputs_of(model, *shape))
    files = {path.name for path in folder.iterdir()}
    written = [RUNTIMES[runtime].file, *RUNTIMES[runtime].beside]
    assert files == {*written, "run.yaml", "config.json", "tokenizer.json", "tokenizer_config.json"}
    for file in ("config.json", "tokenizer.json"):
        assert (folder / file).read_bytes() == (folder.parent / "model" / file).read_bytes()


@pytest.mark.parametrize("runtime", QUICK)
def test_padding_leaves_no_trace(runtime: str, exports: Exports) -> None:
    _, run, _ = exports(runtime, "Model")
    ids = torch.randint(5, 100, (2, 6))
    alone = run({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["last_hidden_state"]
    mask = torch.cat([torch.ones_like(ids), torch.zeros(2, 13, dtype=torch.long)], 1)
    padded = [
        run({"input_ids": torch.cat([ids, torch.full((2, 13), filler)], 1), "attention_mask": mask})
        for filler in (0, 77)
    ]
    found, other = (out["last_hidden_state"][:, :6] for out in padded)
    assert torch.equal(found, other)
    torch.testing.assert_close(found, alone, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("runtime", QUICK)
def test_what_is_too_long_is_an_error(runtime: str, exports: Exports) -> None:
    model, run, _ = exports(runtime, "Model")
    with pytest.raises(Exception, match=r"."):  # of another kind in each runtime
        run(inputs_of(model, 1, POSITIONS + 1))


def test_axes_have_names(exports: Exports) -> None:
    _, _, folder = exports("onnxruntime", "Model")
    import onnx

    graph = onnx.load(folder / "model.onnx").graph
    axes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
    assert axes == {"input_ids": ["batch", "length"], "attention_mask": ["batch", "length"]}


def test_a_package_of_torch_needs_nothing_but_torch(exports: Exports, tmp_path: Path) -> None:
    model, _, folder = exports("torch", "ForSequenceClassification")
    inputs = inputs_of(model, 3, 12)
    torch.save(inputs, tmp_path / "inputs")
    code = f"""
import sys
for name in ("transformers", "inhibitor_transformers", "onnx", "onnxscript"):
    sys.modules[name] = None  # importing it raises ImportError
import torch
module = torch.export.load({str(folder / "standard.pt2")!r}).module()
torch.save(module(**torch.load({str(tmp_path / "inputs")!r})), {str(tmp_path / "outputs")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.load(tmp_path / "outputs"), outputs_of(model, **inputs), atol=1e-5, rtol=1e-4)


def test_half_precision_is_exported_in_float32(tmp_path: Path) -> None:
    source, model = saved_student(tmp_path / "model")
    model.bfloat16().save_pretrained(source)
    done = export_model(source, tmp_path / "out", "torch")
    found = run_of(done.file, "torch")(inputs_of(model, 2, 5))["last_hidden_state"]
    assert found.dtype == torch.float32
    assert_same(run_of(done.file, "torch"), model.float(), inputs_of(model, 2, 5))


def test_paths_may_be_strings_or_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = saved_student(tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    at_home = export_model("~/model", "~/at-home", "torch").file
    assert at_home == tmp_path / "at-home" / RUNTIMES["torch"].file
    assert at_home.exists()
    for given in (str, Path):
        done = export_model(given(source), given(tmp_path / given.__name__), "torch")
        assert done.file == tmp_path / given.__name__ / RUNTIMES["torch"].file
        assert done.file.exists()


class TestRefused:
    """What cannot be exported is said in one line, and the output folder is as before."""

    @pytest.fixture(autouse=True)
    def _fake_runtime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A runtime for which a file is written at once, and whose outputs are not the model's."""
        precisions = {"float32": Precision(lambda _, file: file.touch())}
        fake = Runtime("fake", "file", (), "", precisions, lambda *_: iter([("again", lambda inputs: inputs)]))
        monkeypatch.setitem(RUNTIMES, "fake", fake)

    def refused(self, source: str | Path, output: Path, runtime: str = "fake", **options: Any) -> str:
        before = sorted(output.parent.rglob("*"))
        with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
            export_model(str(source), output, runtime, **options)
        assert sorted(output.parent.rglob("*")) == before
        return str(caught.value)

    def test_a_model_that_was_exported_wrongly(self, tmp_path: Path) -> None:
        source, _ = saved_student(tmp_path / "model")
        assert "the exported model returns" in self.refused(source, tmp_path / "out")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "run.yaml").write_text("inhibit: export")
        (tmp_path / "out" / "precious").touch()
        self.refused(source, tmp_path / "out", overwrite=True)

    def test_an_unknown_runtime(self, tmp_path: Path) -> None:
        assert self.refused("x", tmp_path / "out", "tflite") == (
            f"--runtime must be one of {', '.join(RUNTIMES)}, got 'tflite'"
        )

    def test_a_precision_that_the_runtime_does_not_serve(self, tmp_path: Path) -> None:
        assert self.refused("x", tmp_path / "out", precision="float16") == (
            "--precision must be one of float32 for the runtime fake, got 'float16'"
        )

    def test_a_missing_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(RUNTIMES, "fake", RUNTIMES["onnxruntime"]._replace(packages=("torch", "no_such_package")))
        assert self.refused("x", tmp_path / "out") == (
            "the runtime onnxruntime needs no_such_package: pip install 'inhibitor-transformers[onnx]'"
        )

    def test_a_folder_that_exists(self, tmp_path: Path) -> None:
        source, _ = saved_student(tmp_path / "model")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").touch()
        for flags in ({}, {"overwrite": True}):
            assert self.refused(source, tmp_path / "out", **flags).endswith("choose another folder")

    @pytest.mark.parametrize(("output", "relation"), [(".", "is"), ("..", "contains"), ("new", "lies inside")])
    def test_the_folder_of_the_model_itself(self, output: str, relation: str, tmp_path: Path) -> None:
        source, _ = saved_student(tmp_path / "in" / "model")
        message = self.refused(source, Path(source) / output, overwrite=True)
        assert message.endswith(f"{relation} the model {source}; choose another output")

    def test_another_architecture(self, tmp_path: Path) -> None:
        tiny_teacher("distilbert").save_pretrained(tmp_path / "model")
        save_tokenizer(tmp_path / "model")
        message = self.refused(tmp_path / "model", tmp_path / "out")
        assert "is a DistilBertModel: only InhibiDistilBERT can be exported; inhibit convert makes one" in message

    def test_a_class_of_somebody_else(self, tmp_path: Path) -> None:
        model = tiny_student()
        model.save_pretrained(tmp_path / "model")
        save_tokenizer(tmp_path / "model")
        config = tmp_path / "model" / "config.json"
        config.write_text(config.read_text().replace("InhibiDistilBertModel", "MyInhibitorForNothing"))
        message = self.refused(tmp_path / "model", tmp_path / "out")
        assert message.endswith("was saved by MyInhibitorForNothing, which is not a class of this package")

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        tiny_student().save_pretrained(tmp_path / "model")
        assert "no tokenizer found" in self.refused(tmp_path / "model", tmp_path / "out")

    def test_no_model(self, tmp_path: Path) -> None:
        assert "cannot load" in self.refused(tmp_path / "nothing", tmp_path / "out")

    def test_nothing_is_loaded_for_a_folder_that_exists(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(export, "load_as_saved", lambda _: pytest.fail("a model was loaded"))
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "run.yaml").write_text("inhibit: export")
        (tmp_path / "out" / "precious").touch()
        assert "exists" in self.refused("x", tmp_path / "out")


def test_one_tensor_as_the_example_of_two_inputs(tmp_path: Path) -> None:
    """torch's exporter took both arguments for one: the graph embedded the mask instead of the tokens."""
    pytest.importorskip("onnxscript", reason=NO_ONNX)
    inputs = dict.fromkeys(("input_ids", "attention_mask"), torch.ones(2, 7, dtype=torch.long))
    with pytest.raises(ValueError, match="input_ids, attention_mask must be a tensor each; two of them are one"):
        write_onnx(torch.nn.Identity(), inputs, {}, [], tmp_path / "model.onnx")
