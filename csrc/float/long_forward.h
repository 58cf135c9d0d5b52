// The forward pass of many keys. Packed whole, with a block of scores against all of them, they would not stay in the
// second-level cache: here some keys at a time are packed, and serve many queries before the next ones are.
#pragma once
#include "inhibit.h"
#include "key_norms.h"
#include "mean_distances.h"

namespace inhibitor {
namespace {

template <class V>
class LongForward {
  static constexpr int64_t kKeys = 512;        // packed at once
  static constexpr int64_t kQueries = 2048;    // that they serve; whole blocks
  static constexpr int64_t kRow = kKeys + 16;  // as Sizes::row

  static constexpr bool kDirect = V::kDirect;  // Scores::is_direct

 public:
  using P = Pack<V>;
  using S = Scores<V>;
  using Means = MeanDistances<V>;

  struct Scratch {
    Scratch(const InhibitorCall& c, Arena arena) : norms(c, arena) {
      const Sizes<V> size(c);
      index = reinterpret_cast<int32_t*>(arena.take(c.keys + V::kWidth));
      active = reinterpret_cast<int32_t*>(arena.take(kKeys + V::kWidth));
      shift = arena.take(size.dim);
      panels = arena.take(kKeys * c.dim);
      k_sums = arena.take(kKeys);
      values = arena.take(kKeys * size.value_dim);
      v_sums = arena.take(size.value_dim);
      max_abs_value = arena.take(kKeys);
      z = arena.take(kBlock * kRow);
      part = arena.take(kBlock * size.value_dim);
      q = arena.take(kQueries * size.dim);
      q_sums = arena.take(kQueries);
      means = arena.take(kQueries);
      passed = arena.take(kQueries);
      out = arena.take(kQueries * size.value_dim);
      used = arena.used();
    }
    KeyNorms<V> norms;
    int32_t *index, *active;
    float *shift, *panels, *k_sums, *values, *v_sums, *max_abs_value, *z, *part, *q, *q_sums, *means, *passed, *out;
    bool is_nan[kQueries];
    int64_t used;
  };
  static int64_t scratch(const InhibitorCall& c) { return Scratch(c, Arena(nullptr)).used; }

  // `means`: of MeanDistances, where they are needed.
  static void run(const InhibitorCall& c, int64_t item, float* base, const float* means) {
    const ForwardUnit unit(c, item);
    Scratch s(c, Arena(base));
    const int64_t n = P::valid_keys(c, unit.batch, s.index);
    const float* k = P::head(c.key, unit.batch, unit.kv_head);
    if (!kDirect) P::common_shift(Sight::kAll, k, c.key.stride[2], s.index, n, c.dim, s.shift);
    const int64_t end = unit.last_block * kBlock < c.queries ? unit.last_block * kBlock : c.queries;
    for (int64_t first = unit.first_block * kBlock; first < end; first += kQueries) {
      const int64_t rows = end - first < kQueries ? end - first : kQueries;
      pack_queries(c, s, unit, first, rows, means);
      for (int64_t begin = 0; begin < n; begin += kKeys) {
        const int64_t keys = n - begin < kKeys ? n - begin : kKeys;
        pack_keys(c, s, unit, begin, keys);
        const auto add = c.is_signed ? add_block<true> : add_block<false>;
        for (int64_t i = 0; i < rows; i += kBlock) add(c, s, unit, keys, i, rows - i < kBlock ? rows - i : kBlock);
      }
      write(c, s, unit, n, first, rows);
    }
  }

