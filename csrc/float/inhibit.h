// Phase two: the sum over keys of each value shrunk by its score.
#pragma once
#include "scores.h"

namespace inhibitor {
namespace {

// What shrinking by z takes away from v: v minus it is softshrink (signed) or relu(v - z).
template <class V, bool Signed>
struct ShrinkTerm : V::Clamp {
  using V::Clamp::Clamp;
};
template <class V>
struct ShrinkTerm<V, false> {
  using Vec = typename V::Vec;
  ShrinkTerm() = default;
  explicit ShrinkTerm(Vec x) : v(x) {}
  Vec add_to(Vec acc, const float* z) const { return V::add_by_fma(acc, V::min_at(v, z)); }
  Vec v;
};

// The sum of the first values, which grows from block to block: always in one order.
template <class V>
class ValueSums {
 public:
  ValueSums(const float* values, int64_t dim, float* sums) : values_(values), sums_(sums), dim_(dim) {}

  const float* of_first(int64_t n) {
    if (count_ == 0)
      for (int64_t d = 0; d < dim_; d += V::kWidth) V::store(sums_ + d, V::zero());
    for (; count_ < n; ++count_)
      for (int64_t d = 0; d < dim_; d += V::kWidth)
        V::store(sums_ + d, V::add(V::load(sums_ + d), V::load(values_ + count_ * dim_ + d)));
    return sums_;
  }

 private:
  const float* values_;
  float* sums_;
  int64_t dim_, count_ = 0;
};

template <class V, bool Signed>
struct Inhibit {
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;

  // Which keys a tile visits: all of them, whose values were summed before (ValueSums), or those in a list.
  struct All {
    static constexpr bool kSummed = true;
    int64_t count;
    int64_t operator[](int64_t n) const { return n; }
    int64_t row(int64_t n) const { return n; }
  };
  struct Listed {
    static constexpr bool kSummed = false;
    const int32_t* index;
    int64_t count;
    int64_t operator[](int64_t n) const { return index[n]; }
    int64_t row(int64_t n) const { return index[n]; }
  };
  // All scores, whose values lie in the listed rows.
  struct Gathered {
    static constexpr bool kSummed = false;
    const int32_t* index;
    int64_t count;
    int64_t operator[](int64_t n) const { return n; }
    int64_t row(int64_t n) const { return index[n]; }
  };

