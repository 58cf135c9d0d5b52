// The backward pass of one unit of work: all query heads that share one key/value head.
#pragma once
#include "key_norms.h"
#include "row_scores.h"
#include "values.h"

namespace inhibitor {
namespace {

template <class V>
struct Backward {
  using P = Pack<V>;
  using S = Scores<V>;
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;

  // One owner per key/value head: its sums run in one order whatever the number of threads. The gradient of the bias
  // is a sum over the batch as well.
  static int64_t items(const InhibitorCall& c) { return (c.grad_bias && c.batch > 0 ? 1 : c.batch) * c.kv_heads; }

  struct Scratch {
    Scratch(const InhibitorCall& c, Arena arena) : values(c, arena), rows(c, arena, true), norms(c, arena, true) {
      const Sizes<V> size(c);
      index = reinterpret_cast<int32_t*>(arena.take(c.keys));
      shift = arena.take(size.dim);
      k_panels = arena.take(size.keys * c.dim);
      k_sums = arena.take(size.keys);
      k_rows = arena.take(size.keys * size.dim);
      arena.skew();
      dk = arena.take(size.keys * size.dim);
      q = arena.take(kBlock * size.dim);
      q_sums = arena.take(kBlock);
      q_scaled = arena.take(kBlock * size.dim);
      dq = arena.take(kBlock * size.dim);
      g = arena.take(kBlock * size.value_dim);
      s = arena.take(kBlock * size.row);
      z = arena.take(kBlock * size.row);
      b = arena.take(kBlock * size.row);
      used = arena.used();
    }
    Values<V> values;
    typename RowScores<V>::Scratch rows;
    KeyNorms<V> norms;
    int32_t* index;
    float *shift, *k_panels, *k_sums, *k_rows, *dk;
    float *q, *q_sums, *q_scaled, *dq, *g, *s, *z, *b;
    int64_t used;
  };
  static int64_t scratch(const InhibitorCall& c) { return Scratch(c, Arena(nullptr)).used; }

  static void run(const InhibitorCall& c, int64_t item, float* base) {
    const int64_t owned = c.grad_bias ? c.batch : 1, number = item * owned;
    const int64_t first = c.score_bias ? number % c.batch : number / c.kv_heads;  // as in ForwardUnit
    const int64_t kv_head = c.score_bias ? number / c.batch : number % c.kv_heads;
    for (int64_t b = first; b < first + owned; ++b) run_head(c, b, kv_head, base);
  }

 private:
  static void run_head(const InhibitorCall& c, int64_t b, int64_t kv_head, float* base) {
    Scratch s(c, Arena(base));
    const Sizes<V> size(c);
    const int64_t groups = c.heads / c.kv_heads;
    const int64_t n = P::valid_keys(c, b, s.index);
    const float sign_scale = pack_keys(c, s, b, kv_head, n);
    s.values.pack(c, P::head(c.value, b, kv_head), s.index, n);
    if (c.queries == 0) s.values.clear_gradients();
    clear(s.dk, n * size.dim);
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t h = kv_head * groups + group;
      const HeadScalars scalars(c, h);
      Totals totals;
      s.norms.set_head(scalars.key_norm, S::is_direct(sight_of(c)) ? nullptr : s.k_sums);
      const int64_t blocks = (c.queries + kBlock - 1) / kBlock;
      for (int64_t turn = 0; turn < blocks; ++turn) {
        // The first turn chooses how gradients are taken: let it be the block that sees most keys.
        const int64_t first = (sight_of(c) == Sight::kPrefix ? blocks - 1 - turn : turn) * kBlock;
        if (c.is_signed)
          run_block<true>(c, s, scalars, b, h, n, first, turn == 0, sign_scale, totals);
        else
          run_block<false>(c, s, scalars, b, h, n, first, turn == 0, sign_scale, totals);
      }
      s.values.write_gradients(s.index, scalars.eta, group > 0, P::head(c.grad_value, b, kv_head),
                               c.grad_value.stride[2]);
      if (s.norms) totals.key_norm = s.norms.add_gradients(scalars.key_norm, s.k_rows, s.dk, size.dim);
      write_scalars(c, b, h, n, scalars, totals, s.values.dot());
    }
    float* out = P::head(c.grad_key, b, kv_head);
    for (int64_t j = 0; j < n; ++j) write_row(s.dk + j * size.dim, c.dim, out + s.index[j] * c.grad_key.stride[2]);
  }

