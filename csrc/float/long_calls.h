// Which calls take their keys in blocks (LongForward).
#pragma once
#include <algorithm>

#include "../masks.h"

namespace inhibitor {
namespace {

constexpr int64_t kMostAtOnce = 8192;    // keys whose scores against a block of queries stay in the second-level cache
constexpr int64_t kLeastQueries = 2048;  // which are worth sorting the keys for their means

// Where many queries see more keys than that, and nothing takes a whole row of scores: a mask of pairs, causality, a
// bias, the least score; in float32. A sequence to which padding leaves fewer keys takes them all at once.
inline bool is_long(const InhibitorCall& c) {
  return c.dtype == INHIBITOR_FLOAT32 && c.keys > kMostAtOnce && c.queries >= kLeastQueries &&
         sight_of(c) == Sight::kAll && !c.score_bias && c.center != kLeast;
}

// The most keys that are packed at once.
inline int64_t most_at_once(const InhibitorCall& c) { return is_long(c) ? kMostAtOnce : c.keys; }

}  // namespace
}  // namespace inhibitor