  // out = factor * sum over the visited keys of (v - its shrink term), for R rows and P vectors.
  // `v_sums` is the sum of v over those keys, null where it is taken here.
  template <int R, int P, class Keys>
  static void tile(const float* z, int64_t z_stride, const float* v, int64_t v_stride, Keys keys, const float* v_sums,
                   const float* factor, float* out, int64_t out_stride) {
    Vec acc[R][P], total[P];
    Scores<V>::clear(acc);
    INHIBITOR_UNROLL for (int p = 0; p < P; ++p) total[p] = V::zero();
    for (int64_t n = 0; n < keys.count; ++n) {
      const int64_t j = keys[n];
      const float* from = v + keys.row(n) * v_stride;
      Vec value[P];
      ShrinkTerm<V, Signed> term[P];
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
        value[p] = V::load(from + p * W);
        term[p] = ShrinkTerm<V, Signed>(value[p]);
        if constexpr (!Keys::kSummed) total[p] = V::add(total[p], value[p]);
      }
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p) acc[r][p] = term[p].add_to(acc[r][p], z + r * z_stride + j);
    }
    INHIBITOR_UNROLL for (int p = 0; p < P; ++p)
      if constexpr (Keys::kSummed) total[p] = V::load(v_sums + p * W);
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p)
        V::store(out + r * out_stride + p * W, V::mul(V::sub(total[p], acc[r][p]), V::set(factor[r])));
  }

  // All features of R rows.
  template <int R, class Keys>
  static void rows(const float* z, int64_t z_stride, const float* v, int64_t v_stride, int64_t value_dim, Keys keys,
                   const float* v_sums, const float* factor, float* out) {
    constexpr int P = V::kTileVecs;
    int64_t d = 0;
    for (; d + P * W <= value_dim; d += P * W)
      tile<R, P>(z, z_stride, v + d, v_stride, keys, v_sums ? v_sums + d : nullptr, factor, out + d, value_dim);
    if (d + P / 2 * W <= value_dim) {
      tile<R, P / 2>(z, z_stride, v + d, v_stride, keys, v_sums ? v_sums + d : nullptr, factor, out + d, value_dim);
      d += P / 2 * W;
    }
    for (; d < value_dim; d += W)
      tile<R, 1>(z, z_stride, v + d, v_stride, keys, v_sums ? v_sums + d : nullptr, factor, out + d, value_dim);
  }

  template <int R>
  static Listed active_keys(const float* z, int64_t z_stride, const float* max_abs_value, int64_t n, int32_t* active) {
    return {active, Scores<V>::template list_active<R>(z, z_stride, max_abs_value, n, active, nullptr)};
  }

  // A block of rows, every pair valid. Rows go in fours: a list per four costs little more than the dense
  // tile per key, so it pays once a sixth of the keys is inactive; the first four speak for their block.
  INHIBITOR_APART static void block(const float* z, int64_t z_stride, int64_t rows_in_block, const float* v,
                                    int64_t value_dim, int64_t n, const float* v_sums, const float* max_abs_value,
                                    const float* factor, int32_t* active, float* out) {
    bool sparse = rows_in_block >= kRows;
    int64_t i = 0;
    for (; i + kRows <= rows_in_block; i += kRows) {
      const float* from = z + i * z_stride;
      if (sparse) {
        const Listed keys = active_keys<kRows>(from, z_stride, max_abs_value, n, active);
        if (keys.count * 6 <= n * 5) {
          rows<kRows>(from, z_stride, v, value_dim, value_dim, keys, nullptr, factor + i, out + i * value_dim);
          continue;
        }
        sparse = i > 0;
      }
      rows<kRows>(from, z_stride, v, value_dim, value_dim, All{n}, v_sums, factor + i, out + i * value_dim);
    }
    for (; i < rows_in_block; ++i)
      rows<1>(z + i * z_stride, z_stride, v, value_dim, value_dim, All{n}, v_sums, factor + i, out + i * value_dim);
  }

  // The same where row i sees the first seen[i] keys, seen[i] <= seen[i + 1]: tiles of four rows visit what the first
  // of them sees, the others add their few keys.
  INHIBITOR_APART static void prefixes(const float* z, int64_t z_stride, int64_t rows_in_block, const float* v,
                                       int64_t value_dim, const int64_t* seen, ValueSums<V>& v_sums,
                                       const float* max_abs_value, const float* factor, int32_t* active, float* out) {
    bool sparse = rows_in_block >= kRows;
    int64_t i = 0;
    for (; i + kRows <= rows_in_block; i += kRows) {
      const float* from = z + i * z_stride;
      const int64_t n = seen[i];
      bool done = false;
      if (sparse) {
        Listed keys = active_keys<kRows>(from, z_stride, max_abs_value, n, active);
        while (keys.count > 0 && active[keys.count - 1] >= n) --keys.count;  // of the last, incomplete vector
        done = keys.count * 6 <= n * 5;
        if (done) rows<kRows>(from, z_stride, v, value_dim, value_dim, keys, nullptr, factor + i, out + i * value_dim);
        sparse = done || i > 0;
      }
      if (!done)
        rows<kRows>(from, z_stride, v, value_dim, value_dim, All{n}, v_sums.of_first(n), factor + i, out + i * value_dim);
      for (int r = 1; r < kRows; ++r)
        add_keys(from + r * z_stride, n, seen[i + r], v, value_dim, factor[i + r], out + (i + r) * value_dim);
    }
    for (; i < rows_in_block; ++i)
      rows<1>(z + i * z_stride, z_stride, v, value_dim, value_dim, All{seen[i]}, v_sums.of_first(seen[i]), factor + i,
              out + i * value_dim);
  }

  // One row, nothing of a key outside the list is touched.
  static void row(const float* z, const float* v, int64_t value_dim, Listed keys, float factor, float* out) {
    constexpr int P = V::kTileVecs;
    int64_t d = 0;
    for (; d + P * W <= value_dim; d += P * W) listed<P>(z, keys.index, keys.count, v + d, value_dim, factor, out + d);
    for (; d < value_dim; d += W) listed<1>(z, keys.index, keys.count, v + d, value_dim, factor, out + d);
  }

 private:
  // out += factor * what is left of values `begin` to `end`, for one row.
  static void add_keys(const float* z, int64_t begin, int64_t end, const float* v, int64_t value_dim, float factor,
                       float* out) {
    for (int64_t j = begin; j < end; ++j)
      for (int64_t d = 0; d < value_dim; d += W)
        V::store(out + d, V::fma(kept(V::load(v + j * value_dim + d), V::set(z[j])), V::set(factor), V::load(out + d)));
  }

  static Vec kept(Vec v, Vec z) { return V::sub(v, Signed ? V::clamp(v, z) : V::min(v, z)); }

  // One row, P vectors, only the keys in `active`; nothing of another key is touched.
  template <int P>
  static void listed(const float* z, const int32_t* active, int64_t count, const float* v, int64_t v_stride,
                     float factor, float* out) {
    Vec even[P], odd[P];
    for (int p = 0; p < P; ++p) even[p] = odd[p] = V::zero();
    int64_t n = 0;
    for (; n + 1 < count; n += 2) {
      const int64_t a = active[n], b = active[n + 1];
      const Vec za = V::set(z[a]), zb = V::set(z[b]);
      for (int p = 0; p < P; ++p) {
        const Vec x = V::load(v + a * v_stride + p * W), y = V::load(v + b * v_stride + p * W);
        even[p] = V::add_by_fma(even[p], kept(x, za));
        odd[p] = V::add_by_fma(odd[p], kept(y, zb));
      }
    }
    if (n < count) {
      const Vec za = V::set(z[active[n]]);
      for (int p = 0; p < P; ++p) {
        const Vec x = V::load(v + active[n] * v_stride + p * W);
        even[p] = V::add_by_fma(even[p], kept(x, za));
      }
    }
    for (int p = 0; p < P; ++p) V::store(out + p * W, V::mul(V::add(even[p], odd[p]), V::set(factor)));
  }
};

}  // namespace
}  // namespace inhibitor