 private:
  static void pack_queries(const InhibitorCall& c, Scratch& s, const ForwardUnit& unit, int64_t first, int64_t rows,
                           const float* means) {
    const Sizes<V> size(c);
    const float* q = P::head(c.query, unit.batch, unit.head) + first * c.query.stride[2];
    P::rows(q, c.query.stride[2], nullptr, rows, c.dim, size.dim, kDirect ? nullptr : s.shift, 1.0f, s.q);
    for (int64_t i = 0; i < rows; ++i) {
      s.q_sums[i] = P::row_sum(s.q + i * size.dim, size.dim);
      s.means[i] = means ? Means::of_row(c, means, unit.batch, unit.head, first + i) : 0.0f;
      s.passed[i] = 0.0f;
      s.is_nan[i] = false;
    }
    for (int64_t i = 0; i < rows * size.value_dim; ++i) s.out[i] = 0.0f;
  }

  static void pack_keys(const InhibitorCall& c, Scratch& s, const ForwardUnit& unit, int64_t begin, int64_t n) {
    const Sizes<V> size(c);
    const float* k = P::head(c.key, unit.batch, unit.kv_head);
    const float* v = P::head(c.value, unit.batch, unit.kv_head);
    const int32_t* index = s.index + begin;
    P::transposed_panels(k, c.key.stride[2], index, n, c.dim, kDirect ? nullptr : s.shift, s.panels);
    if (!kDirect) P::panel_sums(s.panels, n, c.dim, s.k_sums);
    s.norms.pack(k, c.key.stride[2], index, n, c.dim);
    s.norms.set_head(HeadScalars(c, unit.head).key_norm, kDirect ? nullptr : s.k_sums);
    P::rows(v, c.value.stride[2], index, n, c.value_dim, size.value_dim, nullptr, 1.0f, s.values);
    P::column_sum(s.values, n, size.value_dim, s.v_sums);
    P::max_abs_values(s.values, n, size.value_dim, c.is_signed, s.max_abs_value);
  }

  // Adds what the n packed keys give to `rows` queries from number `at` of those packed.
  template <bool Signed>
  static void add_block(const InhibitorCall& c, Scratch& s, const ForwardUnit& unit, int64_t n, int64_t at,
                        int64_t rows) {
    static constexpr float kOnes[kBlock] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const Sizes<V> size(c);
    const HeadScalars scalars(c, unit.head);
    const typename S::SameShift shift(scalars.delta);
    const typename S::Keys keys = s.norms.keys(s.panels, kDirect ? nullptr : s.k_sums, 0, n, c.dim);
    S::distances(s.q + at * size.dim, s.q_sums + at, size.dim, rows, keys, s.z, kRow);
    for (int64_t i = 0; i < rows; ++i) {
      float* z = s.z + i * kRow;
      s.is_nan[at + i] |= S::inhibition_above(s.means[at + i], z, n, scalars.scale, shift, z);
      if (scalars.is_normalized) s.passed[at + i] += S::passed(z, n, scalars.unit);
    }
    Inhibit<V, Signed>::block(s.z, kRow, rows, s.values, size.value_dim, n, s.v_sums, s.max_abs_value, kOnes, s.active,
                              s.part);
    float* out = s.out + at * size.value_dim;
    for (int64_t d = 0; d < rows * size.value_dim; d += V::kWidth)
      V::store(out + d, V::add(V::load(out + d), V::load(s.part + d)));
  }

  static void write(const InhibitorCall& c, Scratch& s, const ForwardUnit& unit, int64_t n, int64_t first,
                    int64_t rows) {
    const Sizes<V> size(c);
    const HeadScalars scalars(c, unit.head);
    const float factor = scalars.eta * scalars.length(n);
    float* to = const_cast<float*>(P::head(c.out, unit.batch, unit.head)) + first * c.out.stride[2];
    for (int64_t i = 0; i < rows; ++i) {
      float* row = s.out + i * size.value_dim;
      const float passed = s.passed[i] < kLeastPassed ? kLeastPassed : s.passed[i];
      P::scale(row, size.value_dim, scalars.is_normalized ? factor / passed : factor);
      P::write_row(row, c.value_dim, s.is_nan[i], to + i * c.out.stride[2]);
    }
  }
};

}  // namespace
}  // namespace inhibitor
