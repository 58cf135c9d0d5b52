// Sizes and packed layouts of the integer kernels. An element is a byte (int8) or a 16-bit word (int16); G of them
// fill the 32 bits that one lane of a dot product reads.
//
// Features: D is cut into G runs of `quads` = ceil(D / G); word l holds features l, quads + l, ... so that quantized
// vectors of consecutive features are merged by shifts alone. Features past D have weight 0.
// Keys: panels of kPanel keys, [panel][word][key]. Values: groups of G keys, [group][feature], magnitudes and signs
// apart.
#pragma once
#include "../common.h"
#include "../masks.h"

namespace inhibitor {
namespace {

template <class V>
struct IntegerSizes {
  static constexpr int L = V::kLanes;
  static constexpr int G = V::kGroup;
  static constexpr int kPanel = L * V::kTileVecs;

  explicit IntegerSizes(const InhibitorCall& c)
      : words((c.dim + G - 1) / G),
        padded_words(round_up(words, L)),
        value_dim(round_up(c.value_dim, L)),
        keys(round_up(c.keys, kPanel)),
        groups(round_up(c.keys, G) / G),
        row(keys + 16),
        narrow_row(round_up(keys, 64) + 64) {}

  int64_t words;         // 32-bit words of a packed feature row
  int64_t padded_words;  // the same in whole vectors
  int64_t value_dim;     // Dv in whole vectors
  int64_t keys;          // Nk in whole panels
  int64_t groups;        // of values
  int64_t row;           // int32 between two rows of distances; skewed, or all rows share cache sets
  int64_t narrow_row;    // elements between two rows of scores
};

}  // namespace
}  // namespace inhibitor
