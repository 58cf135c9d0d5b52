"""Saved models: every class of softmax attention refuses them, and ours gives them back to the bit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file, save_model
from transformers import AutoConfig, AutoModel, AutoTokenizer, DistilBertConfig, DistilBertModel, pipeline

from inhibitor_transformers import InhibiDistilBertConfig, InhibiDistilBertModel
from inhibitor_transformers.deploy.quantize import quantize
from inhibitor_transformers.models.pretrained import load_as_saved, load_pretrained
from tests.models.tiny import (
    CLASSES,
    POSITIONS,
    VOCAB,
    WIDTH,
    WORDS,
    inputs_for,
    outputs_of,
    same_outputs,
    save_tokenizer,
    student_class,
    tiny_config,
    tiny_student,
)

QUERY = "transformer.layer.0.attention.q_lin.weight"
SOFTMAX = {
    "DistilBert": DistilBertConfig,
    "Bert": transformers.BertConfig,
    "Roberta": transformers.RobertaConfig,
    "Electra": transformers.ElectraConfig,
    "MPNet": transformers.MPNetConfig,
    "Albert": transformers.AlbertConfig,
    "Camembert": transformers.CamembertConfig,
}
HEADS = ["Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]


def softmax_class(architecture: str, name: str) -> Any:
    return getattr(transformers, architecture + name)


def distilbert_config() -> DistilBertConfig:
    """The sizes of `tiny_config`, given in Python, so that the folder's configuration is not read."""
    sizes = {"n_layers": 2, "n_heads": 2, "dim": WIDTH, "hidden_dim": 2 * WIDTH}
    return DistilBertConfig(vocab_size=VOCAB, max_position_embeddings=POSITIONS, **sizes)


def plain(folder: Path, name: str) -> None:
    tiny_student(name).save_pretrained(folder)


def saved_twice(folder: Path, name: str) -> None:
    tiny_student(name).save_pretrained(folder / "first")
    student_class(name).from_pretrained(folder / "first").save_pretrained(folder)


def sharded(folder: Path, name: str) -> None:
    tiny_student(name).save_pretrained(folder, max_shard_size="4KB")
    assert len(list(folder.glob("*.safetensors"))) > 2


def half(folder: Path, name: str) -> None:
    tiny_student(name).half().save_pretrained(folder)


def state_dict(folder: Path, name: str) -> None:
    model = tiny_student(name)
    model.save_pretrained(folder, state_dict=model.state_dict())


def split_already(folder: Path, name: str) -> None:
    model = tiny_student(name)
    model.save_pretrained(folder / "first")
    model.save_pretrained(folder, state_dict=load_file(folder / "first" / "model.safetensors"))


def as_quantized(folder: Path, name: str, **settings: Any) -> None:
    tokenizer = save_tokenizer(folder)
    quantize(tiny_student(name), ["the old cat", "a bird"], tokenizer, **settings).save_pretrained(folder)


def attention_quantized(folder: Path, name: str) -> None:
    as_quantized(folder, name, linears=False)


def sentence_transformer(folder: Path, name: str) -> None:
    from sentence_transformers import SentenceTransformer

    tiny_student(name).save_pretrained(folder / "first")
    save_tokenizer(folder / "first")
    SentenceTransformer(str(folder / "first"), device="cpu").save(str(folder))


def peft_merged(folder: Path, name: str) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny_student(name), peft.LoraConfig(target_modules=["q_lin"], r=2))
    model.merge_and_unload().save_pretrained(folder)


WAYS: list[Callable[[Path, str], None]] = [
    plain,
    saved_twice,
    sharded,
    half,
    state_dict,
    split_already,
    as_quantized,
    attention_quantized,
    sentence_transformer,
    peft_merged,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_class_of_softmax_attention_refuses_every_folder(
    way: Callable[[Path, str], None], tmp_path: Path
) -> None:
    names = ["Model"] if way is sentence_transformer else ["Model", "ForSequenceClassification"]
    for name in names:
        folder = tmp_path / name
        way(folder, name)
        for architecture in SOFTMAX:
            with pytest.raises(Exception, match="import inhibitor_transformers and load this with AutoModel"):
                softmax_class(architecture, "Model").from_pretrained(folder, ignore_mismatched_sizes=True)
        for head in ("Model", "ForSequenceClassification"):  # not even with a configuration given in Python
            with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
                softmax_class("DistilBert", head).from_pretrained(folder, config=distilbert_config())


def test_a_model_built_with_sinusoidal_positions(tmp_path: Path) -> None:
    tiny_student(sinusoidal_pos_embds=True).save_pretrained(tmp_path)
    for architecture in SOFTMAX:
        with pytest.raises(Exception, match="import inhibitor_transformers and load this with AutoModel"):
            softmax_class(architecture, "Model").from_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).config.sinusoidal_pos_embds is True


