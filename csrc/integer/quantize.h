// Quantizes whole rows to uint8: the inputs of 8-bit linear layers.
#pragma once
#include "pack.h"

namespace inhibitor {
namespace {

template <class V>
struct Quantize {
  using F = typename V::Float;
  static constexpr int L = V::kLanes;

  // out = clip(rint(x * inverse) + zero, 0, 255) of n features, each with its own `inverse`; NaN becomes 0.
  static void run(const float* x, int64_t n, const float* inverse, float zero, uint8_t* out) {
    const typename F::Vec low = F::set(0.0f - zero), high = F::set(255.0f - zero);
    const typename V::Vec shift = V::set(static_cast<int32_t>(zero));
    int64_t i = 0;
    for (; i + L <= n; i += L)
      V::store_narrow(out + i, quantized(F::load(x + i), F::load(inverse + i), low, high, shift));
    if (i == n) return;
    uint8_t last[L];
    const int left = static_cast<int>(n - i);
    V::store_narrow(last, quantized(F::load_first(x + i, left), F::load_first(inverse + i, left), low, high, shift));
    for (int64_t j = i; j < n; ++j) out[j] = last[j - i];
  }

 private:
  static typename V::Vec quantized(typename F::Vec x, typename F::Vec factor, typename F::Vec low,
                                   typename F::Vec high, typename V::Vec shift) {
    return V::add(V::rint(F::min(F::max(F::mul(x, factor), low), high)), shift);
  }
};

}  // namespace
}  // namespace inhibitor
