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
    Scratch(const InhibitorCall& c, Arena& arena)
        : hidden(arena.take(round_up(c.keys, kWidest))),
          shifts(arena.take(c.score_bias ? round_up(c.keys, kWidest) : 0)) {}
    float *hidden, *shifts;
  };

  // For the n packed keys in `index`.
  RowScores(const InhibitorCall& c, int64_t b, int64_t h, const int32_t* index, int64_t n, const HeadScalars& scalars,
            const Scratch& scratch)
      : c_(c), mask_(c, b, h, index, n), bias_(c, h, index, n), n_(n), scalars_(scalars), scratch_(scratch) {}

  // Z of query i from its distances s; z may be s.
  Row inhibition(int64_t i, const float* s, float* z) const {
    int64_t count = n_;
    const float* hidden = nullptr;
    if (RowMask::any(c_)) {
      count = mask_.fill(i, scratch_.hidden);
      hidden = scratch_.hidden;
    }
    if (!bias_) return shifted(s, hidden, count, SameShift(scalars_.delta), z);
    bias_.shifts(i, n_, hidden, count, c_.is_centered, scalars_.delta, scratch_.shifts);
    return shifted(s, hidden, count, ShiftOfKeys{scratch_.shifts}, z);
  }

  const Bias<V>& bias() const { return bias_; }

 private:
  using S = Scores<V>;
  using SameShift = typename S::SameShift;
  using ShiftOfKeys = typename S::ShiftOfKeys;

  template <class Shift>
  Row shifted(const float* s, const float* hidden, int64_t count, Shift shift, float* z) const {
    if (hidden) return S::inhibition_masked(s, hidden, count, n_, c_.is_centered, scalars_.scale, shift, z);
    return S::inhibition(s, n_, c_.is_centered, scalars_.scale, shift, z);
  }

  const InhibitorCall& c_;
  RowMask mask_;
  Bias<V> bias_;
  int64_t n_;
  const HeadScalars& scalars_;
  const Scratch& scratch_;
};

}  // namespace
}  // namespace inhibitor
