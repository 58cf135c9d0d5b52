// The mean distance of every query to the keys of its head, without the distances: scores of keys that are taken in
// blocks are centered before the last key is seen. Along one feature, sorted keys and their running sums give
// sum_j |q - k_j| = q (2r - n) + sum_j k_j - 2 (sum of the r least), r the number of keys below q.
#pragma once
#include <cmath>
#include <cstring>
#include <utility>

#include "long_calls.h"
#include "pack.h"
#include "scalars.h"

namespace inhibitor {
namespace {

// Of one feature.
class SortedKeys {
 public:
  SortedKeys(int64_t most, Arena& arena)
      : given_(reinterpret_cast<uint32_t*>(arena.take(most))),
        sorted_(reinterpret_cast<uint32_t*>(arena.take(most))),
        sums_(reinterpret_cast<double*>(arena.take(2 * (most + 1)))) {}

  void set(const float* keys, int64_t n) {
    n_ = n;
    for (int64_t j = 0; j < n; ++j) given_[j] = to_ordered(keys[j]);
    sort();
    sums_[0] = 0.0;
    for (int64_t j = 0; j < n; ++j) sums_[j + 1] = sums_[j] + static_cast<double>(from_ordered(sorted_[j]));
  }

  // out[i] = sum over the keys of |queries[i] - k|. Searches take turns: each waits for memory in every step.
  void distances(const float* queries, int64_t count, double* out) const {
    int64_t i = 0;
    for (; i + kTogether <= count; i += kTogether) some_distances<kTogether>(queries + i, out + i);
    for (; i < count; ++i) some_distances<1>(queries + i, out + i);
  }

 private:
  static constexpr int kTogether = 8;

  // Unsigned numbers in the order of the floats, from -NaN over -0 and 0 to NaN.
  static uint32_t to_ordered(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits ^ (bits >> 31 ? ~0u : 1u << 31);
  }
  static float from_ordered(uint32_t bits) {
    bits ^= bits >> 31 ? 1u << 31 : ~0u;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }

  // By three digits, the least first: from `given_` to `sorted_`.
  void sort() {
    constexpr int kDigits = 3, kShift = 11, kValues = 1 << kShift;
    int32_t first[kDigits][kValues] = {};
    for (int64_t j = 0; j < n_; ++j)
      for (int d = 0; d < kDigits; ++d) ++first[d][given_[j] >> d * kShift & (kValues - 1)];
    uint32_t *from = given_, *to = sorted_;
    for (int d = 0; d < kDigits; ++d) {
      int32_t before = 0;
      for (int32_t& count : first[d]) {
        const int32_t of_digit = count;
        count = before;
        before += of_digit;
      }
      for (int64_t j = 0; j < n_; ++j) to[first[d][from[j] >> d * kShift & (kValues - 1)]++] = from[j];
      std::swap(from, to);
    }
  }

  // Searches without branches, whose outcome nobody could predict.
  template <int R>
  void some_distances(const float* queries, double* out) const {
    const uint32_t* at[R];
    uint32_t query[R];
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
      at[r] = sorted_;
      query[r] = to_ordered(queries[r]);
    }
    int64_t left = n_;
    for (int64_t half; (half = left / 2) > 0; left -= half)
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) at[r] += half & -static_cast<int64_t>(at[r][half - 1] < query[r]);
    for (int r = 0; r < R; ++r) {
      const int64_t below = at[r] - sorted_ + (left > 0 && *at[r] < query[r]);
      const double slope = static_cast<double>(2 * below - n_);
      out[r] = static_cast<double>(queries[r]) * slope + (sums_[n_] - 2.0 * sums_[below]);
    }
  }

  int64_t n_ = 0;
  uint32_t *given_, *sorted_;
  double* sums_;
};

