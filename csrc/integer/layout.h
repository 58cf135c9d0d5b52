// Sizes and packed layouts of the integer kernels. An element is a byte (levels of at most 8 bits) or a 16-bit word.
//
// Features lie in granules of 64 bits: 8 bytes or 4 words of one row. Words have one more before them, which holds a
// sum (simd_*.h). Queries: rows of granules. Keys: panels of 4 vectors of granules, [panel][granule][vector][lane],
// where lane 2i + b of vector a belongs to key 8i + 2a + b: narrowing the sums of the 4 vectors to 16 or 32 bits, in
// pieces of 128 bits as processors do it, then leaves the keys in order.
// Values: groups of G keys in 32 bits, [group][feature], magnitudes and signs apart.
#pragma once
#include "../common.h"
#include "../masks.h"

namespace inhibitor {
namespace {

template <class V>
struct IntegerSizes {
  using Element = typename V::Element;
  static constexpr int L = V::kLanes;                            // of 32 bits
  static constexpr int G = V::kGroup;                            // elements in a lane
  static constexpr int kPanelVecs = 4;
  static constexpr int kPanel = kPanelVecs * L / 2;              // keys of a panel
  static constexpr int64_t kHeadBytes = 8 * V::kHeadGranules;    // before the elements of a row

  explicit IntegerSizes(const IntegerCall& c)
      : features(c.call.dim + c.extra),
        padded_features(round_up(features, G * L)),
        granules(V::kHeadGranules + (features + 2 * G - 1) / (2 * G)),
        packed_row(kHeadBytes + padded_features * static_cast<int64_t>(sizeof(Element))),
        value_dim(round_up(c.call.value_dim, L)),
        keys(round_up(c.call.keys, 2 * kPanel)),
        groups((c.call.keys + G - 1) / G),
        row(keys + 32),
        narrow_row(round_up(keys, 64) + 64) {}

  int64_t features;         // F: those of the call and the repeated ones
  int64_t padded_features;  // as many as whole vectors of elements hold
  int64_t granules;         // of a row
  int64_t packed_row;       // bytes between two rows of queries
  int64_t value_dim;        // Dv in whole vectors
  int64_t keys;             // Nk in whole pairs of panels
  int64_t groups;           // of values
  int64_t row;              // distances between two rows; skewed, or all rows share cache sets
  int64_t narrow_row;       // elements between two rows of scores
};

}  // namespace
}  // namespace inhibitor
