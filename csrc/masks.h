// Which keys each query row may see.
#pragma once
#include <algorithm>
#include <cstring>
#include <limits>

#include "common.h"

namespace inhibitor {
namespace {

// What a row may see of the packed (valid) keys: all of them; those up to its own position; or what a mask says.
enum class Sight { kAll, kPrefix, kPairs };

inline Sight sight_of(const InhibitorCall& c) {
  if (c.attn_mask) return Sight::kPairs;
  return c.is_causal && c.queries > 1 ? Sight::kPrefix : Sight::kAll;  // a single query is the last position
}

// The masks of one call as seen from one head, over packed keys.
class RowMask {
 public:
  RowMask(const InhibitorCall& c, int64_t b, int64_t h, const int32_t* index, int64_t n)
      : call_(c), index_(index), count_(n), in_a_run_(n > 0 && index[n - 1] - index[0] == n - 1), base_(nullptr) {
    if (c.attn_mask) base_ = c.attn_mask + b * c.attn_mask_stride[0] + h * c.attn_mask_stride[1];
  }

  static bool any(const InhibitorCall& c) { return c.attn_mask || c.is_causal; }

  // Keys that causality leaves to query row i: the first of all.
  int64_t prefix(int64_t i) const {
    if (!call_.is_causal) return count_;
    const int64_t last = i + call_.keys - call_.queries;
    return std::upper_bound(index_, index_ + count_, last) - index_;
  }

  struct Range {
    int64_t begin, end;
  };

  // A range that holds all keys which one of `rows` rows may see; it begins at a whole multiple of `panel`.
  Range visible(int64_t first, int64_t rows, int64_t panel) const {
    const int64_t all = prefix(first + rows - 1);
    if (!base_) return {0, all};
    int64_t begin = all, end = 0;
    for (int64_t i = first; i < first + rows; ++i) {
      const uint8_t* row = base_ + i * call_.attn_mask_stride[2];
      begin = first_seen(row, begin);
      end = last_seen(row, end, all);
    }
    return {begin / panel * panel, std::max(begin / panel * panel, end)};
  }

  // hidden[j] for query row i and all packed keys, 0: it may see the key, else +inf; +inf past the last key, to
  // whole vectors. Returns the number that it may see.
  int64_t fill(int64_t i, float* hidden) const {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const int64_t end = prefix(i);
    if (base_)
      copy(base_ + i * call_.attn_mask_stride[2], end, hidden);
    else
      for (int64_t j = 0; j < end; ++j) hidden[j] = 0.0f;
    for (int64_t j = end; j < round_up(count_, kWidest); ++j) hidden[j] = infinity;
    int32_t seen = 0;
    for (int64_t j = 0; j < end; ++j) seen += hidden[j] == 0.0f;
    return seen;
  }

  // Positions of the keys that query row i may see; returns their count.
  int64_t select(int64_t i, int32_t* positions) const {
    const uint8_t* row = base_ + i * call_.attn_mask_stride[2];
    const int64_t end = prefix(i);
    int64_t n = 0;
    for (int64_t j = 0; j < end; ++j) {
      positions[n] = index_[j];
      n += sees(row, j);
    }
    return n;
  }

 private:
  bool in_order() const { return in_a_run_ && call_.attn_mask_stride[3] == 1; }
  bool sees(const uint8_t* row, int64_t j) const { return row[index_[j] * call_.attn_mask_stride[3]]; }

  void copy(const uint8_t* row, int64_t end, float* hidden) const {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    if (in_order()) {
      row += index_[0];
      for (int64_t j = 0; j < end; ++j) hidden[j] = row[j] ? 0.0f : infinity;
    } else {
      for (int64_t j = 0; j < end; ++j) hidden[j] = sees(row, j) ? 0.0f : infinity;
    }
  }

  // The first key below `end` that a row sees, and one past the last from `begin` on. Eight at a time: all rows
  // together read what no row sees.
  int64_t first_seen(const uint8_t* row, int64_t end) const {
    int64_t j = 0;
    if (in_order())
      while (j + 8 <= end && none(row + index_[0] + j)) j += 8;
    while (j < end && !sees(row, j)) ++j;
    return j;
  }
  int64_t last_seen(const uint8_t* row, int64_t begin, int64_t end) const {
    if (in_order())
      while (end - 8 >= begin && none(row + index_[0] + end - 8)) end -= 8;
    while (end > begin && !sees(row, end - 1)) --end;
    return end;
  }
  static bool none(const uint8_t* of_eight) {
    uint64_t all;
    std::memcpy(&all, of_eight, sizeof all);
    return all == 0;
  }

  const InhibitorCall& call_;
  const int32_t* index_;
  int64_t count_;
  bool in_a_run_;
  const uint8_t* base_;
};

}  // namespace
}  // namespace inhibitor