  // Sums over the pairs of one head, with b_ij = minus the gradient of Z_ij, divided by eta.
  struct Totals {
    double passed = 0;           // b_ij where Z_ij > 0
    double distance = 0;         // b_ij (S_ij - mean S_i) there, S without its bias
    double inhibition = 0;       // b_ij Z_ij, where that is not a sum of the others
    double length_exponent = 0;  // its gradient, where rows see different numbers of keys
    double key_norm = 0, unit = 0;  // their gradients
  };

  // Of a row whose sum is divided by how many keys pass.
  struct Division {
    float passed = 1.0f;   // what it is divided by
    float change = 0.0f;   // what b_ij loses by it where Z_ij < below
    float below = 0.0f;    // from which on keys do not count
    double of_unit = 0.0;  // times the sum of those Z_ij: the gradient of the unit

    Division() = default;
    Division(const HeadScalars& scalars, float counted, double along) : passed(counted), below(scalars.unit) {
      if (!(counted > kLeastPassed)) {
        passed = kLeastPassed, below = 0.0f;
        return;
      }
      const double each = along / static_cast<double>(counted) / static_cast<double>(scalars.unit);
      change = scalars.eta != 0.0f ? static_cast<float>(each / static_cast<double>(scalars.eta)) : 0.0f;
      of_unit = -each / static_cast<double>(scalars.signed_unit);
    }
  };

  // Packs the keys; returns the power of two by which q and k are scaled for their signs.
  static float pack_keys(const InhibitorCall& c, Scratch& s, int64_t b, int64_t kv_head, int64_t n) {
    const Sizes<V> size(c);
    const float* k = P::head(c.key, b, kv_head);
    const Sight sight = sight_of(c);
    P::rows(k, c.key.stride[2], s.index, n, c.dim, size.dim, nullptr, 1.0f, s.k_rows);  // read once: far rows are slow
    const float* shift = S::is_direct(sight) ? nullptr : s.shift;
    if (shift) P::common_shift(sight, s.k_rows, size.dim, nullptr, n, size.dim, s.shift);
    P::transposed_panels(s.k_rows, size.dim, nullptr, n, c.dim, shift, s.k_panels);
    if (shift) P::panel_sums(s.k_panels, n, c.dim, s.k_sums);
    s.norms.pack(s.k_rows, size.dim, nullptr, n, size.dim);
    const float most = P::largest(s.k_rows, n * size.dim);
    const float scale = ::ldexpf(1.0f, most > 0x1p-2f ? 125 - ::ilogbf(most) : 127);
    P::scale(s.k_rows, n * size.dim, scale);
    return scale;
  }

