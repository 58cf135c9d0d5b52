"""Windows hold the texts, batches hold the windows, and masks are drawn as in BERT."""

from __future__ import annotations

from itertools import combinations, groupby

import numpy as np
import pytest
import torch

from inhibitor_transformers.distill.data import StepBatches, exact_windows, pad_windows, token_windows, unpack
from tests.distill.tiny import SPECIAL, bert_tokenizer, distilbert_tokenizer, roberta_tokenizer, sentences

TOKENIZERS = {"bert": bert_tokenizer, "distilbert": distilbert_tokenizer, "roberta": roberta_tokenizer}
LENGTHS = [8, 16, 32]


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


@pytest.fixture(scope="module")
def texts():
    return sentences(60)


class TestTokenWindows:
    def test_special_tokens_stand_around_every_window(self, tokenizer, texts):
        for window in token_windows(texts, tokenizer, LENGTHS):
            assert window.dtype == np.int32
            assert window[0] == tokenizer.cls_token_id
            assert window[-1] == tokenizer.sep_token_id
            assert not np.isin(window[1:-1], tokenizer.all_special_ids).any()

    def test_a_text_that_fits_is_what_the_tokenizer_makes_of_it(self, tokenizer, texts):
        (window,) = token_windows(texts[:1], tokenizer, [1000])
        assert window.tolist() == tokenizer(texts[0])["input_ids"]

    def test_windows_hold_the_tokens_of_the_texts_in_order(self, tokenizer, texts):
        windows = token_windows(texts, tokenizer, LENGTHS)
        held = [window[1:-1].tolist() for window in windows]
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            joined: list[int] = []
            while len(ids) - len(joined) >= 8 - 2:  # a shorter rest is left out
                body = held.pop(0)
                joined += body
            assert joined == ids[: len(joined)]
        assert held == []

    def test_lengths_lie_between_the_shortest_useful_and_the_longest_asked_for(self, tokenizer, texts):
        sizes = [len(window) for window in token_windows(texts, tokenizer, LENGTHS)]
        assert min(sizes) >= 8
        assert max(sizes) == max(LENGTHS)
        assert set(LENGTHS) <= set(sizes)

    def test_every_length_is_used_about_equally_often(self):
        long_text = " ".join(sentences(400, clauses=(30, 40)))
        sizes = [len(w) for w in token_windows([long_text], bert_tokenizer(), LENGTHS)]
        shares = [sizes.count(length) / len(sizes) for length in LENGTHS]
        assert shares == pytest.approx([1 / 3] * 3, abs=0.05)

    def test_the_seed_decides_the_lengths(self, texts):
        tokenizer = bert_tokenizer()

        def sizes(seed):
            return [len(w) for w in token_windows(texts, tokenizer, LENGTHS, seed=seed)]

        assert sizes(0) == sizes(0) != sizes(1)
        assert sizes(0) == [len(w) for w in token_windows(texts, tokenizer, LENGTHS)]  # what is drawn without a seed

    def test_it_stops_with_the_window_that_reaches_max_tokens(self, texts):
        tokenizer = bert_tokenizer()
        sizes = [len(w) for w in token_windows(texts, tokenizer, LENGTHS)]
        for max_tokens in (1, 300, *(sum(sizes[:n]) + more for n in (1, 2, 3) for more in (-1, 0, 1))):
            found = [len(w) for w in token_windows(texts, tokenizer, LENGTHS, max_tokens=max_tokens)]
            assert found == sizes[: len(found)]
            assert sum(found[:-1]) < max_tokens <= sum(found)

    def test_a_generator_of_texts_is_read_once(self, texts):
        tokenizer = bert_tokenizer()
        assert len(token_windows(iter(texts), tokenizer, LENGTHS)) == len(token_windows(texts, tokenizer, LENGTHS))

    @pytest.mark.parametrize("make", [bert_tokenizer, roberta_tokenizer], ids=["bert", "roberta"])
    def test_pairs_are_written_as_the_tokenizer_writes_them(self, make, texts):
        """Every window is special tokens around one text or two, and as long as without pairs."""
        tokenizer = make()
        single = token_windows(texts, tokenizer, [32, 64])
        windows = token_windows(texts, tokenizer, [32, 64], pair_fraction=1.0)
        assert max(map(len, windows)) == max(map(len, single))
        assert sum(map(len, windows)) == pytest.approx(sum(map(len, single)), rel=0.05)
        special, pairs, repeating = set(tokenizer.all_special_ids), 0, 0
        for window in (w.tolist() for w in windows):
            parts = [list(part) for is_special, part in groupby(window, special.__contains__) if not is_special]
            if len(parts) == 2:
                a, b = (tokenizer.decode(part) for part in parts)
                assert tokenizer(a, b)["input_ids"] == window
                pairs += 1
                repeating += len(set(parts[0]) & set(parts[1])) > 0.7 * len(set(parts[0]))
            else:
                assert len(window) < 12 + len(special)
        assert pairs > 0.8 * len(windows)
        assert 0.2 < repeating / pairs < 0.9

    def test_a_second_text_repeats_four_tokens_of_five_of_the_first(self):
        """In a half of the pairs; every word stands once, so that nothing is repeated by chance."""
        vocabulary = (*SPECIAL, *(f"w{i}" for i in range(16_000)))
        tokenizer = bert_tokenizer(vocabulary)
        text = " ".join(vocabulary[len(SPECIAL) :])
        windows = token_windows([text], tokenizer, [64], pair_fraction=1.0)
        shares, pairs_that_repeat = [], 0
        for window in (w.tolist() for w in windows):
            cut = window.index(tokenizer.sep_token_id)
            first, second = window[1:cut], window[cut + 1 : -1]
            repeated = len(set(first) & set(second))
            assert second[:repeated] == [token for token in first if token in second]
            pairs_that_repeat += repeated > 0
            if repeated and len(second) > repeated:  # none was cut off
                shares.append(repeated / len(first))
        assert pairs_that_repeat / len(windows) == pytest.approx(0.5, abs=0.08)
        assert len(shares) > 0.3 * len(windows)
        assert np.mean(shares) == pytest.approx(0.8, abs=0.05)

    @pytest.mark.parametrize(("words", "separators"), [(12, 1), (13, 2)])
    def test_two_texts_need_twelve_tokens(self, words, separators):
        """And one for what stands between them; a shorter window stays one text."""
        tokenizer = bert_tokenizer()
        (window,) = token_windows(["cat " * words], tokenizer, [32], pair_fraction=1.0)
        assert (window == tokenizer.sep_token_id).sum() == separators
        assert len(window) == words + 2

    def test_half_of_the_windows_may_be_pairs(self, texts):
        tokenizer = bert_tokenizer()
        windows = token_windows(texts, tokenizer, [32], pair_fraction=0.5)
        pairs = [w for w in windows if (w == tokenizer.sep_token_id).sum() == 2]
        assert 0.3 < len(pairs) / len(windows) < 0.7

    def test_two_texts_that_belong_together_are_one_window(self, tokenizer, texts):
        pair = (texts[0], texts[1])
        alone = token_windows([texts[2], texts[3]], tokenizer, [4000])
        windows = token_windows([texts[2], pair, texts[3]], tokenizer, [4000])
        assert [w.tolist() for w in windows] == [alone[0].tolist(), tokenizer(*pair)["input_ids"], alone[1].tolist()]

    def test_pairs_are_cut_to_the_longest_window(self, tokenizer, texts):
        pair = (" ".join(texts[:20]), texts[1])
        (window,) = token_windows([pair], tokenizer, [16, 64])
        assert window.tolist() == tokenizer(*pair, truncation=True, max_length=64)["input_ids"]
        assert len(window) == 64

    def test_a_length_named_twice_is_drawn_twice_as_often(self, texts):
        long = [" ".join(texts * 20)]
        sizes = [len(w) for w in token_windows(long, bert_tokenizer(), [16, 16, 32])]
        assert 1.4 < sizes.count(16) / sizes.count(32) < 2.8

    def test_texts_that_are_too_short_are_an_error(self):
        with pytest.raises(ValueError, match="no window of at least 8 tokens"):
            token_windows(["the cat", ""], bert_tokenizer(), LENGTHS)


