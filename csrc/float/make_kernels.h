// Builds the kernel table of one instruction set.
#pragma once
#include "backward.h"
#include "decode.h"
#include "forward.h"
#include "kernel_table.h"

namespace inhibitor {
namespace {

// A single query is decoded, more are packed.
template <class V>
struct ForwardOrDecode {
  using F = Forward<V, float>;
  static int64_t items(const InhibitorCall& c) { return serves(c) ? Decode<V>::items(c) : F::items(c); }
  static int64_t scratch(const InhibitorCall& c) { return serves(c) ? Decode<V>::scratch(c) : F::scratch(c); }
  static void run(const InhibitorCall& c, int64_t item, float* base) {
    if (c.dtype == INHIBITOR_BFLOAT16) return Forward<V, Bfloat16>::run(c, item, base);
    return serves(c) ? Decode<V>::run(c, item, base) : F::run(c, item, base);
  }

 private:
  static bool serves(const InhibitorCall& c) { return Decode<V>::serves(c); }
};

template <class V>
constexpr FloatKernels make_kernels() {
  using F = ForwardOrDecode<V>;
  return {V::kName, F::items, F::scratch, F::run, Backward<V>::items, Backward<V>::scratch, Backward<V>::run};
}

}  // namespace
}  // namespace inhibitor
