// Which keys each query row may see.
#pragma once
#include <limits>

#include "common.h"

namespace inhibitor {
namespace {

// The masks of one call as seen from one head, over the packed (valid) keys.
class RowMask {
 public:
  RowMask(const InhibitorCall& c, int64_t b, int64_t h, const int32_t* index, int64_t n)
      : call_(c), index_(index), count_(n), base_(nullptr) {
    if (c.attn_mask) base_ = c.attn_mask + b * c.attn_mask_stride[0] + h * c.attn_mask_stride[1];
  }

  static bool any(const InhibitorCall& c) { return c.attn_mask || c.is_causal; }

  // hidden[j] for query row i and all packed keys, 0: it may see the key, else +inf; +inf past the last key, to
  // whole vectors. Returns the number that it may see.
  int64_t fill(int64_t i, float* hidden) const {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const int64_t last = call_.is_causal ? i + call_.keys - call_.queries : call_.keys;
    for (int64_t j = 0; j < count_; ++j) hidden[j] = index_[j] <= last ? 0.0f : infinity;
    for (int64_t j = count_; j < round_up(count_, kWidest); ++j) hidden[j] = infinity;
    if (base_) {
      const uint8_t* row = base_ + i * call_.attn_mask_stride[2];
      for (int64_t j = 0; j < count_; ++j)
        if (!row[index_[j] * call_.attn_mask_stride[3]]) hidden[j] = infinity;
    }
    int64_t seen = 0;
    for (int64_t j = 0; j < count_; ++j) seen += hidden[j] == 0.0f;
    return seen;
  }

 private:
  const InhibitorCall& call_;
  const int32_t* index_;
  int64_t count_;
  const uint8_t* base_;
};

}  // namespace
}  // namespace inhibitor
