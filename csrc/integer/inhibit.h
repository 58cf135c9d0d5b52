// Phase two in integers: sums over keys of what the scores take away from the values. What they leave is the rest,
// sign max(|v| - z, 0) = v - sign min(|v|, z): on Zen 4 a minimum is twice as fast as a saturating subtraction.
#pragma once
#include "scores.h"

namespace inhibitor {
namespace {

template <class V>
struct IntegerInhibit {
  using Vec = typename V::Vec;
  using Element = typename V::Element;
  static constexpr int L = V::kLanes;
  static constexpr int G = V::kGroup;

  // Values that are read for all rows of a block before the next: they stay in the first-level cache.
  static constexpr int64_t kChunkWords = 2048;

  // out = sum over groups of sign * min(magnitude, z), added to `out` if `more`; for R rows and P vectors of features.
  template <int R, int P>
  static void tile(const Element* z, int64_t z_stride, const uint32_t* magnitudes, const uint32_t* signs,
                   int64_t stride, int64_t groups, bool more, int32_t* out, int64_t out_stride) {
    Vec acc[R][P];
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p)
        acc[r][p] = more ? V::load(out + r * out_stride + p * L) : V::zero();
    for (int64_t g = 0; g < groups; ++g) {
      Vec magnitude[P];
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) magnitude[p] = V::load(magnitudes + g * stride + p * L);
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        const Vec x = V::broadcast(z + r * z_stride + g * G);
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p)
          acc[r][p] = V::dot(acc[r][p], V::min(magnitude[p], x), V::load(signs + g * stride + p * L));
      }
    }
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) V::store(out + r * out_stride + p * L, acc[r][p]);
  }

  template <int R>
  static void features(const Element* z, int64_t z_stride, const uint32_t* magnitudes, const uint32_t* signs,
                       int64_t value_dim, int64_t groups, bool more, int32_t* out) {
    constexpr int P = V::kTileVecs;
    int64_t d = 0;
    for (; d + P * L <= value_dim; d += P * L)
      tile<R, P>(z, z_stride, magnitudes + d, signs + d, value_dim, groups, more, out + d, value_dim);
    if (d + P / 2 * L <= value_dim) {
      tile<R, P / 2>(z, z_stride, magnitudes + d, signs + d, value_dim, groups, more, out + d, value_dim);
      d += P / 2 * L;
    }
    for (; d < value_dim; d += L)
      tile<R, 1>(z, z_stride, magnitudes + d, signs + d, value_dim, groups, more, out + d, value_dim);
  }

  INHIBITOR_APART static void block(const Element* z, int64_t z_stride, int64_t rows, const uint32_t* magnitudes,
                                    const uint32_t* signs, int64_t value_dim, int64_t groups, int32_t* out) {
    const int64_t chunk = kChunkWords / value_dim > 0 ? kChunkWords / value_dim : 1;
    for (int64_t g = 0; g == 0 || g < groups; g += chunk) {
      const int64_t count = groups - g < chunk ? groups - g : chunk;
      const uint32_t *m = magnitudes + g * value_dim, *s = signs + g * value_dim;
      const Element* x = z + g * G;
      int64_t i = 0;
      for (; i + V::kRows <= rows; i += V::kRows)
        features<V::kRows>(x + i * z_stride, z_stride, m, s, value_dim, count, g > 0, out + i * value_dim);
      for (; i < rows; ++i) features<1>(x + i * z_stride, z_stride, m, s, value_dim, count, g > 0, out + i * value_dim);
    }
  }
};

}  // namespace
}  // namespace inhibitor
