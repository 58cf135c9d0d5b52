// Register tiles of the backward pass. Nothing here knows of heads or masks: a pair that does not
// count has z = +inf in the first step and ds = 0 in the second, and then passes nothing.
#pragma once
#include "scores.h"

namespace inhibitor {
namespace {

// For all pairs that pass, i.e. |v_jk| > z_ij (signed) or v_jk > z_ij:
//   a_jk += g_ik        (gradient of the values)
//   b_ij += g_ik * sign(v_jk)   (minus the gradient of the scores)
template <class V, bool Signed>
struct ValueGradients {
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;
  static constexpr int kPanel = Sizes<V>::kGradPanel;

  template <int R, int P>
  static void tile(const float* z, float* b, int64_t stride, const float* g, int64_t g_stride, const float* v, float* a,
                   int64_t dim) {
    Vec score[R][P], sum[R][P];
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
        score[r][p] = V::load(z + r * stride + p * W);
        sum[r][p] = V::zero();
      }
    for (int64_t k = 0; k < dim; ++k) {
      Vec size[P], sign[P], acc[P];
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
        const Vec value = V::load(v + k * kPanel + p * W);
        size[p] = Signed ? V::abs(value) : value;
        sign[p] = V::sign_one(value);
        acc[p] = V::load(a + k * kPanel + p * W);
      }
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        const float* at = g + r * g_stride + k;
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
          const typename V::Mask passes = V::gt(size[p], score[r][p]);
          acc[p] = V::add_where_at(passes, acc[p], at);
          sum[r][p] = Signed ? V::fma_where_at(passes, at, sign[p], sum[r][p]) : V::add_where_at(passes, sum[r][p], at);
        }
      }
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) V::store(a + k * kPanel + p * W, acc[p]);
    }
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) V::store(b + r * stride + p * W, sum[r][p]);
  }

  // v, a: transposed panels of kPanel keys (Pack::transposed_panels); z, b: score blocks; g: rows x g_stride.
  INHIBITOR_APART static void run(const float* z, float* b, int64_t stride, int64_t rows, const float* g,
                                  int64_t g_stride, const float* v, float* a, int64_t dim, int64_t n) {
    constexpr int P = V::kGradVecs;
    for (int64_t j = 0; j < n; j += P * W) {
      const int64_t panel = j * dim;
      int64_t i = 0;
      for (; i + kRows <= rows; i += kRows)
        tile<kRows, P>(z + i * stride + j, b + i * stride + j, stride, g + i * g_stride, g_stride, v + panel, a + panel,
                       dim);
      for (; i < rows; ++i)
        tile<1, P>(z + i * stride + j, b + i * stride + j, stride, g + i * g_stride, g_stride, v + panel, a + panel,
                   dim);
    }
  }
};

// dq_id += ds_ij * sign(q_id - k_jd),  dk_jd -= the same. q and k are scaled by a power of two so large
// that any difference but zero is beyond 1 in magnitude (V::add_signed).
template <class V>
struct ScoreGradients {
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;
  static constexpr int64_t kKeys = 32;  // keys (and their gradients) that stay in the first-level cache

  template <int R, int P>
  static void tile(const float* ds, int64_t ds_stride, int64_t n, const float* q, float* dq, const float* k, float* dk,
                   int64_t stride) {
    Vec x[R][P], acc[R][P];
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
        x[r][p] = V::load(q + r * stride + p * W);
        acc[r][p] = V::load(dq + r * stride + p * W);
      }
    for (int64_t j = 0; j < n; ++j) {
      Vec y[P], sum[P];
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
        y[p] = V::load(k + j * stride + p * W);
        sum[p] = V::load(dk + j * stride + p * W);
      }
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p)
          V::add_signed(ds + r * ds_stride + j, x[r][p], y[p], acc[r][p], sum[p]);
      }
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) V::store(dk + j * stride + p * W, sum[p]);
    }
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) V::store(dq + r * stride + p * W, acc[r][p]);
  }

  // P vectors of features, all pairs.
  template <int P>
  static void features(const float* ds, int64_t ds_stride, int64_t rows, int64_t n, const float* q, float* dq,
                       const float* k, float* dk, int64_t stride) {
    for (int64_t j = 0; j < n; j += kKeys) {
      const int64_t count = n - j < kKeys ? n - j : kKeys;
      int64_t i = 0;
      for (; i + kRows <= rows; i += kRows)
        tile<kRows, P>(ds + i * ds_stride + j, ds_stride, count, q + i * stride, dq + i * stride, k + j * stride,
                       dk + j * stride, stride);
      for (; i < rows; ++i)
        tile<1, P>(ds + i * ds_stride + j, ds_stride, count, q + i * stride, dq + i * stride, k + j * stride,
                   dk + j * stride, stride);
    }
  }

  // q, dq: `rows` rows; k, dk: n rows; all of `dim` features, whole vectors.
  INHIBITOR_APART static void run(const float* ds, int64_t ds_stride, int64_t rows, int64_t n, const float* q,
                                  float* dq, const float* k, float* dk, int64_t dim) {
    constexpr int P = V::kGradVecs;
    int64_t d = 0;
    for (; d + P * W <= dim; d += P * W) features<P>(ds, ds_stride, rows, n, q + d, dq + d, k + d, dk + d, dim);
    for (; d < dim; d += W) features<1>(ds, ds_stride, rows, n, q + d, dq + d, k + d, dk + d, dim);
  }
};

}  // namespace
}  // namespace inhibitor