  template <bool Signed>
  static void run_block(const InhibitorCall& c, Scratch& s, const HeadScalars& scalars, int64_t b, int64_t h,
                        int64_t all, int64_t first, bool is_first, float sign_scale, Totals& totals) {
    const Sizes<V> size(c);
    const Sight sight = sight_of(c);
    const bool direct = S::is_direct(sight);
    const int64_t groups = c.heads / c.kv_heads;
    const int64_t rows = c.queries - first < kBlock ? c.queries - first : kBlock;
    const float* q = P::head(c.query, b, h) + first * c.query.stride[2];
    P::rows(q, c.query.stride[2], nullptr, rows, c.dim, size.dim, direct ? nullptr : s.shift, 1.0f, s.q);
    P::rows(q, c.query.stride[2], nullptr, rows, c.dim, size.dim, nullptr, sign_scale, s.q_scaled);
    for (int64_t i = 0; i < rows; ++i) s.q_sums[i] = P::row_sum(s.q + i * size.dim, size.dim);
    const RowMask::Range range = RowMask(c, b, h, s.index, all).visible(first, rows, S::kPanel);
    const int64_t begin = range.begin, n = range.end - begin;
    const typename S::Keys keys = s.norms.keys(s.k_panels, direct ? nullptr : s.k_sums, begin, n, c.dim);
    S::distances(s.q, s.q_sums, size.dim, rows, keys, s.s, size.row);

    const RowScores<V> row_scores(c, b, h, s.index + begin, n, scalars, s.rows);
    typename S::Row row[kBlock];
    for (int64_t i = 0; i < rows; ++i)
      row[i] = row_scores.inhibition(first + i, s.s + i * size.row, s.z + i * size.row);
    const float* grad = P::head(c.grad_out, b, h) + first * c.grad_out.stride[2];
    Division divisions[kBlock];
    if (sight != Sight::kAll || scalars.is_normalized) {
      const float* out = P::head(c.out, b, h) + first * c.out.stride[2];
      for (int64_t i = 0; i < rows; ++i, grad += c.grad_out.stride[2], out += c.out.stride[2]) {
        const double along = static_cast<double>(P::dot(grad, out, c.value_dim));
        if (scalars.is_normalized) {
          const int64_t visited = sight == Sight::kPrefix ? row[i].count : n;
          divisions[i] = Division(scalars, S::passed(s.z + i * size.row, visited, scalars.unit), along);
        }
        const float factor = scalars.length(row[i].count) / divisions[i].passed;
        P::rows(grad, 0, nullptr, 1, c.value_dim, size.value_dim, nullptr, factor, s.g + i * size.value_dim);
        totals.length_exponent += scalars.log_length(row[i].count) * along;
      }
    } else {
      P::rows(grad, c.grad_out.stride[2], nullptr, rows, c.value_dim, size.value_dim, nullptr, scalars.length(n), s.g);
    }
    if (is_first) {
      if (h % groups == 0) {
        int64_t seen[kBlock];
        for (int64_t i = 0; i < rows; ++i) seen[i] = sight == Sight::kPrefix ? row[i].count : all;
        s.values.choose(c, P::head(c.value, b, h / groups), s.index, s.z, size.row, rows, range, seen);
      }
      s.values.clear_gradients();
    }
    s.values.template add_gradients<Signed>(s.z, s.b, size.row, rows, s.g, range);
    const auto score_row = row_scores.bias() || scalars.is_normalized ? score_row_of<true> : score_row_of<false>;
    for (int64_t i = 0, at = 0; i < rows; ++i, at += size.row) {
      score_row(s.s + at, s.z + at, s.b + at, n, row[i], c, scalars, row_scores, divisions[i], first + i, totals);
      if (s.norms) s.norms.add_row(s.b + at, begin, n);
    }
    clear(s.dq, rows * size.dim);
    const int64_t at = begin * size.dim;
    ScoreGradients<V>::run(s.b, size.row, rows, n, s.q_scaled, s.dq, s.k_rows + at, s.dk + at, size.dim);
    float* out = P::head(c.grad_query, b, h) + first * c.grad_query.stride[2];
    for (int64_t i = 0; i < rows; ++i) write_row(s.dq + i * size.dim, c.dim, out + i * c.grad_query.stride[2]);
  }

