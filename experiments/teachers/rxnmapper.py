"""RXNMapper's ALBERT of chemical reactions (Schwaller et al., 2021; MIT), as a folder for `AutoModelForMaskedLM`.

pip download --no-deps rxnmapper==0.4.3 --dest DOWNLOADS
python experiments/teachers/rxnmapper.py DOWNLOADS/rxnmapper-0.4.3-py3-none-any.whl --output runs/teachers/rxnmapper

One layer applied twelve times, 256 wide. Its tokenizer, a regular expression over SMILES and a vocabulary, is written
with `tokenizers`, so that `AutoTokenizer` loads it.
"""

from __future__ import annotations

from metric import write_metric
from transformers import AlbertForMaskedLM, GenerationConfig
from wheels import parser, read_vocabulary, unpacked
from word_level import word_level_tokenizer

ATOMS = r"\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>>?|\*|\$|\%[0-9]{2}|[0-9]"
POSITIONS = 512


def main() -> None:
    options = parser(__doc__, data="../shared/data/reactions").parse_args()
    with unpacked(options.wheel) as folder:
        source = folder / "rxnmapper" / "models" / "transformers" / "albert_heads_8_uspto_all_1310k"
        model = AlbertForMaskedLM.from_pretrained(source)
        vocabulary = read_vocabulary(source / "vocab.txt")
    model.generation_config = GenerationConfig()  # what the old file says of it is refused today
    model.save_pretrained(options.output)
    tokenizer = word_level_tokenizer(vocabulary, ATOMS, max_length=POSITIONS)
    tokenizer.save_pretrained(options.output)
    write_metric(options.output, model, tokenizer, options.data, "validation")


if __name__ == "__main__":
    main()
