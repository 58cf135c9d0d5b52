// The forward pass of a single query, as in decoding with a cache: keys and values are read where they are. Packing them
// for one row would cost more than the attention.
#pragma once
#include "inhibit.h"
#include "row_scores.h"

namespace inhibitor {
namespace {

template <class V>
struct Decode {
  using P = Pack<V>;
  using S = Scores<V>;
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;
  static constexpr int kHeads = 4;  // query heads of one key/value head that read it together

  static bool serves(const InhibitorCall& c) {
    return c.queries == 1 && c.dim % W == 0 && c.value_dim % W == 0 && c.dtype == INHIBITOR_FLOAT32;
  }
  static int64_t items(const InhibitorCall& c) { return c.kv_heads > 0 ? c.batch * c.kv_heads * runs(c) : 0; }

  struct Scratch {
    Scratch(const InhibitorCall& c, Arena arena) {
      index = reinterpret_cast<int32_t*>(arena.take(c.keys));
      seen = reinterpret_cast<int32_t*>(arena.take(c.attn_mask ? c.keys : 0));
      shifts = arena.take(c.score_bias ? round_up(c.keys, kWidest) : 0);
      z = arena.take(kHeads * Sizes<V>(c).row);
      out = arena.take(kHeads * c.value_dim);
      used = arena.used();
    }
    int32_t *index, *seen;
    float *shifts, *z, *out;
    int64_t used;
  };
  static int64_t scratch(const InhibitorCall& c) { return Scratch(c, Arena(nullptr)).used; }

  static void run(const InhibitorCall& c, int64_t item, float* base) {
    const Scratch s(c, Arena(base));
    const int64_t groups = c.heads / c.kv_heads, of_batch = c.kv_heads * runs(c);
    const int64_t b = item / of_batch, kv_head = item % of_batch / runs(c), first = item % runs(c) * kHeads;
    const int64_t last = first + kHeads < groups ? first + kHeads : groups;
    const int64_t valid = P::valid_keys(c, b, s.index), start = kv_head * groups;
    if (!c.attn_mask) return some_heads(c, s, b, start + first, last - first, s.index, valid);
    const bool shared = c.attn_mask_stride[1] == 0;
    for (int64_t h = start + first; h < start + last; h += shared ? kHeads : 1) {
      const int64_t n = RowMask(c, b, h, s.index, valid).select(0, s.seen);
      some_heads(c, s, b, h, shared ? last - first : 1, s.seen, n);
    }
  }

 private:
  static int64_t runs(const InhibitorCall& c) { return (c.heads / c.kv_heads + kHeads - 1) / kHeads; }

  // The next `count` heads from h on, over the n keys in `index`.
  static void some_heads(const InhibitorCall& c, const Scratch& s, int64_t b, int64_t h, int64_t count,
                         const int32_t* index, int64_t n) {
    const auto run = c.is_signed ? with_heads<true>(count) : with_heads<false>(count);
    run(c, s, b, h, index, n);
  }

  using Heads = void (*)(const InhibitorCall&, const Scratch&, int64_t, int64_t, const int32_t*, int64_t);
  template <bool Signed>
  static Heads with_heads(int64_t count) {
    static_assert(kHeads == 4, "one function for each number of heads");
    return count == 4 ? heads<Signed, 4> : count == 3 ? heads<Signed, 3> : count == 2 ? heads<Signed, 2> : heads<Signed, 1>;
  }

  template <bool Signed, int R>
  static void heads(const InhibitorCall& c, const Scratch& s, int64_t b, int64_t h, const int32_t* index, int64_t n) {
    const int64_t kv_head = h / (c.heads / c.kv_heads), stride = Sizes<V>(c).row;
    float factor[R], key_norm[R];
    bool is_nan[R];
    for (int r = 0; r < R; ++r) key_norm[r] = HeadScalars(c, h + r).key_norm;
    const auto measure = c.key_norm.data ? distances<R, true> : distances<R, false>;
    measure(P::head(c.query, b, h), c.query.stride[1], P::head(c.key, b, kv_head), c.key.stride[2], index, n, c.dim,
            key_norm, s.z, stride);
    for (int r = 0; r < R; ++r) {
      const HeadScalars scalars(c, h + r);
      float* z = s.z + r * stride;
      is_nan[r] = inhibition(c, s, scalars, h + r, index, n, z).is_nan;
      factor[r] = scalars.eta * scalars.length(n);
      if (scalars.is_normalized) {
        const float passed = S::passed(z, n, scalars.unit);
        factor[r] /= passed < kLeastPassed ? kLeastPassed : passed;
      }
    }
    const typename Inhibit<V, Signed>::Gathered keys{index, n};
    Inhibit<V, Signed>::template rows<R>(s.z, stride, P::head(c.value, b, kv_head), c.value.stride[2], c.value_dim, keys,
                                         nullptr, factor, s.out);
    for (int r = 0; r < R; ++r)
      P::write_row(s.out + r * c.value_dim, c.value_dim, is_nan[r], P::head(c.out, b, h + r));
  }

  static typename S::Row inhibition(const InhibitorCall& c, const Scratch& s, const HeadScalars& scalars, int64_t h,
                                    const int32_t* index, int64_t n, float* z) {
    if (c.center == kLeast) {
      if (!c.score_bias) return S::inhibition_least(z, nullptr, n, n, scalars, typename S::SameShift(0.0f), z, nullptr);
      Bias<V>(c, h, index, n).shifts(0, n, nullptr, n, false, 0.0f, s.shifts);
      return S::inhibition_least(z, nullptr, n, n, scalars, typename S::ShiftOfKeys{s.shifts}, z, nullptr);
    }
    if (!c.score_bias)
      return S::inhibition(z, n, c.center == kMean, scalars.scale, typename S::SameShift(scalars.delta), z);
    Bias<V>(c, h, index, n).shifts(0, n, nullptr, n, c.center == kMean, scalars.delta, s.shifts);
    return S::inhibition(z, n, c.center == kMean, scalars.scale, typename S::ShiftOfKeys{s.shifts}, z);
  }

  // s[r][j] for R queries and the n keys in `index`, a vector of keys at a time: sums across lanes are taken together.
  // Normed: less key_norm[r] sum |k|.
  template <int R, bool Normed>
  INHIBITOR_APART static void distances(const float* q, int64_t q_stride, const float* k, int64_t k_stride,
                                        const int32_t* index, int64_t n, int64_t dim, const float* key_norm, float* s,
                                        int64_t s_stride) {
    for (int64_t j = 0; j < n; j += W) {
      Vec sums[R][W], norms[W];
      for (int m = 0; m < W; ++m) {
        const float* key = k + index[j + m < n ? j + m : n - 1] * k_stride;
        Vec acc[R], norm = V::zero();
        INHIBITOR_UNROLL for (int r = 0; r < R; ++r) acc[r] = V::zero();
        for (int64_t d = 0; d < dim; d += W) {
          const Vec x = V::load(key + d);
          if (Normed) norm = V::add_by_fma(norm, V::abs(x));
          INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
            acc[r] = V::add_by_fma(acc[r], V::abs_difference(V::load(q + r * q_stride + d), x));
        }
        INHIBITOR_UNROLL for (int r = 0; r < R; ++r) sums[r][m] = acc[r];
        if (Normed) norms[m] = norm;
      }
      if (Normed) V::sum_each(norms);
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        V::sum_each(sums[r]);
        V::store(s + r * s_stride + j, Normed ? V::fnma(V::set(key_norm[r]), norms[0], sums[r][0]) : sums[r][0]);
      }
    }
  }
};

}  // namespace
}  // namespace inhibitor