class TestExactWindows:
    def test_rows_of_one_length_without_a_gap(self, tokenizer, texts):
        windows = exact_windows(texts, tokenizer, 16, 100_000)
        expected = []
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            expected += [ids[i : i + 14] for i in range(0, len(ids) - 13, 14)]
        assert [w[1:-1].tolist() for w in windows] == expected
        assert {len(w) for w in windows} == {16}
        assert {(int(w[0]), int(w[-1])) for w in windows} == {(tokenizer.cls_token_id, tokenizer.sep_token_id)}

    def test_pairs_are_left_out(self, texts):
        windows = exact_windows([(texts[0], texts[1]), *texts], bert_tokenizer(), 16, 5)
        assert np.array_equal(windows, exact_windows(texts, bert_tokenizer(), 16, 5))

    def test_so_many_and_no_more(self, texts):
        assert len(exact_windows(texts, bert_tokenizer(), 16, 5)) == 5

    def test_a_long_text_behind_many_short_ones_is_found(self, texts):
        """A budget of tokens to look through once hid it: calibration then refused texts that were long enough."""
        short = ["the cat sees a dog ."] * 3000
        long = " and ".join(texts)
        assert len(exact_windows([*short, long], bert_tokenizer(), 128, 2)) == 2

    def test_none_where_no_text_is_long_enough(self):
        assert exact_windows(["the cat sees a dog ."], bert_tokenizer(), 64, 3) == []


