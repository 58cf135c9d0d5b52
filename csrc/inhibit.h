// Phase two: the sum over keys of each value shrunk by its score.
#pragma once
#include "scores.h"

namespace inhibitor {
namespace {

template <class V, bool Signed>
struct Inhibit {
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;

  // What z takes away from v: v - removed(v, z) is softshrink (signed) or relu(v - z).
  static Vec removed(Vec v, Vec z) { return Signed ? V::clamp(v, z) : V::min(v, z); }
  static Vec removed_at(Vec v, const float* z) { return Signed ? V::clamp_at(v, z) : V::min_at(v, z); }

  // out = factor * (sum of v - sum of what z removes) for R rows, P vectors and all n keys.
  template <int R, int P>
  static void tile(const float* z, int64_t z_stride, const float* v, int64_t v_stride, int64_t n, const float* v_sums,
                   const float* factor, float* out, int64_t out_stride) {
    Vec acc[R][P];
    Scores<V>::clear(acc);
    for (int64_t j = 0; j < n; ++j) {
      Vec value[P];
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) value[p] = V::load(v + j * v_stride + p * W);
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        const float* at = z + r * z_stride + j;
        const Vec score = V::set(*at);
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p)
          acc[r][p] = V::add_by_fma(acc[r][p], r % 2 ? removed_at(value[p], at) : removed(value[p], score));
      }
    }
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
        const Vec kept = V::sub(V::load(v_sums + p * W), acc[r][p]);
        V::store(out + r * out_stride + p * W, V::mul(kept, V::set(factor[r])));
      }
  }

  // Every pair counts. out: rows x value_dim (padded), packed.
  static void dense(const float* z, int64_t z_stride, int64_t rows, const float* v, int64_t value_dim, int64_t n,
                    const float* v_sums, const float* factor, float* out) {
    constexpr int P = V::kTileVecs;
    for (int64_t d = 0; d < value_dim;) {
      const int64_t vecs = (value_dim - d) / W;
      int64_t i = 0;
      if (vecs >= P) {
        for (; i + kRows <= rows; i += kRows)
          tile<kRows, P>(z + i * z_stride, z_stride, v + d, value_dim, n, v_sums + d, factor + i,
                         out + i * value_dim + d, value_dim);
        for (; i < rows; ++i)
          tile<1, P>(z + i * z_stride, z_stride, v + d, value_dim, n, v_sums + d, factor + i, out + i * value_dim + d,
                     value_dim);
        d += P * W;
      } else {
        for (; i + kRows <= rows; i += kRows)
          tile<kRows, 1>(z + i * z_stride, z_stride, v + d, value_dim, n, v_sums + d, factor + i,
                         out + i * value_dim + d, value_dim);
        for (; i < rows; ++i)
          tile<1, 1>(z + i * z_stride, z_stride, v + d, value_dim, n, v_sums + d, factor + i, out + i * value_dim + d,
                     value_dim);
        d += W;
      }
    }
  }

  // One row, P vectors, only the keys in `live`; nothing of another key is touched.
  template <int P>
  static void listed(const float* z, const int32_t* live, int64_t count, const float* v, int64_t v_stride, float factor,
                     float* out) {
    Vec even[P], odd[P];
    for (int p = 0; p < P; ++p) even[p] = odd[p] = V::zero();
    int64_t n = 0;
    for (; n + 1 < count; n += 2) {
      const int64_t a = live[n], b = live[n + 1];
      const Vec za = V::set(z[a]), zb = V::set(z[b]);
      for (int p = 0; p < P; ++p) {
        const Vec x = V::load(v + a * v_stride + p * W), y = V::load(v + b * v_stride + p * W);
        even[p] = V::add_by_fma(even[p], V::sub(x, removed(x, za)));
        odd[p] = V::add_by_fma(odd[p], V::sub(y, removed(y, zb)));
      }
    }
    if (n < count) {
      const Vec za = V::set(z[live[n]]);
      for (int p = 0; p < P; ++p) {
        const Vec x = V::load(v + live[n] * v_stride + p * W);
        even[p] = V::add_by_fma(even[p], V::sub(x, removed(x, za)));
      }
    }
    for (int p = 0; p < P; ++p) V::store(out + p * W, V::mul(V::add(even[p], odd[p]), V::set(factor)));
  }

  // One row, all features.
  static void sparse(const float* z, const int32_t* live, int64_t count, const float* v, int64_t value_dim,
                     float factor, float* out) {
    constexpr int P = V::kTileVecs;
    int64_t d = 0;
    for (; d + P * W <= value_dim; d += P * W) listed<P>(z, live, count, v + d, value_dim, factor, out + d);
    for (; d < value_dim; d += W) listed<1>(z, live, count, v + d, value_dim, factor, out + d);
  }
};

}  // namespace
}  // namespace inhibitor