@pytest.mark.parametrize("architecture", SOFTMAX)
def test_with_every_head(architecture: str, tmp_path: Path) -> None:
    for name in CLASSES:
        plain(tmp_path / name, name)
        for head in HEADS:
            with pytest.raises(Exception, match=r"expected .* got str .*value: 'inhibitor attention"):
                softmax_class(architecture, head).from_pretrained(tmp_path / name)


def test_a_configuration_in_python_does_not_help(tmp_path: Path) -> None:
    for name in CLASSES:
        plain(tmp_path / name, name)
        for head in CLASSES:
            with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
                softmax_class("DistilBert", head).from_pretrained(tmp_path / name, config=distilbert_config())


def test_nor_does_the_configuration_of_the_folder(tmp_path: Path) -> None:
    """It names the model type whose weights transformers converts, but the class is another."""
    for name in ("Model", "ForMaskedLM", "ForSequenceClassification"):
        plain(tmp_path / name, name)
        for head in CLASSES:
            with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
                softmax_class("DistilBert", head).from_pretrained(
                    tmp_path / name, config=AutoConfig.from_pretrained(tmp_path / name)
                )


def test_who_ignores_other_shapes_gets_queries_at_random(tmp_path: Path) -> None:
    model = tiny_student()
    model.save_pretrained(tmp_path)
    found, info = DistilBertModel.from_pretrained(
        tmp_path, config=distilbert_config(), ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key for key, *_ in info["mismatched_keys"]} == {QUERY, QUERY.replace("0", "1")}
    assert not torch.allclose(found.state_dict()[QUERY], model.state_dict()[QUERY], atol=0.01)


