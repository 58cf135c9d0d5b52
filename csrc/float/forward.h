// The forward pass of one unit of work: a head, or a run of row blocks of one.
#pragma once
#include "inhibit.h"
#include "key_norms.h"
#include "long_calls.h"
#include "row_scores.h"

namespace inhibitor {
namespace {

// T: the elements of queries, keys, values and outputs.
template <class V, class T>
struct Forward {
  using P = Pack<V>;
  using S = Scores<V>;
  static constexpr int W = V::kWidth;

  static int64_t items(const InhibitorCall& c) { return ForwardUnit::count(c); }

  // Everything one unit of work writes to.
  struct Scratch {
    Scratch(const InhibitorCall& c, Arena arena) : rows(c, arena), norms(c, arena) {
      const Sizes<V> size(c, most_at_once(c));
      index = reinterpret_cast<int32_t*>(arena.take(c.keys + W));
      active = reinterpret_cast<int32_t*>(arena.take(c.keys + W));
      shift = arena.take(size.dim);
      panels = arena.take(size.keys * c.dim);
      k_sums = arena.take(size.keys);
      values = arena.take(size.keys * size.value_dim);
      v_sums = arena.take(size.value_dim);
      max_abs_value = arena.take(size.keys);
      q = arena.take(kBlock * size.dim);
      q_sums = arena.take(kBlock);
      factor = arena.take(kBlock);
      z = arena.take(kBlock * size.row);
      out = arena.take(kBlock * size.value_dim);
      used = arena.used();
    }
    typename RowScores<V>::Scratch rows;
    KeyNorms<V> norms;
    int32_t *index, *active;
    float *shift, *panels, *k_sums, *values, *v_sums, *max_abs_value, *q, *q_sums, *factor, *z, *out;
    int64_t used;
  };
  static int64_t scratch(const InhibitorCall& c) { return Scratch(c, Arena(nullptr)).used; }

  static void run(const InhibitorCall& c, int64_t item, float* base) {
    const ForwardUnit unit(c, item);
    Scratch s(c, Arena(base));
    const int64_t n = P::valid_keys(c, unit.batch, s.index);
    pack_head(c, s, unit, n);
    ValueSums<V> v_sums(s.values, Sizes<V>(c).value_dim, s.v_sums);
    for (int64_t block = unit.first_block; block < unit.last_block; ++block)
      if (c.is_signed)
        run_block<true>(c, s, v_sums, unit.batch, unit.head, n, block * kBlock);
      else
        run_block<false>(c, s, v_sums, unit.batch, unit.head, n, block * kBlock);
  }

 private:
  static void pack_head(const InhibitorCall& c, Scratch& s, const ForwardUnit& unit, int64_t n) {
    const Sizes<V> size(c, most_at_once(c));
    const T* k = P::template head<T>(c.key, unit.batch, unit.kv_head);
    const T* v = P::template head<T>(c.value, unit.batch, unit.kv_head);
    const Sight sight = sight_of(c);
    const float* shift = S::is_direct(sight) ? nullptr : s.shift;
    if (shift) P::common_shift(sight, k, c.key.stride[2], s.index, n, c.dim, s.shift);
    P::transposed_panels(k, c.key.stride[2], s.index, n, c.dim, shift, s.panels);
    if (shift) P::panel_sums(s.panels, n, c.dim, s.k_sums);
    s.norms.pack(k, c.key.stride[2], s.index, n, c.dim);
    s.norms.set_head(HeadScalars(c, unit.head).key_norm, shift ? s.k_sums : nullptr);
    P::rows(v, c.value.stride[2], s.index, n, c.value_dim, size.value_dim, nullptr, 1.0f, s.values);
    if (sight == Sight::kAll) P::column_sum(s.values, n, size.value_dim, s.v_sums);
    P::max_abs_values(s.values, n, size.value_dim, c.is_signed, s.max_abs_value);
  }

  template <bool Signed>
  static void run_block(const InhibitorCall& c, const Scratch& s, ValueSums<V>& v_sums, int64_t b, int64_t h,
                        int64_t all, int64_t first) {
    const Sizes<V> size(c, most_at_once(c));
    const HeadScalars scalars(c, h);
    const Sight sight = sight_of(c);
    const bool by_pair = sight == Sight::kPairs, direct = S::is_direct(sight);
    const int64_t rows = c.queries - first < kBlock ? c.queries - first : kBlock;
    const T* q = P::template head<T>(c.query, b, h) + first * c.query.stride[2];
    P::rows(q, c.query.stride[2], nullptr, rows, c.dim, size.dim, direct ? nullptr : s.shift, 1.0f, s.q);
    for (int64_t i = 0; i < rows; ++i) s.q_sums[i] = P::row_sum(s.q + i * size.dim, size.dim);
    const RowMask::Range range = RowMask(c, b, h, s.index, all).visible(first, rows, S::kPanel);
    const int64_t begin = range.begin, n = range.end - begin;
    const typename S::Keys keys = s.norms.keys(s.panels, direct ? nullptr : s.k_sums, begin, n, c.dim);
    S::distances(s.q, s.q_sums, size.dim, rows, keys, s.z, size.row);

    const RowScores<V> row_scores(c, b, h, s.index + begin, n, scalars, s.rows);
    const float *values = s.values + begin * size.value_dim, *max_abs_value = s.max_abs_value + begin;
    const float length = scalars.length(all);
    bool is_nan[kBlock];
    int64_t seen[kBlock];
    for (int64_t i = 0; i < rows; ++i) {
      float* z = s.z + i * size.row;
      const typename S::Row row = row_scores.inhibition(first + i, z, z);
      s.factor[i] = scalars.eta * (row.count == all ? length : scalars.length(row.count));
      if (scalars.is_normalized) {
        const float passed = S::passed(z, sight == Sight::kPrefix ? row.count : n, scalars.unit);
        s.factor[i] /= passed < kLeastPassed ? kLeastPassed : passed;
      }
      is_nan[i] = row.is_nan;
      seen[i] = row.count;
      if (by_pair) {
        const auto keys = Inhibit<V, Signed>::template active_keys<1>(z, size.row, max_abs_value, n, s.active);
        Inhibit<V, Signed>::row(z, values, size.value_dim, keys, s.factor[i], s.out + i * size.value_dim);
      }
    }
    if (sight == Sight::kAll)
      Inhibit<V, Signed>::block(s.z, size.row, rows, values, size.value_dim, n, s.v_sums, max_abs_value, s.factor,
                                s.active, s.out);
    if (sight == Sight::kPrefix)
      Inhibit<V, Signed>::prefixes(s.z, size.row, rows, values, size.value_dim, seen, v_sums, max_abs_value, s.factor,
                                   s.active, s.out);
    for (int64_t i = 0; i < rows; ++i)
      P::write_row(s.out + i * size.value_dim, c.value_dim, is_nan[i],
                   P::template head<T>(c.out, b, h) + (first + i) * c.out.stride[2]);
  }
};

}  // namespace
}  // namespace inhibitor
