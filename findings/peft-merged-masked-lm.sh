#!/usr/bin/env bash
# peft 0.21.2 with transformers 5.24.0: a BERT masked LM whose embeddings were trained (modules_to_save) is merged,
# saved and loaded again, and has lost the bias of its vocabulary layer: merging unties the embeddings, saving drops
# that bias as a second name of one that is kept, and loading, no longer tied, fills in zeros, with a table that names
# it "missing". A LoRA of tied embeddings changes the logits when it is merged: peft warns for Llama's names, not for
# BERT's and DistilBERT's.
# Guess before it was run: a merged model is the same after saving and loading, and peft warns for every architecture.
# For users of inhibitor models: students are DistilBERTs, which keep their bias; their masked LMs want
# `word_embeddings` in modules_to_save, not in target_modules.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 peft==0.21.2 accelerate==1.15.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import tempfile
import warnings
from importlib.metadata import version

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM
from transformers import LlamaConfig, LlamaForCausalLM

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.arange(6)[None]


def base(architecture):
    torch.manual_seed(0)
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)).eval()
    if architecture == "distilbert":
        sizes = {"vocab_size": 50, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
        return DistilBertForMaskedLM(DistilBertConfig(**sizes)).eval()
    model = BertForMaskedLM(BertConfig(**SIZES)).eval()
    torch.nn.init.normal_(model.cls.predictions.bias)
    return model


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


def train(architecture, **adapter):
    """A model with an adapter whose weights have moved, and what peft said about tied weights."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = get_peft_model(base(architecture), LoraConfig(r=4, init_lora_weights=False, **adapter)).eval()
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.add_(0.1 * torch.randn_like(weight))
    return model, any("tie" in str(warning.message) for warning in said)


def gap(first, second):
    return (first - second).abs().max().item()


model, _ = train("bert", target_modules=["query"], modules_to_save=["word_embeddings"])
before = logits(model)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    merged = model.merge_and_unload()
folder = tempfile.mkdtemp(dir=".")
merged.save_pretrained(folder)
loaded = BertForMaskedLM.from_pretrained(folder).eval()
bias = merged.get_output_embeddings().bias.detach()
merging, loading = gap(before, logits(merged)), gap(before - bias, logits(loaded))
zeros = not loaded.get_output_embeddings().bias.any()
print(f"peft {version('peft')}, transformers {version('transformers')}")
print(f"embeddings trained: merged, logits move by {merging:.0e}; loaded, the bias is zero: {zeros}, to {loading:.0e}")
assert merging < 1e-5 and loading < 1e-5 and zeros and bias.abs().max() > 1

for architecture, name in (("bert", "word_embeddings"), ("distilbert", "word_embeddings"), ("llama", "embed_tokens")):
    model, warned = train(architecture, target_modules=[name])
    before = logits(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        moved = gap(before, logits(model.merge_and_unload()))
    print(f"LoRA of {architecture}'s tied embeddings: peft warned: {warned}; merging moves logits by {moved:.1f}")
    assert moved > 1 and warned == (architecture == "llama")
PY
echo "as found"
