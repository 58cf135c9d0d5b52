"""Fingerprints: equal for the very same, and for nothing else."""

from __future__ import annotations

from inhibitor_transformers.distill.teacher.fingerprints import fingerprint


class TestFingerprint:
    def test_it_counts_and_depends_on_every_value_and_on_their_order(self):
        texts = ["a", "b", "c"]
        assert fingerprint(texts).startswith("3, ")
        assert fingerprint(texts) == fingerprint(iter(texts))
        others = [["a", "b"], ["a", "c", "b"], ["a", "b", "d"], ["ab", "c", ""], ["a\nb", "c", "c"]]
        assert len({fingerprint(texts), *(fingerprint(o) for o in others)}) == 6

    def test_any_text_can_be_taken(self):
        assert fingerprint(["\ud800", "é", "\x00"]).startswith("3, ")
