// The last step of a row of sums: floats, or levels of 8 bits and less.
#pragma once
#include "pack.h"

namespace inhibitor {
namespace {

template <class V>
struct IntegerOutput {
  using F = typename V::Float;
  static constexpr int L = V::kLanes;

  // Asks for the memory of a row that will be written: rows of one head lie apart.
  static void prefetch(const IntegerCall& c, int64_t b, int64_t h, int64_t i) {
    if (c.sums || c.levels) return;
    for (int64_t d = 0; d < c.call.value_dim; d += 16) __builtin_prefetch(float_row(c.call, b, h, i) + d, 1);
  }

  // Row i of head h in batch row b, from what is left of the values where the row sees n keys.
  static void row(const IntegerCall& c, const int32_t* sums, int64_t b, int64_t h, int64_t i, int64_t n) {
    const InhibitorCall& call = c.call;
    if (c.sums) {
      int32_t* out = c.sums + ((b * call.heads + h) * call.queries + i) * call.value_dim;
      std::memcpy(out, sums, static_cast<size_t>(call.value_dim) * sizeof(int32_t));
    } else if (c.levels) {
      uint8_t* out = c.levels + b * c.levels_stride[0] + h * c.levels_stride[1] + i * c.levels_stride[2];
      requantized(sums, call.value_dim, c.output_multiplier[h * c.output_multiplier_stride + n], c.output_shift[h], c,
                  out);
    } else {
      scaled(sums, call.value_dim, c.factors[h * c.factor_stride + n], float_row(call, b, h, i));
    }
  }

 private:
  static float* float_row(const InhibitorCall& call, int64_t b, int64_t h, int64_t i) {
    return static_cast<float*>(call.out.data) + b * call.out.stride[0] + h * call.out.stride[1] + i * call.out.stride[2];
  }

  static void scaled(const int32_t* sums, int64_t dim, float factor, float* out) {
    const typename F::Vec f = F::set(factor);
    for (int64_t d = 0; d < dim; d += L) {
      const typename F::Vec x = F::mul(V::to_float(V::load(sums + d)), f);
      if (d + L <= dim)
        F::store(out + d, x);
      else
        F::store_first(out + d, x, static_cast<int>(dim - d));
    }
  }

  // clip(floor((sums * multiplier + half) / 2^shift) + zero, 0, qmax). The product stays below 2^62.
  static void requantized(const int32_t* sums, int64_t dim, int32_t multiplier, int32_t shift, const IntegerCall& c,
                          uint8_t* out) {
    const int64_t half = shift > 0 ? int64_t{1} << (shift - 1) : 0, zero = c.output_zero, qmax = c.output_qmax;
    for (int64_t d = 0; d < dim; ++d) {
      const int64_t y = ((int64_t{sums[d]} * multiplier + half) >> shift) + zero;
      out[d] = static_cast<uint8_t>(y < 0 ? 0 : y > qmax ? qmax : y);
    }
  }
};

}  // namespace
}  // namespace inhibitor
