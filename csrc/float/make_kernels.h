// Builds the kernel table of one instruction set.
#pragma once
#include "backward.h"
#include "decode.h"
#include "forward.h"
#include "kernel_table.h"
#include "long_forward.h"

namespace inhibitor {
namespace {

// A single query is decoded, more are packed: with all of their keys, or with some at a time where they are many.
template <class V>
struct AnyForward {
  using F = Forward<V, float>;
  static int64_t items(const InhibitorCall& c) { return decodes(c) ? Decode<V>::items(c) : F::items(c); }
  static int64_t scratch(const InhibitorCall& c) {
    if (decodes(c)) return Decode<V>::scratch(c);
    const int64_t at_once = is_long(c) && !c.key_mask ? 0 : F::scratch(c);
    return is_long(c) ? std::max(at_once, LongForward<V>::scratch(c)) : at_once;
  }
  static void run(const InhibitorCall& c, int64_t item, float* base, const float* means) {
    if (c.dtype == INHIBITOR_BFLOAT16) return Forward<V, Bfloat16>::run(c, item, base);
    if (decodes(c)) return Decode<V>::run(c, item, base);
    if (is_long(c) && Pack<V>::count_valid(c, ForwardUnit(c, item).batch) > kMostAtOnce)
      return LongForward<V>::run(c, item, base, means);
    return F::run(c, item, base);
  }
  static int64_t mean_floats(const InhibitorCall& c) {
    return is_long(c) && c.center == kMean ? MeanDistances<V>::floats(c) : 0;
  }

 private:
  static bool decodes(const InhibitorCall& c) { return Decode<V>::serves(c); }
};

template <class V>
constexpr FloatKernels make_kernels() {
  using F = AnyForward<V>;
  using M = MeanDistances<V>;
  using B = Backward<V>;
  return {V::kName,   F::items, F::scratch, F::run,     F::mean_floats, M::items,
          M::scratch, M::run,   B::items,   B::scratch, B::run};
}

}  // namespace
}  // namespace inhibitor
