// Phase one: a block of query rows against all packed keys, S and then Z.
#pragma once
#include <limits>

#include "pack.h"
#include "scalars.h"

namespace inhibitor {
namespace {

template <class V>
struct Scores {
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;
  static constexpr int kPanel = Sizes<V>::kPanel;

  // Whether distances are taken as such, not from minima and sums over the features.
  static bool is_direct(Sight sight) { return V::kDirect || sight == Sight::kPairs; }

  // The keys of one head as phase one reads them.
  struct Keys {
    const float* panels;  // transposed, shifted
    const float* sums;    // per key, over the features, less what is taken off (KeyNorms); null: distances are taken directly
    const float* norms;   // per key, what is taken off direct distances; null: nothing
    int64_t count;
    int64_t dim;
  };

  template <int R, int P>
  static void clear(Vec (&acc)[R][P]) {
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) acc[r][p] = V::zero();
    }
  }

  // Distances of R rows to P vectors of keys: sum |q - k| = sum q + sum k - 2 sum min(q, k).
  template <int R, int P>
  static void by_minimum(const float* q, const float* q_sums, int64_t q_stride, const float* panel, const float* k_sums,
                         int64_t dim, float* s, int64_t s_stride) {
    Vec acc[R][P];
    clear(acc);
    for (int64_t d = 0; d < dim; ++d) {
      Vec k[P];
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) k[p] = V::load(panel + d * kPanel + p * W);
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        const float* at = q + r * q_stride + d;
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p) acc[r][p] = V::add_by_fma(acc[r][p], V::min_at(k[p], at));
      }
    }
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
        const Vec sums = V::add(V::load(k_sums + p * W), V::set(q_sums[r]));
        V::store(s + r * s_stride + p * W, V::fnma(V::set(2.0f), acc[r][p], sums));
      }
  }

  // The same without cancellation, and without one key's content touching another pair.
  template <int R, int P>
  static void directly(const float* q, const float*, int64_t q_stride, const float* panel, const float*, int64_t dim,
                       float* s, int64_t s_stride) {
    Vec acc[R][P];
    clear(acc);
    for (int64_t d = 0; d < dim; ++d) {
      Vec k[P];
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) k[p] = V::load(panel + d * kPanel + p * W);
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        const Vec x = V::set(q[r * q_stride + d]);
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p)
          acc[r][p] = V::add_by_fma(acc[r][p], V::abs_difference(x, k[p]));
      }
    }
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) V::store(s + r * s_stride + p * W, acc[r][p]);
  }

  using Tile = void (*)(const float*, const float*, int64_t, const float*, const float*, int64_t, float*, int64_t);

  template <int R>
  static Tile tile(int vecs, bool direct) {
    static_assert(V::kTileVecs == 2 || V::kTileVecs == 4, "tiles below cover 1..4 vectors");
    if constexpr (V::kTileVecs == 4) {
      if (vecs == 4) return direct ? &directly<R, 4> : &by_minimum<R, 4>;
      if (vecs == 3) return direct ? &directly<R, 3> : &by_minimum<R, 3>;
    }
    if (vecs == 2) return direct ? &directly<R, 2> : &by_minimum<R, 2>;
    return direct ? &directly<R, 1> : &by_minimum<R, 1>;
  }

  // s[i][j] for `rows` packed queries and all keys.
  INHIBITOR_APART static void distances(const float* q, const float* q_sums, int64_t q_stride, int64_t rows,
                                        const Keys& keys, float* s, int64_t s_stride) {
    const bool direct = V::kDirect || keys.sums == nullptr;
    for (int64_t j = 0; j < keys.count; j += kPanel) {
      const int64_t left = keys.count - j;
      const int vecs = static_cast<int>(left >= kPanel ? V::kTileVecs : (left + W - 1) / W);
      const float* panel = keys.panels + j * keys.dim;
      const float* k_sums = direct ? nullptr : keys.sums + j;
      int64_t i = 0;
      const Tile four = tile<kRows>(vecs, direct);
      for (; i + kRows <= rows; i += kRows)
        four(q + i * q_stride, q_sums + i, q_stride, panel, k_sums, keys.dim, s + i * s_stride + j, s_stride);
      const Tile one = tile<1>(vecs, direct);
      for (; i < rows; ++i)
        one(q + i * q_stride, q_sums + i, q_stride, panel, k_sums, keys.dim, s + i * s_stride + j, s_stride);
      if (direct && keys.norms) subtract(keys.norms + j, vecs * W, rows, s + j, s_stride);
    }
  }

  // s[i][j] -= norms[j] for n keys, whole vectors.
  static void subtract(const float* norms, int64_t n, int64_t rows, float* s, int64_t s_stride) {
    for (int64_t i = 0; i < rows; ++i, s += s_stride)
      for (int64_t j = 0; j < n; j += W) V::store(s + j, V::sub(V::load(s + j), V::load(norms + j)));
  }

  // What becomes of one row of scores.
  struct Row {
    float mean;     // of S over the valid keys, or over those whose score is the least; 0 when not centered
    int64_t count;  // valid keys
    bool is_nan;    // some score is NaN: so is the result
  };

  // What is added to centered scores: delta for all keys, or the shift of each (Bias).
  struct SameShift {
    explicit SameShift(float delta) : shift(V::set(delta)) {}
    Vec at(int64_t) const { return shift; }
    Vec shift;
  };
  struct ShiftOfKeys {
    Vec at(int64_t j) const { return V::load(shifts + j); }
    const float* shifts;
  };

  // z = relu((s - mean) * scale + shift) for all n keys; lanes past n become +inf. z may be s.
  template <class Shift>
  static Row inhibition(const float* s, int64_t n, bool centered, float scale, Shift shift, float* z) {
    const float mean = centered && n > 0 ? valid_sum(s, n) / static_cast<float>(n) : 0.0f;
    return {mean, n, inhibition_above(mean, s, n, scale, shift, z)};
  }

  // The same where the mean is known; returns whether some score is NaN.
  template <class Shift>
  static bool inhibition_above(float row_mean, const float* s, int64_t n, float scale, Shift shift, float* z) {
    const Vec mean = V::set(row_mean), factor = V::set(scale);
    unsigned nan = 0;
    for (int64_t j = 0; j < n; j += W) {
      const Vec x = V::max(V::zero(), V::fma(V::sub(V::load(s + j), mean), factor, shift.at(j)));
      nan |= V::bits(V::is_nan(x)) & (j + W <= n ? ~0u : (1u << (n - j)) - 1u);
      V::store(z + j, x);
    }
    hide(z, n, round_up(n, kPanel));
    return nan != 0;
  }

  // The same for the `count` keys whose `hidden` is 0 (RowMask); z becomes +inf elsewhere, whatever s holds there.
  template <class Shift>
  static Row inhibition_masked(const float* s, const float* hidden, int64_t count, int64_t n, bool centered,
                               float scale, Shift shift, float* z) {
    Row row{0.0f, count, false};
    const Vec infinity = V::set(kInfinity), factor = V::set(scale);
    if (centered && count > 0) {
      Vec sum = V::zero();
      for (int64_t j = 0; j < n; j += W)
        sum = V::add(sum, V::select(V::gt(infinity, V::load(hidden + j)), V::load(s + j), V::zero()));
      row.mean = V::sum(sum) / static_cast<float>(count);
    }
    const Vec mean = V::set(row.mean);
    unsigned nan = 0;
    for (int64_t j = 0; j < n; j += W) {
      const typename V::Mask seen = V::gt(infinity, V::load(hidden + j));
      const Vec x = V::max(V::zero(), V::fma(V::sub(V::load(s + j), mean), factor, shift.at(j)));
      nan |= V::bits(V::is_nan(x)) & V::bits(seen);
      V::store(z + j, V::select(seen, x, infinity));
    }
    row.is_nan = nan != 0;
    hide(z, n, round_up(n, kPanel));
    return row;
  }

  // z = relu(x - least x + delta) with x = s * scale + shift, for the `count` keys whose `hidden` is 0 (null: all n); z
  // becomes +inf elsewhere. bits, where given, gets a word per W keys: those whose x is the least.
  template <class Shift>
  static Row inhibition_least(const float* s, const float* hidden, int64_t count, int64_t n, const HeadScalars& scalars,
                              Shift shift, float* z, uint32_t* bits) {
    Row row{0.0f, count, false};
    const Vec infinity = V::set(kInfinity), factor = V::set(scalars.scale);
    const auto counts = [&](int64_t j) {
      return hidden ? V::gt(infinity, V::load(hidden + j)) : V::gt(V::set(static_cast<float>(n - j)), V::load(kLanes));
    };
    const auto x_at = [&](int64_t j) {
      return V::select(counts(j), V::fma(V::load(s + j), factor, shift.at(j)), infinity);
    };
    Vec lowest = infinity;
    for (int64_t j = 0; j < n; j += W) lowest = V::min(x_at(j), lowest);  // skips NaN
    const float least = -V::largest(V::sub(V::zero(), lowest));
    if (bits) row.mean = mark_least(s, n, V::set(least), x_at, bits);
    const Vec offset = V::set(scalars.delta), subtracted = V::set(least);
    unsigned nan = 0;
    for (int64_t j = 0; j < n; j += W) {
      const typename V::Mask seen = counts(j);
      const Vec x = V::max(V::zero(), V::add(V::sub(x_at(j), subtracted), offset));
      nan |= V::bits(V::is_nan(x)) & V::bits(seen);
      V::store(z + j, V::select(seen, x, infinity));
    }
    row.is_nan = nan != 0;
    hide(z, n, round_up(n, kPanel));
    return row;
  }

  // How many of the first n keys pass: the sum of 1 - z / unit where z < unit. z past n is +inf, to whole vectors.
  static float passed(const float* z, int64_t n, float unit) {
    if (!(unit > 0.0f)) return std::numeric_limits<float>::quiet_NaN();
    constexpr float most = std::numeric_limits<float>::max();  // of a denormal unit, beside which z = 0 must stay 0
    const Vec factor = V::set(1.0f / unit > most ? most : 1.0f / unit), one = V::set(1.0f), limit = V::set(unit);
    Vec sum = V::zero();
    for (int64_t j = 0; j < n; j += W) {
      const Vec x = V::load(z + j);
      sum = V::add(sum, V::select(V::gt(limit, x), V::fnma(x, factor, one), V::zero()));
    }
    return V::sum(sum);
  }

  static void hide(float* z, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) z[j] = kInfinity;
  }

  // Lists the active keys: max_abs_value_j > z_ij in one of R rows at least; returns their count.
  // `active` has room for n + W; `bits`, where given, gets the same as one word per W keys.
  template <int R>
  static int64_t list_active(const float* z, int64_t z_stride, const float* max_abs_value, int64_t n, int32_t* active,
                             uint32_t* bits) {
    int64_t count = 0;
    for (int64_t j = 0; j < n; j += W) {
      Vec least = V::set(kInfinity);
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) least = V::min(V::load(z + r * z_stride + j), least);  // skips NaN
      const typename V::Mask some = V::gt(V::load(max_abs_value + j), least);
      if (bits) bits[j / W] = V::bits(some);
      count += V::append(active + count, some, static_cast<int32_t>(j));
    }
    return count;
  }

  static constexpr float kInfinity = std::numeric_limits<float>::infinity();

 private:
  static constexpr float kLanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

  // Marks the keys whose x is the least; returns the mean of s over them.
  template <class At>
  static float mark_least(const float* s, int64_t n, Vec least, At x_at, uint32_t* bits) {
    float sum = 0.0f;
    int64_t ties = 0;
    for (int64_t j = 0; j < n; j += W) {
      const unsigned above = V::bits(V::gt(x_at(j), least)), last = j + W <= n ? ~0u : (1u << (n - j)) - 1u;
      bits[j / W] = ~above & last & (W == 32 ? ~0u : (1u << W) - 1u);
      for (unsigned rest = bits[j / W]; rest; rest &= rest - 1) sum += s[j + __builtin_ctz(rest)];
      ties += __builtin_popcount(bits[j / W]);
    }
    return ties ? sum / static_cast<float>(ties) : 0.0f;
  }

  static float valid_sum(const float* s, int64_t n) {
    Vec even = V::zero(), odd = V::zero();
    int64_t j = 0;
    for (; j + 2 * W <= n; j += 2 * W) {
      even = V::add(even, V::load(s + j));
      odd = V::add(odd, V::load(s + j + W));
    }
    if (j + W <= n) {
      even = V::add(even, V::load(s + j));
      j += W;
    }
    if (j < n) odd = V::add(odd, V::load_first(s + j, static_cast<int>(n - j)));
    return V::sum(V::add(even, odd));
  }

};

}  // namespace
}  // namespace inhibitor