def test_without_this_package_in_a_process_of_its_own(tmp_path: Path) -> None:
    folders = [tmp_path / way.__name__ for way in (plain, sharded, as_quantized, sentence_transformer)]
    for folder, way in zip(folders, (plain, sharded, as_quantized, sentence_transformer), strict=True):
        way(folder, "Model")
    save_tokenizer(tmp_path / "plain")
    script = (
        "import sys, transformers as t\n"
        "def refusal(load, *a, **k):\n"
        "    try: load(*a, **k)\n"
        "    except Exception as error: return str(error)\n"
        "    return 'LOADED'\n"
        "sizes = dict(vocab_size=100, max_position_embeddings=48, n_layers=2, n_heads=2, dim=16, hidden_dim=32)\n"
        "for folder in sys.argv[1:]:\n"
        "    for c in (t.DistilBertModel, t.DistilBertForMaskedLM, t.BertModel, t.RobertaForSequenceClassification):\n"
        "        assert 'import inhibitor_transformers' in refusal(c.from_pretrained, folder), (c, folder)\n"
        "    config = t.DistilBertConfig(**sizes)\n"
        "    assert 'ignore_mismatched' in refusal(t.DistilBertModel.from_pretrained, folder, config=config), folder\n"
        "    for c in (t.AutoConfig, t.AutoModel, t.AutoModelForMaskedLM):\n"
        "        assert 'inhibidistilbert' in refusal(c.from_pretrained, folder), (c, folder)\n"
        "assert 'inhibitor_transformers' not in sys.modules\n"
        "print(len(t.AutoTokenizer.from_pretrained(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", script, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == len(AutoTokenizer.from_pretrained(tmp_path / "plain")) == len(WORDS) + 5


@pytest.mark.parametrize(
    ("name", "way"),
    [*((name, plain) for name in CLASSES), *(("ForMaskedLM", way) for way in WAYS[1:3] + WAYS[4:6])],
    ids=lambda given: given if isinstance(given, str) else given.__name__,
)
def test_ours_give_it_back_to_the_bit(way: Callable[[Path, str], None], name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = inputs_for(name)
    torch.manual_seed(1)
    expected = outputs_of(tiny_student(name), **inputs)
    torch.manual_seed(1)
    way(tmp_path, name)
    for loaded in (student_class(name).from_pretrained(tmp_path), load_as_saved(str(tmp_path))):
        assert same_outputs(outputs_of(loaded, **inputs), expected)


class Around(transformers.PreTrainedModel):
    """A model of somebody else's, of another configuration, around ours."""

    config_class = transformers.BertConfig

    def __init__(self, config: transformers.BertConfig) -> None:
        super().__init__(config)
        self.reader = InhibiDistilBertModel(tiny_config(n_heads=4))
        self.post_init()


def test_inside_another_model(tmp_path: Path) -> None:
    model = Around(transformers.BertConfig())
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors")[f"reader.{QUERY}"].shape == (4, WIDTH // 4, WIDTH)
    again = Around.from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_inside_another_model_whose_checkpoint_had_none(tmp_path: Path) -> None:
    weights = Around(transformers.BertConfig())
    save_file({"other": torch.ones(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    weights.config.save_pretrained(tmp_path)
    Around.from_pretrained(tmp_path).save_pretrained(tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")[f"reader.{QUERY}"].dim() == 3


def test_in_memory_it_is_an_ordinary_linear_layer(tmp_path: Path) -> None:
    model = tiny_student(n_heads=4)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert saved[QUERY].shape == (4, WIDTH // 4, WIDTH)
    assert model.state_dict()[QUERY].shape == (WIDTH, WIDTH)
    assert torch.equal(saved[QUERY].flatten(0, 1), model.state_dict()[QUERY])
    assert {name: t.shape for name, t in saved.items() if name != QUERY and "q_lin.weight" not in name} == {
        name: t.shape for name, t in model.state_dict().items() if "q_lin.weight" not in name
    }


def test_the_weight_file_can_be_given_to_load_state_dict(tmp_path: Path) -> None:
    """As Trainer does at resume, and for the best model at the end."""
    model = tiny_student()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    inputs = inputs_for("Model")
    for assign in (False, True):
        other = InhibiDistilBertModel(tiny_config()).eval()
        other.load_state_dict(weights, assign=assign)
        assert weights[QUERY].dim() == 3  # the caller's own
        assert same_outputs(outputs_of(other, **inputs), outputs_of(model, **inputs))
    other = InhibiDistilBertModel(tiny_config()).eval()
    accelerate.load_checkpoint_in_model(other, tmp_path)
    assert same_outputs(outputs_of(other, **inputs), outputs_of(model, **inputs))
    other.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="which has shape"):  # tensor by tensor, past load_state_dict
        accelerate.load_checkpoint_and_dispatch(other, tmp_path, device_map={"": "cpu"})


def test_a_weight_of_a_wrong_shape_is_still_refused_by_load_state_dict(tmp_path: Path) -> None:
    model = tiny_student()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"size mismatch for transformer.layer.0.attention.q_lin.weight"):
        model.load_state_dict(weights | {QUERY: torch.ones(2, 4, WIDTH)})


@pytest.mark.parametrize("option", [{"save_original_format": False}, {"distributed_checkpoint": True}])
def test_what_would_save_without_the_guard_is_refused(option: dict[str, bool], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(option))}=.* other classes load and run as softmax attention"):
        tiny_student().save_pretrained(tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()
    tiny_student().save_pretrained(tmp_path / "out", save_original_format=True, distributed_checkpoint=False)


def earlier_format(folder: Path, name: str = "Model") -> Path:
    """As models were saved before: no format, no sentence, flat queries."""
    model = tiny_student(name)
    model.save_pretrained(folder)
    fields = json.loads((folder / "config.json").read_text())
    for field in ("inhibitor_format", "hidden_size", "sinusoidal_pos_embds"):
        del fields[field]
    (folder / "config.json").write_text(json.dumps(fields))
    save_file(dict(model.state_dict()), folder / "model.safetensors", {"format": "pt"})
    return folder


def test_an_earlier_format_is_refused_in_one_line(tmp_path: Path) -> None:
    earlier_format(tmp_path)
    one_line = r"^[^\n]*saved in an earlier format, [^\n]*make it anew[^\n]*$"
    loads: list[Callable[[Any], Any]] = [
        AutoConfig.from_pretrained,
        AutoModel.from_pretrained,
        InhibiDistilBertModel.from_pretrained,
        InhibiDistilBertConfig.from_pretrained,
        lambda folder: InhibiDistilBertConfig.from_json_file(folder / "config.json"),
        lambda folder: load_pretrained(str(folder)),
        lambda folder: load_as_saved(str(folder)),
        lambda folder: pipeline("feature-extraction", model=str(folder)),
    ]
    for load in loads:
        with pytest.raises(ValueError, match=one_line):
            load(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    plain(tmp_path, "Model")
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"inhibitor_format": 2', '"inhibitor_format": 3'))
    with pytest.raises(ValueError, match="inhibitor_format 3 is not known here, only 2"):
        AutoModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("writer", ["safetensors", "accelerate", "torch"])
def test_weights_that_save_pretrained_did_not_write_are_refused(writer: str, tmp_path: Path) -> None:
    model = tiny_student()
    model.save_pretrained(tmp_path)
    if writer == "safetensors":
        save_model(model, str(tmp_path / "model.safetensors"))
    elif writer == "accelerate":
        accelerate.Accelerator(cpu=True).save_model(model, tmp_path)
    else:
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"^weights of [^\n]* were not written by save_pretrained;[^\n]*$"):
        InhibiDistilBertModel.from_pretrained(tmp_path)


def test_the_configuration_survives_the_sentence(tmp_path: Path) -> None:
    for value in (False, True):
        config = tiny_config(sinusoidal_pos_embds=value)
        config.save_pretrained(tmp_path)
        again = InhibiDistilBertConfig.from_pretrained(tmp_path)
        assert again.sinusoidal_pos_embds is value
        assert again.hidden_size == again.dim == WIDTH
        assert type(again)(**again.to_dict()).to_dict() == again.to_dict()
        assert InhibiDistilBertConfig.from_json_file(tmp_path / "config.json").to_dict() == config.to_dict()
