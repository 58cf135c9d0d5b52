// Phase two in integers: from the sums of all values, what the scores take away from them:
// sign max(|v| - z, 0) = v - sign min(|v|, z). A minimum is faster than a saturating subtraction on Zen 4 and 5.
#pragma once
#include <type_traits>

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
  static constexpr int64_t kChunkWords = 4096;

  // out = from + the sum over groups of sign * min(magnitude, z), for R rows and P vectors of features.
  template <int R, int P>
  static void tile(const Element* z, int64_t z_stride, const uint32_t* magnitudes, const uint32_t* signs,
                   int64_t value_dim, int64_t groups, const int32_t* from, int64_t from_stride, int32_t* out) {
    Vec acc[R][P];
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r) INHIBITOR_UNROLL for (int p = 0; p < P; ++p) acc[r][p] = V::zero();
    for (int64_t g = 0; g < groups; ++g) {
      Vec magnitude[P], sign[P];
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
        magnitude[p] = V::load(magnitudes + g * value_dim + p * L);
        sign[p] = V::load(signs + g * value_dim + p * L);
        V::keep(sign[p]);
      }
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        const Vec x = V::broadcast(z + r * z_stride + g * G);
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p)
          acc[r][p] = V::dot(acc[r][p], V::min(magnitude[p], x), sign[p]);
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p) V::keep(acc[r][p]);
      }
    }
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p)
        V::store(out + r * value_dim + p * L, V::add(V::load(from + r * from_stride + p * L), V::total(acc[r][p])));
  }

  template <int R>
  static void features(const Element* z, int64_t z_stride, const uint32_t* magnitudes, const uint32_t* signs,
                       int64_t value_dim, int64_t groups, const int32_t* from, int64_t from_stride, int32_t* out) {
    constexpr int P = V::kTileVecs;
    int64_t d = 0;
    for (; d + P * L <= value_dim; d += P * L)
      tile<R, P>(z, z_stride, magnitudes + d, signs + d, value_dim, groups, from + d, from_stride, out + d);
    if (P / 2 > 1 && d + P / 2 * L <= value_dim) {
      tile<R, P / 2>(z, z_stride, magnitudes + d, signs + d, value_dim, groups, from + d, from_stride, out + d);
      d += P / 2 * L;
    }
    for (; d < value_dim; d += L)
      tile<R, 1>(z, z_stride, magnitudes + d, signs + d, value_dim, groups, from + d, from_stride, out + d);
  }

  // out[i] = what `rows` rows of scores leave of the values, whose sums are `all`.
  INHIBITOR_APART static void block(const Element* z, int64_t z_stride, int64_t rows, const uint32_t* magnitudes,
                                    const uint32_t* signs, const int32_t* all, int64_t value_dim, int64_t groups,
                                    int32_t* out) {
    const int64_t fitting = kChunkWords / value_dim > 0 ? kChunkWords / value_dim : 1;
    const int64_t chunk = fitting < V::kMostGroups ? fitting : V::kMostGroups;
    for (int64_t g = 0; g == 0 || g < groups; g += chunk) {
      const int64_t count = groups - g < chunk ? groups - g : chunk;
      const uint32_t *m = magnitudes + g * value_dim, *s = signs + g * value_dim;
      const Element* x = z + g * G;
      const int64_t from_stride = g > 0 ? value_dim : 0;
      const int32_t* from = g > 0 ? out : all;
      int64_t i = 0;
      const auto tiles = [&](auto R) {
        for (; i + R <= rows; i += R)
          features<R>(x + i * z_stride, z_stride, m, s, value_dim, count, from + i * from_stride, from_stride,
                      out + i * value_dim);
      };
      tiles(std::integral_constant<int, V::kRows>());
      tiles(std::integral_constant<int, V::kRows / 2>());
      tiles(std::integral_constant<int, 1>());
    }
  }
};

}  // namespace
}  // namespace inhibitor
