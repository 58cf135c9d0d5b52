"""AntiBERTy, a BERT of antibody chains (Ruffolo et al., 2021; MIT), as a folder for `AutoModelForMaskedLM`.

pip download --no-deps antiberty==0.1.3 --dest DOWNLOADS
python experiments/teachers/antiberty.py DOWNLOADS/antiberty-0.1.3-py3-none-any.whl --output runs/teachers/antiberty

Its heads for species, chain and grafting are left out. A chain is tokenized as it is written, a token per residue.
"""

from __future__ import annotations

import torch
from metric import write_metric
from transformers import BertConfig, BertForMaskedLM
from wheels import parser, read_vocabulary, unpacked
from word_level import word_level_tokenizer

POSITIONS = 512
OTHER_HEADS = ("cls.species.", "cls.chain.", "cls.graft.")


def main() -> None:
    options = parser(__doc__, data="../shared/data/antibodies").parse_args()
    with unpacked(options.wheel) as folder:
        models = folder / "antiberty" / "trained_models"
        weights = torch.load(
            models / "AntiBERTy_md_smooth" / "pytorch_model.bin", map_location="cpu", weights_only=True
        )
        vocabulary = read_vocabulary(models / "vocab.txt")
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        intermediate_size=2048,
        max_position_embeddings=POSITIONS,
    )
    model = BertForMaskedLM(config)
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(OTHER_HEADS)}
    missing, unexpected = model.load_state_dict(kept, strict=False)
    # The pooler belongs to the left-out heads; position ids are no longer saved.
    if missing or [name for name in unexpected if "pooler" not in name and "position_ids" not in name]:
        raise ValueError(f"other weights than expected: missing {missing}, unexpected {unexpected}")
    model.save_pretrained(options.output)
    tokenizer = word_level_tokenizer(vocabulary, r"[A-Z]", max_length=POSITIONS)
    tokenizer.save_pretrained(options.output)
    write_metric(options.output, model, tokenizer, options.data, "validation")


if __name__ == "__main__":
    main()
