// From distances to inhibition, row by row, with masks and bias: the same in both passes.
#pragma once
#include "../masks.h"
#include "bias.h"
#include "scalars.h"
#include "scores.h"

namespace inhibitor {
namespace {

template <class V>
class RowScores {
 public:
  using Row = typename Scores<V>::Row;

  // What a call needs of scratch memory.
  struct Scratch {
    Scratch(const InhibitorCall& c, Arena& arena, bool backward = false)
        : hidden(arena.take(round_up(c.keys, kWidest))),
          shifts(arena.take(c.score_bias ? round_up(c.keys, kWidest) : 0)) {
      const int64_t words = round_up(c.keys, kWidest) / V::kWidth + 1;
      if (backward && c.center == kLeast) least = reinterpret_cast<uint32_t*>(arena.take(kBlock * words));
    }
    float *hidden, *shifts;
    uint32_t* least = nullptr;
  };

  // For the n packed keys in `index`.
  RowScores(const InhibitorCall& c, int64_t b, int64_t h, const int32_t* index, int64_t n, const HeadScalars& scalars,
            const Scratch& scratch)
      : c_(c),
        sight_(sight_of(c)),
        mask_(c, b, h, index, n),
        bias_(c, h, index, n),
        plain_(sight_ == Sight::kAll && !bias_ && c.center != kLeast),
        n_(n),
        scalars_(scalars),
        scratch_(scratch) {}

  // Z of query i from its distances s, +inf for keys that it does not see; z may be s.
  Row inhibition(int64_t i, const float* s, float* z) const {
    if (plain_) return S::inhibition(s, n_, c_.center == kMean, scalars_.scale, SameShift(scalars_.delta), z);
    return not_plain(i, s, z);
  }

  // Where the backward pass finds which scores of query i are its least: a bit per key.
  uint32_t* least_bits(int64_t i) const {
    return scratch_.least ? scratch_.least + i % kBlock * (round_up(c_.keys, kWidest) / V::kWidth + 1) : nullptr;
  }

  const Bias<V>& bias() const { return bias_; }

 private:
  using S = Scores<V>;
  using SameShift = typename S::SameShift;
  using ShiftOfKeys = typename S::ShiftOfKeys;

  INHIBITOR_APART Row not_plain(int64_t i, const float* s, float* z) const {
    const bool by_pair = sight_ == Sight::kPairs;
    const float* hidden = by_pair ? scratch_.hidden : nullptr;
    const int64_t seen = by_pair ? mask_.fill(i, scratch_.hidden) : sight_ == Sight::kPrefix ? mask_.prefix(i) : n_;
    const int64_t visited = by_pair ? n_ : seen;
    const bool least = c_.center == kLeast;
    if (!bias_) return shifted(i, s, hidden, seen, visited, SameShift(least ? 0.0f : scalars_.delta), z);
    bias_.shifts(i, visited, hidden, seen, c_.center == kMean, least ? 0.0f : scalars_.delta, scratch_.shifts);
    return shifted(i, s, hidden, seen, visited, ShiftOfKeys{scratch_.shifts}, z);
  }

  template <class Shift>
  Row shifted(int64_t i, const float* s, const float* hidden, int64_t seen, int64_t visited, Shift shift, float* z) const {
    const bool centered = c_.center == kMean;
    if (hidden && c_.center != kLeast) return S::inhibition_masked(s, hidden, seen, n_, centered, scalars_.scale, shift, z);
    const Row row = c_.center == kLeast
                        ? S::inhibition_least(s, hidden, seen, visited, scalars_, shift, z, least_bits(i))
                        : S::inhibition(s, visited, centered, scalars_.scale, shift, z);
    S::hide(z, round_up(visited, S::kPanel), round_up(n_, S::kPanel));
    if (uint32_t* bits = least_bits(i))
      for (int64_t j = round_up(visited, V::kWidth); j < n_; j += V::kWidth) bits[j / V::kWidth] = 0;
    return row;
  }

  const InhibitorCall& c_;
  Sight sight_;
  RowMask mask_;
  Bias<V> bias_;
  bool plain_;  // all keys, no bias, not above the least
  int64_t n_;
  const HeadScalars& scalars_;
  const Scratch& scratch_;
};

}  // namespace
}  // namespace inhibitor
