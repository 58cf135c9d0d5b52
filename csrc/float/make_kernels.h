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
  static int64_t items(const InhibitorCall& c) { return serves(c) ? Decode<V>::items(c) : Forward<V>::items(c); }
  static int64_t scratch(const InhibitorCall& c) { return serves(c) ? Decode<V>::scratch(c) : Forward<V>::scratch(c); }
  static void run(const InhibitorCall& c, int64_t item, float* base) {
    return serves(c) ? Decode<V>::run(c, item, base) : Forward<V>::run(c, item, base);
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