class TestStepBatches:
    def make(self, texts, *, steps=20, tokens=96, seed=0, tokenizer=None):
        tokenizer = tokenizer or bert_tokenizer()
        windows = token_windows(texts, tokenizer, LENGTHS)
        return StepBatches(windows, tokenizer, steps=steps, tokens_per_step=tokens, lengths=LENGTHS, seed=seed)

    def test_one_item_per_step(self, texts):
        assert len(self.make(texts, steps=200)) == 200

    def test_a_batch_with_its_padding_keeps_within_the_budget(self, texts):
        batches = self.make(texts, tokens=100)
        sizes = [batches[i]["input_ids"].numel() for i in range(len(batches))]
        assert max(sizes) <= 100
        assert np.mean(sizes) > 60

    def test_little_is_padding(self, texts):
        batches = self.make(texts, steps=60)
        masks = [batches[i]["attention_mask"] for i in range(len(batches))]
        assert sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks) > 0.8

    def test_windows_of_all_lengths_are_padded_by_few_tokens(self):
        sizes = np.random.default_rng(0).integers(8, 257, size=4000)
        windows = [np.full(size, 5, dtype=np.int32) for size in sizes]
        batches = StepBatches(windows, bert_tokenizer(), steps=250, tokens_per_step=2048, lengths=[32, 64, 128, 256])
        masks = [batches[i]["attention_mask"] for i in range(len(batches))]
        assert sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks) > 0.93
        assert all(int(m.sum(1).max() - m.sum(1).min()) < max(4, m.shape[1] / 8) for m in masks)

    def test_windows_that_differ_by_few_tokens_share_a_batch(self):
        def of(*lengths: int) -> list[list[int]]:
            windows = [np.full(n, 5, dtype=np.int32) for n in lengths]
            batches = StepBatches(windows, bert_tokenizer(), steps=1, tokens_per_step=10_000, lengths=[max(lengths)])
            return [sorted(lengths[i] for i in batches[0]["window_indices"])]

        assert of(9, 10, 11, 12) == [[9, 10, 11, 12]]
        assert len(of(8, 13)[0]) == 1

    def test_every_window_once_an_epoch(self, texts):
        windows = len(self.make(texts).windows)
        batches = self.make(texts, steps=10_000).batches
        used, epochs = np.zeros(windows, dtype=int), []
        for batch in batches:
            used[batch] += 1
            if used.min() == used.max():
                epochs.append(used.max())
        assert epochs[:5] == [1, 2, 3, 4, 5]
        assert used.max() - used.min() <= 1

    def test_epochs_differ_in_order(self, texts):
        batches = self.make(texts, steps=10_000).batches
        windows = len(self.make(texts).windows)
        in_an_epoch = next(i for i in range(len(batches)) if sum(map(len, batches[:i])) == windows)
        starts = (0, in_an_epoch, 2 * in_an_epoch)
        epochs = [[batch.tolist() for batch in batches[i : i + in_an_epoch]] for i in starts]
        assert all(a != b for a, b in combinations(epochs, 2))

    def test_an_item_is_the_same_whenever_it_is_asked_for(self, texts):
        a, b = self.make(texts), self.make(texts)
        for index in (7, 0, 7, 19):
            assert all(torch.equal(a[index][name], b[index][name]) for name in a[index])

    def test_a_batch_says_which_windows_it_holds(self, texts):
        batches = self.make(texts)
        for index in range(len(batches)):
            batch = batches[index]
            for row, ids, mask in zip(
                batch["window_indices"], batch["input_ids"], batch["attention_mask"], strict=True
            ):
                assert ids[mask.bool()].tolist() == batches.windows[row].tolist()

    def test_the_seed_decides_the_batches(self, texts):
        a, b = self.make(texts, seed=0), self.make(texts, seed=1)
        assert [i.tolist() for i in a.batches] != [i.tolist() for i in b.batches]

    def test_a_budget_below_the_longest_window_is_an_error(self, texts):
        with pytest.raises(ValueError, match=r"tokens_per_step \(31\) must hold the longest window \(32 tokens\)"):
            self.make(texts, tokens=31)
        assert len(self.make(texts, tokens=32)) == 20  # which it may be


def test_padding_is_masked_and_its_labels_do_not_count(tokenizer):
    windows = [np.arange(10, 22, dtype=np.int32), np.arange(10, 19, dtype=np.int32)]
    batch = pad_windows(windows, tokenizer)
    assert {name: (tuple(t.shape), t.dtype) for name, t in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "labels"), ((2, 12), torch.int64)
    )
    for row, window in enumerate(windows):
        n = len(window)
        assert batch["input_ids"][row].tolist() == [*window.tolist(), *[tokenizer.pad_token_id] * (12 - n)]
        assert batch["attention_mask"][row].tolist() == [1] * n + [0] * (12 - n)
        assert batch["labels"][row].tolist() == [*window.tolist(), *[-100] * (12 - n)]


def test_unpack_gives_the_one_item():
    item = {"input_ids": torch.ones(2, 3)}
    assert unpack([item]) is item
