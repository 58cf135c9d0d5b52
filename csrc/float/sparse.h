// The gradients of values and scores where many pairs are inactive, i.e. z_ij >= max_k |v_jk|: those are not visited.
#pragma once
#include "scores.h"

namespace inhibitor {
namespace {

// Its scratch for n keys and vectors of W.
struct PairLists {
  int32_t* active;   // n + W
  uint32_t* bits;  // n / W + 1
  float* part;     // kRows * W * W
  float* sums;     // kRows * (round_up(n, W) + W)
};

// The sums of ValueGradients with features as lanes and, for every four rows, a list of the keys active for one
// of them. What dense tiles do not need is a sum across lanes per pair.
template <class V, bool Signed>
struct SparseValueGradients {
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;

  // At most W keys from `keys`, P vectors of features, R rows: a_j += g_i where v_j passes z_ij; part[r][m] adds
  // up b of row r and the m-th key, not yet summed across lanes.
  template <int R, int P, bool First>
  static void tile(const float* z, int64_t z_stride, const int32_t* keys, int64_t count, const float* g, const float* v,
                   float* a, int64_t dim, float* part) {
    Vec grad[R][P];
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) grad[r][p] = V::load(g + r * dim + p * W);
    for (int64_t m = 0; m < count; ++m) {
      const int64_t j = keys[m];
      Vec size[P], sign[P], acc[P];
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
        const Vec value = V::load(v + j * dim + p * W);
        size[p] = Signed ? V::abs(value) : value;
        sign[p] = Signed ? V::sign_of(value) : V::zero();
        acc[p] = V::load(a + j * dim + p * W);
      }
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        float* to = part + (r * W + m) * W;
        Vec sum = First ? V::zero() : V::load(to);
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
          const typename V::Mask passes = V::gt_at(size[p], z + r * z_stride + j);
          acc[p] = V::add_where(passes, acc[p], grad[r][p]);
          const Vec change = V::flip_where(passes, grad[r][p], sign[p]);
          sum = First && p == 0 ? change : V::add(sum, change);
        }
        V::store(to, sum);
      }
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) V::store(a + j * dim + p * W, acc[p]);
    }
  }

  // Lane m of the result is the sum across the lanes of part[m].
  static Vec across(const float* part) {
    Vec x[W];
    INHIBITOR_UNROLL for (int m = 0; m < W; ++m) x[m] = V::load(part + m * W);
    V::sum_each(x);
    return x[0];
  }

  template <int R>
  static void some_rows(const float* z, float* b, int64_t stride, const float* g, const float* v, float* a, int64_t dim,
                        int64_t n, const float* max_abs_value, const PairLists& lists) {
    constexpr int P = V::kGradVecs;
    const int64_t active = Scores<V>::template list_active<R>(z, stride, max_abs_value, n, lists.active, lists.bits);
    const int64_t length = round_up(n, W) + W;
    for (int64_t first = 0; first < active; first += W) {
      const int64_t count = active - first < W ? active - first : W;
      const int32_t* keys = lists.active + first;
      int64_t d = 0;
      if (dim >= P * W) {
        tile<R, P, true>(z, stride, keys, count, g, v, a, dim, lists.part);
        for (d = P * W; d + P * W <= dim; d += P * W)
          tile<R, P, false>(z, stride, keys, count, g + d, v + d, a + d, dim, lists.part);
      } else {
        tile<R, 1, true>(z, stride, keys, count, g, v, a, dim, lists.part);
        d = W;
      }
      for (; d < dim; d += W) tile<R, 1, false>(z, stride, keys, count, g + d, v + d, a + d, dim, lists.part);
      for (int r = 0; r < R; ++r) V::store(lists.sums + r * length + first, across(lists.part + r * W * W));
    }
    for (int r = 0; r < R; ++r) {
      const float* sums = lists.sums + r * length;
      for (int64_t j = 0; j < n; j += W) {
        const uint32_t bits = lists.bits[j / W];
        V::store(b + r * stride + j, V::expand(sums, bits));
        sums += __builtin_popcount(bits);
      }
    }
  }

  // v, a, g: rows of `dim` features, whole vectors. b of an inactive pair becomes 0.
  INHIBITOR_APART static void run(const float* z, float* b, int64_t stride, int64_t rows, const float* g,
                                  const float* v, float* a, int64_t dim, int64_t n, const float* max_abs_value,
                                  const PairLists& lists) {
    int64_t i = 0;
    for (; i + kRows <= rows; i += kRows)
      some_rows<kRows>(z + i * stride, b + i * stride, stride, g + i * dim, v, a, dim, n, max_abs_value, lists);
    for (; i < rows; ++i)
      some_rows<1>(z + i * stride, b + i * stride, stride, g + i * dim, v, a, dim, n, max_abs_value, lists);
  }
};

}  // namespace
}  // namespace inhibitor