// A unit of work is some features of a key/value head. Its sums lie beside those of the other units, and the mean of a
// row is what they add up to: in one order, whatever the number of threads.
template <class V>
struct MeanDistances {
  static int64_t items(const InhibitorCall& c) { return c.batch * c.kv_heads * parts(c); }
  static int64_t floats(const InhibitorCall& c) { return c.batch * c.heads * parts(c) * c.queries; }

  struct Scratch {
    Scratch(const InhibitorCall& c, Arena arena)
        : index(reinterpret_cast<int32_t*>(arena.take(c.keys + V::kWidth))),
          shift(arena.take(round_up(kFeatures, V::kWidth))),
          column(arena.take(c.keys)),
          keys(c.keys, arena),
          used(arena.used()) {}
    int32_t* index;
    float *shift, *column;
    SortedKeys keys;
    int64_t used;
  };
  static int64_t scratch(const InhibitorCall& c) { return Scratch(c, Arena(nullptr)).used; }

  static void run(const InhibitorCall& c, int64_t item, float* base, float* means) {
    Scratch s(c, Arena(base));
    const int64_t part = item % parts(c), kv_head = item / parts(c) % c.kv_heads, b = item / parts(c) / c.kv_heads;
    const int64_t groups = c.heads / c.kv_heads, first = part * kFeatures;
    const int64_t features = c.dim - first < kFeatures ? c.dim - first : kFeatures;
    const int64_t n = P::valid_keys(c, b, s.index), stride = c.key.stride[2];
    if (n <= kMostAtOnce) return;
    const float* k = P::head(c.key, b, kv_head) + first;
    P::common_shift(sight_of(c), k, stride, s.index, n, features, s.shift);
    for (int64_t d = 0; d < features; ++d) {
      double size = 0.0;
      for (int64_t j = 0; j < n; ++j) {
        const float x = P::row(k, stride, s.index, j)[d];
        size += static_cast<double>(std::fabs(x));
        s.column[j] = x - s.shift[d];
      }
      s.keys.set(s.column, n);
      for (int64_t h = kv_head * groups; h < (kv_head + 1) * groups; ++h)
        add_feature(c, s, P::head(c.query, b, h) + first + d, s.shift[d], HeadScalars(c, h).key_norm * size, n, d == 0,
                    part_of(c, b, h, part, means));
    }
  }

  // Of query i.
  static float of_row(const InhibitorCall& c, const float* means, int64_t b, int64_t h, int64_t i) {
    float mean = 0.0f;
    for (int64_t part = 0; part < parts(c); ++part) mean += part_of(c, b, h, part, means)[i];
    return mean;
  }

 private:
  using P = Pack<V>;
  static constexpr int64_t kFeatures = 8;  // of a unit
  static constexpr int64_t kQueries = 64;  // gathered at once

  static int64_t parts(const InhibitorCall& c) { return (c.dim + kFeatures - 1) / kFeatures; }
  template <class Float>
  static Float* part_of(const InhibitorCall& c, int64_t b, int64_t h, int64_t part, Float* means) {
    return means + ((b * c.heads + h) * parts(c) + part) * c.queries;
  }

  // means[i] (+)= (sum over the keys of |q_i - k| - less) / n, of one feature.
  static void add_feature(const InhibitorCall& c, const Scratch& s, const float* q, float shift, double less, int64_t n,
                          bool is_first, float* means) {
    for (int64_t first = 0; first < c.queries; first += kQueries) {
      const int64_t count = c.queries - first < kQueries ? c.queries - first : kQueries;
      float x[kQueries];
      double sums[kQueries];
      for (int64_t i = 0; i < count; ++i) x[i] = q[(first + i) * c.query.stride[2]] - shift;
      s.keys.distances(x, count, sums);
      for (int64_t i = 0; i < count; ++i) {
        const float mean = static_cast<float>((sums[i] - less) / static_cast<double>(n));
        means[first + i] = is_first ? mean : means[first + i] + mean;
      }
    }
  }
};

}  // namespace
}  // namespace inhibitor
