// Sizes of the packed layouts of one call, for vectors of type V.
#pragma once
#include "../common.h"

namespace inhibitor {
namespace {

template <class V>
struct Sizes {
  static constexpr int kPanel = V::kWidth * V::kTileVecs;      // keys of one panel
  static constexpr int kGradPanel = V::kWidth * V::kGradVecs;  // keys of a panel of the backward pass

  explicit Sizes(const InhibitorCall& c) : Sizes(c, c.keys) {}
  Sizes(const InhibitorCall& c, int64_t most_keys)
      : dim(round_up(c.dim, V::kWidth)),
        value_dim(round_up(c.value_dim, V::kWidth)),
        keys(round_up(most_keys, kPanel)),
        row(keys + 16) {}

  int64_t dim;        // D, padded to whole vectors
  int64_t value_dim;  // Dv, padded to whole vectors
  int64_t keys;       // Nk, or those packed at once, padded to whole panels
  int64_t row;        // floats between two rows of a score block; skewed, or all rows share cache sets
};

}  // namespace
}  // namespace inhibitor
