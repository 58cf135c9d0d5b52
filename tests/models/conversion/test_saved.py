"""Converted models in files: a fresh process gives them back to the bit, whatever class and head it asks for."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModel

from inhibitor_transformers import convert
from tests.models.conversion.zoo import CONVERTED, copied, equal, example, inhibitors, moved, run, student, teacher

# The Auto class that loads the head of each architecture.
AUTO = {
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "MTModel": "AutoModelForSeq2SeqLM",
    "ForImageClassification": "AutoModelForImageClassification",
    "ForAudioClassification": "AutoModelForAudioClassification",
    "ForSequenceClassification": "AutoModelForAudioClassification",
    "ForCTC": "AutoModelForCTC",
    "Model": "AutoModel",
    "ForPrediction": "",  # none knows it
}
OTHER_AUTO = {
    "Whisper": "AutoModelForSpeechSeq2Seq",
    "Llava": "AutoModelForImageTextToText",
}
# LLaVA hooks itself with closures; the weights of speech encoders are parametrized.
NO_PICKLES = ("Llava", "Wav2Vec2", "Hubert")
# Heads beside that of the zoo.
HEADS = [
    ("Bert", "Model"),
    ("Bert", "ForSequenceClassification"),
    ("Bert", "ForTokenClassification"),
    ("Bert", "ForQuestionAnswering"),
    ("Llama", "Model"),
    ("Llama", "ForSequenceClassification"),
    ("GPT2", "Model"),
    ("T5", "EncoderModel"),
    ("Bart", "ForSequenceClassification"),
    ("Whisper", "ForAudioClassification"),
    ("ViT", "Model"),
    ("Wav2Vec2", "Model"),
]
_FRESH = """
import json, pathlib, pickle, sys
import torch, transformers
import inhibitor_transformers
transformers.logging.set_verbosity_error()
torch.set_num_threads(int(sys.argv[2]))
for folder, names in json.loads(sys.argv[1]).items():
    saved = torch.load(pathlib.Path(folder) / "saved.pt", weights_only=True)
    for name in names:
        try:
            kind = getattr(transformers, name, None) or pickle.loads((pathlib.Path(folder) / "class.pkl").read_bytes())
            model = kind.from_pretrained(folder)
            torch.manual_seed(3)
            with torch.no_grad():
                outputs = {k: v for k, v in model(**saved["inputs"]).items() if isinstance(v, torch.Tensor)}
            same = outputs.keys() == saved["outputs"].keys() and all(
                torch.equal(outputs[k], saved["outputs"][k]) for k in outputs
            )
            report = str(model.inhibitor_report()) == saved["report"]
            told = "same" if same and report else f"another model ({type(model).__name__})"
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        print("RESULT", folder, name, told.split("\\n")[0], sep="|")
"""


def auto_class(name: str) -> str:
    return OTHER_AUTO.get(name) or AUTO[_head(name)]


def _head(name: str) -> str:
    from tests.models.conversion.zoo import ARCHITECTURES

    return str(ARCHITECTURES[name].head)


def save(model: Any, folder: Path, inputs: dict[str, Any]) -> Path:
    model.save_pretrained(folder)
    saved = {"inputs": inputs, "outputs": run(model, **inputs), "report": str(model.inhibitor_report())}
    torch.save(saved, folder / "saved.pt")
    (folder / "class.pkl").write_bytes(pickle.dumps(type(model)))
    return folder


def head_example(name: str, head: str) -> dict[str, Any]:
    """The inputs that another head takes."""
    inputs = example(name)
    if head == "TextModel":
        return {field: inputs[field] for field in ("input_ids", "attention_mask")}
    if head == "VisionModel":
        return {"pixel_values": inputs["pixel_values"]}
    if head in ("EncoderModel", "ForAudioClassification"):
        return {field: value for field, value in inputs.items() if not field.startswith("decoder_")}
    if name == "Bart" and head == "ForSequenceClassification":
        ids = inputs["input_ids"].clone()
        ids[ids == 2] = 3
        ids[:, 4] = 2  # as many ends in every sequence
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return inputs


def in_a_fresh_process(folders: dict[str, list[str]]) -> dict[tuple[str, str], str]:
    command = [sys.executable, "-c", _FRESH, json.dumps(folders), str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:] for line in done.stdout.splitlines() if line.startswith("RESULT|")]
    return {(Path(folder).name, kind): told for folder, kind, told in rows}


def test_a_fresh_process_gives_every_model_back(tmp_path: Path) -> None:
    asked = {}
    for name in CONVERTED:
        folder = save(student(name), tmp_path / name, example(name))
        asked[str(folder)] = [kind for kind in (auto_class(name), type(student(name)).__name__) if kind]
    for name, head in HEADS:
        inputs = head_example(name, head)
        model = moved(convert(teacher(name, head), inputs))
        folder = save(model, tmp_path / f"{name}{head}", inputs)
        asked[str(folder)] = [type(model).__name__]
    results = in_a_fresh_process(asked)
    assert len(results) == sum(map(len, asked.values()))
    assert {key: told for key, told in results.items() if told != "same"} == {}


@pytest.mark.parametrize("name", CONVERTED)
def test_saved_again_it_is_the_same(name: str, tmp_path: Path) -> None:
    student(name).save_pretrained(tmp_path / "a")
    again = type(student(name)).from_pretrained(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    last = type(student(name)).from_pretrained(tmp_path / "b")
    assert equal(run(last, **example(name)), run(student(name), **example(name)))
    a, b = (load_file(tmp_path / folder / "model.safetensors") for folder in "ab")
    if name != "Esm":  # of which transformers 5.24 writes a buffer under another name the second time
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    records = [json.loads((tmp_path / folder / "config.json").read_text()) for folder in "ab"]
    for record in records:
        del record["inhibitor"]["config"]  # parts of which have a dtype once they were loaded
    assert records[0] == records[1]


@pytest.mark.parametrize("name", ["Llama", "Mixtral", "CLIP", "T5", "GPT2"])
def test_in_shards(name: str, tmp_path: Path) -> None:
    student(name).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert not list(tmp_path.glob("*.bin"))
    loaded = type(student(name)).from_pretrained(tmp_path)
    assert equal(run(loaded, **example(name)), run(student(name), **example(name)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["Bert", "Llama", "Mixtral", "T5"])
def test_scalars_stay_float32(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    student(name).save_pretrained(tmp_path / "whole")
    loaded = type(student(name)).from_pretrained(tmp_path / "whole", dtype=dtype)
    scalars = {n: p for n, p in loaded.named_parameters() if ".inhibitor." in n}
    assert scalars
    for n, p in loaded.named_parameters():
        if n in scalars:
            assert p.dtype == torch.float32
            assert torch.equal(p, dict(student(name).named_parameters())[n])
    assert loaded.get_input_embeddings().weight.dtype == dtype
    outputs = run(loaded, **example(name))
    assert torch.isfinite(outputs["logits"].float()).all()
    loaded.save_pretrained(tmp_path / "half")
    again = type(loaded).from_pretrained(tmp_path / "half")
    assert equal(run(again, **example(name)), outputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_of_half_precision_is_converted_as_such(dtype: torch.dtype) -> None:
    model = convert(copy.deepcopy(teacher("Llama")).to(dtype), example("Llama"))
    assert {p.dtype for m in inhibitors(model).values() for p in m.parameters()} == {torch.float32}
    assert model.lm_head.weight.dtype == dtype
    assert model.dtype == dtype


@pytest.mark.parametrize("name", ["Llama", "Bert", "GPT2", "Bart"])
def test_the_base_model_of_a_folder_with_a_head(name: str, tmp_path: Path) -> None:
    student(name).save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path).eval()
    assert inhibitors(base)
    hidden = [run(model, **example(name))["last_hidden_state"] for model in (base, student(name).base_model)]
    assert torch.equal(*hidden)  # a pooler is new
    base.save_pretrained(tmp_path / "base")
    again = AutoModel.from_pretrained(tmp_path / "base")
    assert equal(run(again, **example(name)), run(base, **example(name)))
    assert str(again.inhibitor_report()) == str(base.inhibitor_report())


@pytest.mark.parametrize("name", ["Llama", "Bert", "GPT2", "ModernBert"])
def test_a_new_head_on_a_base_model(name: str, tmp_path: Path) -> None:
    """Its weights are new, all others those of the folder."""
    base = student(name).base_model
    base.save_pretrained(tmp_path)
    head = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    assert head.num_labels == 3
    with torch.no_grad():
        hidden = head.base_model(**example(name)).last_hidden_state
        assert torch.equal(hidden, base(**example(name)).last_hidden_state)
    head.save_pretrained(tmp_path / "head")
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "head")
    assert equal(run(again, **example(name)), run(head, **example(name)))


@pytest.mark.parametrize(("name", "path"), [("Bart", "model"), ("T5", "encoder"), ("T5", "decoder"), ("ViT", "vit")])
def test_parts_saved_alone(name: str, path: str, tmp_path: Path) -> None:
    part = student(name).get_submodule(path)
    expected = {n: m.applications[0].gamma for n, m in inhibitors(part).items()}
    part.save_pretrained(tmp_path)
    loaded = type(part).from_pretrained(tmp_path)
    assert inhibitors(loaded).keys() == expected.keys()
    assert all(torch.equal(m.applications[0].gamma, expected[n]) for n, m in inhibitors(loaded).items())


@pytest.mark.parametrize("tower", ["text_model", "vision_model"])
@pytest.mark.parametrize("name", ["CLIP", "Siglip"])
def test_towers_saved_alone(name: str, tower: str, tmp_path: Path) -> None:
    part = getattr(student(name), tower)
    inputs = head_example(name, "TextModel" if tower == "text_model" else "VisionModel")
    part.save_pretrained(tmp_path)
    kinds = [type(part)] if (name, tower) == ("Siglip", "text_model") else [type(part), AutoModel]
    for kind in kinds:
        loaded = kind.from_pretrained(tmp_path)
        assert type(loaded) is type(part)
        assert equal(run(loaded, **inputs), run(part, **inputs))


@pytest.mark.parametrize("path", ["model.encoder", "model.decoder"])
def test_a_part_with_the_configuration_of_the_whole_is_not_written(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no module model\.encoder\.layers\.0\.self_attn, which is converted"):
        student("Bart").get_submodule(path).save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize("name", [name for name in CONVERTED if name not in NO_PICKLES])
def test_copies_and_pickles(name: str) -> None:
    expected = run(student(name), **example(name))
    assert equal(run(copy.deepcopy(student(name)), **example(name)), expected)
    assert equal(run(copy.copy(student(name)), **example(name)), expected)
    assert equal(run(pickle.loads(pickle.dumps(student(name))), **example(name)), expected)


def test_a_pickle_in_a_fresh_process(tmp_path: Path) -> None:
    names = ["Llama", "Albert", "T5"]
    for name in names:
        torch.save(student(name), tmp_path / name)
    code = (
        "import sys, torch\n"
        "for file in sys.argv[1:]:\n"
        "    model = torch.load(file, weights_only=False)\n"
        "    print(type(model).__name__, model.inhibitor_report(), sep='|')\n"
    )
    command = [sys.executable, "-c", code, *(str(tmp_path / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = [f"{type(student(name)).__name__}|{student(name).inhibitor_report()}\n" for name in names]
    assert done.stdout == "".join(expected)


def test_a_configuration_by_itself(tmp_path: Path) -> None:
    student("Llama").config.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is type(student("Llama").config)
    assert config.to_diff_dict() | {"_name_or_path": ""} == student("Llama").config.to_diff_dict() | {
        "_name_or_path": ""
    }
    built = transformers.AutoModelForCausalLM.from_config(config)
    assert list(inhibitors(built)) == list(inhibitors(student("Llama")))
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["model_type"] == "inhibitor"
    assert fields["inhibitor"]["config"]["model_type"] == "llama"


def test_state_dict_of_a_file_into_a_model(tmp_path: Path) -> None:
    """Trainer loads a checkpoint's weights so, and they lie in the file in their guarded shape."""
    student("Llama").save_pretrained(tmp_path)
    model = moved(copied("Llama"))
    model.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
    assert equal(run(model, **example("Llama")), run(student("Llama"), **example("Llama")))


def test_weights_given_in_python() -> None:
    state: dict[str, Tensor] = student("Llama").state_dict()
    loaded = type(student("Llama")).from_pretrained(None, config=copied("Llama").config, state_dict=state)
    assert equal(run(loaded.eval(), **example("Llama")), run(student("Llama"), **example("Llama")))


def test_an_own_class_is_not_written(tmp_path: Path) -> None:
    class Own(transformers.LlamaForCausalLM):
        pass

    model = Own(copy.deepcopy(teacher("Llama").config)).eval()
    converted = convert(model, example("Llama"))
    assert inhibitors(converted)
    with pytest.raises(ValueError, match="Own is no model of transformers itself"):
        converted.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