  // b_ij -> dL/dS_ij * gamma / sqrt(D), the centering folded in; adds this row's share of the scalars, and its
  // gradient of the bias. General: with a bias or a division.
  template <bool General>
  static void score_row_of(const float* s, const float* z, float* b, int64_t n, const typename S::Row& row,
                           const InhibitorCall& c, const HeadScalars& scalars, const RowScores<V>& row_scores,
                           const Division& division, int64_t query, Totals& totals) {
    const Vec zero = V::zero(), infinity = V::set(S::kInfinity), mean = V::set(row.mean);
    const Vec below = V::set(division.below), change = V::set(division.change);
    Vec all = zero, distances = zero, inhibition = zero, counted = zero;
    for (int64_t j = 0; j < n; j += W) {
      const Vec score = V::load(z + j);
      const auto counts = V::gt(infinity, score), positive = V::gt(score, zero);
      const auto where = [&](Vec x) { return V::select(counts, V::select(positive, x, zero), zero); };
      Vec passed = where(V::load(b + j));
      if (General) {
        const auto counts_less = V::gt(below, score);
        inhibition = V::fma(passed, where(score), inhibition);
        counted = V::add(counted, V::select(counts_less, score, zero));
        passed = V::sub(passed, V::select(counts_less, where(change), zero));
      }
      all = V::add(all, passed);
      distances = V::fma(passed, where(V::sub(V::load(s + j), mean)), distances);
      V::store(b + j, passed);
    }
    const float total = V::sum(all);
    totals.passed += static_cast<double>(total);
    totals.distance += static_cast<double>(V::sum(distances));
    if (const uint32_t* least = row_scores.least_bits(query)) subtract_at(b, n, least, total);
    const float b_mean = c.center == kMean && row.count > 0 ? total / static_cast<float>(row.count) : 0.0f;
    if (General) {
      totals.unit += division.of_unit * static_cast<double>(V::sum(counted));
      totals.inhibition += static_cast<double>(V::sum(inhibition));
      const Bias<V>& bias = row_scores.bias();
      if (bias && bias.wants_gradient()) bias.add_gradient(query, n, b, z, b_mean, scalars.eta);
    }
    const Vec constant = V::set(b_mean);
    const Vec factor = V::set(-scalars.eta * scalars.scale / V::kSign);
    for (int64_t j = 0; j < n; j += W) {
      const Vec ds = V::mul(V::sub(V::load(b + j), constant), factor);
      V::store(b + j, V::select(V::gt(infinity, V::load(z + j)), ds, zero));
    }
  }

  // Takes `total` off the marked ones of n, in equal parts.
  static void subtract_at(float* b, int64_t n, const uint32_t* marked, float total) {
    int64_t ties = 0;
    for (int64_t j = 0; j < n; j += W) ties += __builtin_popcount(marked[j / W]);
    float part[W];
    for (int i = 0; i < W; ++i) part[i] = ties ? total / static_cast<float>(ties) : 0.0f;
    for (int64_t j = 0; j < n; j += W)
      if (marked[j / W]) V::store(b + j, V::sub(V::load(b + j), V::expand(part, marked[j / W])));
  }

  // `values` is the sum of v_jk times the gradient of v_jk, divided by eta.
  static void write_scalars(const InhibitorCall& c, int64_t b, int64_t h, int64_t n, const HeadScalars& scalars,
                            const Totals& totals, double values) {
    const double eta = scalars.eta, scale = scalars.scale, delta = scalars.delta;
    // The sum of b Z.
    const double inhibition = c.score_bias || c.unit.data ? totals.inhibition : scale * totals.distance + delta * totals.passed;
    const double grad_eta = values - inhibition;
    float* out = c.grad_scalars + b * c.heads + h;
    const int64_t step = c.batch * c.heads;
    out[0] = static_cast<float>(-eta * totals.distance / ::sqrt(static_cast<double>(c.dim)));
    out[step] = static_cast<float>(grad_eta);
    out[2 * step] = static_cast<float>(-eta * totals.passed);
    const double whole = scalars.log_length(n) * eta * grad_eta;  // all rows see all keys
    out[3 * step] = static_cast<float>(sight_of(c) == Sight::kAll ? whole : totals.length_exponent);
    out[4 * step] = static_cast<float>(totals.key_norm);
    out[5 * step] = static_cast<float>(totals.unit);
  }

  static void write_row(const float* row, int64_t dim, float* out) {
    for (int64_t d = 0; d < dim; d += W) {
      const int64_t left = dim - d;
      V::store_first(out + d, V::load(row + d), static_cast<int>(left < W ? left : W));
    }
  }

  static void clear(float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) x[i] = 0.0f;
  }
};

}  // namespace
}  // namespace inhibitor
