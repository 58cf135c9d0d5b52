"""A model around ours is guarded as ours is: its class knows nothing of inhibitor attention."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertLMHeadModel, EncoderDecoderModel

from inhibitor_transformers import InhibiDistilBertConfig, InhibiDistilBertModel
from tests.models.tiny import VOCAB, WIDTH, outputs_of, same_outputs, texts, tiny_config, tiny_student, tiny_teacher

Weights = dict[str, Tensor]
QUERY = "transformer.layer.0.attention.q_lin.weight"


def encoder_decoder(encoder: Any) -> EncoderDecoderModel:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=VOCAB, is_decoder=True, add_cross_attention=True, **sizes)
    return EncoderDecoderModel(encoder=encoder, decoder=BertLMHeadModel(config)).eval()


class Around(transformers.PreTrainedModel):
    """Of somebody else's code, which transformers initializes in another way."""

    config_class = BertConfig

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.encoder = InhibiDistilBertModel(tiny_config())
        self.post_init()


COMPOSITES: list[Callable[[], Any]] = [lambda: encoder_decoder(tiny_student()), lambda: Around(BertConfig())]


def edited(folder: Path, edit: Callable[[Weights], object]) -> Path:
    path = folder / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, {"format": "pt"})
    return folder


def edit_encoder(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    whole = json.loads(path.read_text())
    whole["encoder"] = {k: v for k, v in (whole["encoder"] | fields).items() if v is not None}
    path.write_text(json.dumps(whole))


def lose(part: str) -> Callable[[Weights], None]:
    def edit(weights: Weights) -> None:
        for key in [k for k in weights if k.startswith("encoder.") and part in k]:
            del weights[key]

    return edit


def flatten(weights: Weights) -> None:
    weights.update({k: v.flatten(0, 1) for k, v in weights.items() if "q_lin.weight" in k})


@pytest.mark.parametrize("make", COMPOSITES, ids=["transformers'", "custom"])
class TestLoading:
    def test_whole(self, make: Callable[[], Any], tmp_path: Path) -> None:
        model = make()
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path).eval()
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())

    @pytest.mark.parametrize("part", [".inhibitor.", "layer.1.attention.inhibitor.eta", "k_lin.weight", "embeddings"])
    def test_missing_weights(self, part: str, make: Callable[[], Any], tmp_path: Path) -> None:
        model = make()
        model.save_pretrained(tmp_path)
        edited(tmp_path, lose(part))
        with pytest.raises(ValueError, match=rf"^the checkpoint does not hold the weights of the .* missing .*{part}"):
            type(model).from_pretrained(tmp_path)

    def test_unguarded_weights(self, make: Callable[[], Any], tmp_path: Path) -> None:
        model = make()
        model.save_pretrained(tmp_path)
        edited(tmp_path, flatten)
        one_line = r"^weights of this checkpoint were not written by save_pretrained;[^\n]*$"
        with pytest.raises(ValueError, match=one_line):
            type(model).from_pretrained(tmp_path)
        with pytest.raises(ValueError, match=one_line):
            type(model).from_pretrained(tmp_path, ignore_mismatched_sizes=True)


def test_softmax_weights_with_a_configuration_edited(tmp_path: Path) -> None:
    encoder_decoder(tiny_teacher("distilbert")).save_pretrained(tmp_path)
    edit_encoder(tmp_path, model_type="inhibidistilbert")
    with pytest.raises(ValueError, match="saved in an earlier format"):
        EncoderDecoderModel.from_pretrained(tmp_path)
    edit_encoder(tmp_path, inhibitor_format=2)
    with pytest.raises(ValueError, match="were not written by save_pretrained"):
        EncoderDecoderModel.from_pretrained(tmp_path)


def test_an_earlier_format(tmp_path: Path) -> None:
    encoder_decoder(tiny_student()).save_pretrained(tmp_path)
    edit_encoder(tmp_path, inhibitor_format=None)
    with pytest.raises(ValueError, match=r"^[^\n]*saved in an earlier format, [^\n]*make it anew[^\n]*$"):
        EncoderDecoderModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("original", [True, False])
def test_the_configuration_inside_is_refused_by_softmax(original: bool, tmp_path: Path) -> None:
    """Of what `save_original_format=False` writes too: nothing of ours is asked, but the configuration."""
    encoder_decoder(tiny_student(sinusoidal_pos_embds=True)).save_pretrained(tmp_path, save_original_format=original)
    inside = json.loads((tmp_path / "config.json").read_text())["encoder"]
    assert inside["inhibitor_format"] == 2
    if original:
        assert EncoderDecoderModel.from_pretrained(tmp_path).encoder.config.sinusoidal_pos_embds is True
    else:
        with pytest.raises(ValueError, match="were not written by save_pretrained"):
            EncoderDecoderModel.from_pretrained(tmp_path)
    edit_encoder(tmp_path, model_type="distilbert")
    with pytest.raises(Exception, match="import inhibitor_transformers and load this with AutoModel"):
        EncoderDecoderModel.from_pretrained(tmp_path)


def test_the_configuration_is_the_same_through_a_dict() -> None:
    for value in (False, True):
        config = tiny_config(sinusoidal_pos_embds=value)
        for again in (InhibiDistilBertConfig(**config.to_dict()), InhibiDistilBertConfig.from_dict(config.to_dict())):
            assert again.to_dict() == config.to_dict()
            assert again.sinusoidal_pos_embds is value
            assert again.hidden_size == WIDTH
    with pytest.raises(ValueError, match="sinusoidal_pos_embds must be true or false, got 'yes'"):
        tiny_config(sinusoidal_pos_embds="yes")


def test_parts_from_their_own_folders(tmp_path: Path) -> None:
    model = encoder_decoder(tiny_student())
    model.encoder.save_pretrained(tmp_path / "encoder")
    model.decoder.save_pretrained(tmp_path / "decoder")
    again = EncoderDecoderModel.from_encoder_decoder_pretrained(tmp_path / "encoder", tmp_path / "decoder")
    inputs = texts()
    assert same_outputs(outputs_of(again.encoder.eval(), **inputs), outputs_of(model.encoder, **inputs))


def test_an_encoder_of_which_the_checkpoint_holds_nothing_is_new(tmp_path: Path) -> None:
    Around(BertConfig()).save_pretrained(tmp_path)
    save_file({"other": torch.ones(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    scalars = Around.from_pretrained(tmp_path).encoder.transformer.layer[0].attention.inhibitor
    assert scalars.gamma.tolist() == [1.0, 1.0]
