// Phase one in integers: weighted distances, centering, and the rescaling to the steps of v.
#pragma once
#include "pack.h"

namespace inhibitor {
namespace {

// D -> Z of one head: u = clip(sign (D - M) + delta, 0, limit), z = min((u m + half) >> shift, qmax).
struct Rescale {
  int32_t sign, delta, multiplier, shift;
  int32_t limit;  // the u from which on z is `qmax`: a larger one would only overflow
  uint32_t flush;  // vectors of distances whose sum fits 32 bits
};

template <class V>
struct IntegerScores {
  using Vec = typename V::Vec;
  using Element = typename V::Element;
  using Sizes = IntegerSizes<V>;
  static constexpr int L = V::kLanes;
  static constexpr int kPanel = Sizes::kPanel;

  static Rescale rescale(const IntegerCall& c, int64_t h, int64_t kv_head) {
    Rescale r{c.sign[h], c.delta[h], c.multiplier[h], c.shift[h], 0, 1};
    const int64_t qmax = static_cast<int64_t>(V::kValueQmax) << r.shift;
    const int64_t limit = r.multiplier > 0 ? (qmax + r.multiplier - 1) / r.multiplier : 0;
    r.limit = static_cast<int32_t>(limit < INT32_MAX ? limit : INT32_MAX);
    int64_t most = 0;
    for (int64_t d = 0; d < c.call.dim; ++d) most += c.weight[kv_head * c.call.dim + d];
    most *= V::kQmax;
    r.flush = most > 0 ? static_cast<uint32_t>(UINT32_MAX / most) : UINT32_MAX;
    if (r.flush == 0) r.flush = 1;
    return r;
  }

  // Distances of R rows to P vectors of keys: sum w |q - k| = sum w q + sum w k - 2 sum w min(q, k).
  template <int R, int P>
  static void tile(const uint32_t* q, const int32_t* q_sums, int64_t q_stride, const uint32_t* panel,
                   const int32_t* k_sums, const uint32_t* weight, int64_t words, int32_t* s, int64_t s_stride) {
    Vec acc[R][P];
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) acc[r][p] = V::zero();
    for (int64_t l = 0; l < words; ++l) {
      Vec k[P];
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) k[p] = V::load(panel + l * kPanel + p * L);
      const Vec w = V::broadcast(weight + l);
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        const Vec x = V::broadcast(q + r * q_stride + l);
        INHIBITOR_UNROLL for (int p = 0; p < P; ++p) acc[r][p] = V::dot(acc[r][p], V::min(k[p], x), w);
      }
    }
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < P; ++p) {
        const Vec sums = V::add(V::load(k_sums + p * L), V::set(q_sums[r]));
        V::store(s + r * s_stride + p * L, V::sub(sums, V::add(acc[r][p], acc[r][p])));
      }
  }

  using Tile = void (*)(const uint32_t*, const int32_t*, int64_t, const uint32_t*, const int32_t*, const uint32_t*,
                        int64_t, int32_t*, int64_t);

  template <int R>
  static Tile choose(int vecs) {
    static_assert(V::kTileVecs == 2 || V::kTileVecs == 4, "tiles below cover 1..4 vectors");
    if constexpr (V::kTileVecs == 4) {
      if (vecs == 4) return &tile<R, 4>;
      if (vecs == 3) return &tile<R, 3>;
    }
    return vecs == 2 ? &tile<R, 2> : &tile<R, 1>;
  }

  // s[i][j] for `rows` packed queries and n packed keys.
  INHIBITOR_APART static void distances(const uint32_t* q, const int32_t* q_sums, int64_t rows, const uint32_t* panels,
                                        const int32_t* k_sums, const uint32_t* weight, int64_t n, const Sizes& size,
                                        int32_t* s) {
    for (int64_t j = 0; j < n; j += kPanel) {
      const int64_t left = n - j;
      const int vecs = static_cast<int>(left >= kPanel ? V::kTileVecs : (left + L - 1) / L);
      const uint32_t* panel = panels + j * size.words;
      int64_t i = 0;
      const Tile many = choose<V::kRows>(vecs), one = choose<1>(vecs);
      for (; i + V::kRows <= rows; i += V::kRows)
        many(q + i * size.padded_words, q_sums + i, size.padded_words, panel, k_sums + j, weight, size.words,
             s + i * size.row + j, size.row);
      for (; i < rows; ++i)
        one(q + i * size.padded_words, q_sums + i, size.padded_words, panel, k_sums + j, weight, size.words,
            s + i * size.row + j, size.row);
    }
  }

  // floor((2 sum + n) / 2n), the mean rounded half up.
  static int32_t mean(uint64_t sum, int64_t n) {
    const uint64_t count = static_cast<uint64_t>(n);
    return static_cast<int32_t>((2 * sum + count) / (2 * count));
  }

  // z of one row whose n keys are all visible; elements past n up to whole vectors are written too.
  static void row(const int32_t* s, int64_t n, bool centered, const Rescale& r, Element* z) {
    int32_t middle = 0;
    if (centered && n > 0) {
      uint64_t sum = 0;
      int64_t j = 0;
      while (j + L <= n) {
        Vec part = V::zero();
        for (uint32_t i = 0; i < r.flush && j + L <= n; ++i, j += L) part = V::add(part, V::load(s + j));
        sum += V::sum_unsigned(part);
      }
      for (; j < n; ++j) sum += static_cast<uint32_t>(s[j]);
      middle = mean(sum, n);
    }
    map(s, n, middle, r, z);
  }

  // The same where only the `count` keys with hidden[j] == 0 are visible (RowMask); the others get `qmax`.
  static void row_masked(const int32_t* s, const float* hidden, int64_t count, int64_t n, bool centered,
                         const Rescale& r, Element* z) {
    int32_t middle = 0;
    if (centered && count > 0) {
      uint64_t sum = 0;
      for (int64_t j = 0; j < n; ++j) sum += hidden[j] == 0.0f ? static_cast<uint32_t>(s[j]) : 0u;
      middle = mean(sum, count);
    }
    map(s, n, middle, r, z);
    for (int64_t j = 0; j < n; ++j)
      if (hidden[j] != 0.0f) z[j] = static_cast<Element>(V::kValueQmax);
  }

 private:
  static void map(const int32_t* s, int64_t n, int32_t middle, const Rescale& r, Element* z) {
    const Vec limit = V::set(r.limit), nothing = V::zero();
    const typename V::Multiplier multiplier(r.multiplier, r.shift);
    const Vec shift = V::set(r.sign > 0 ? r.delta - middle : r.sign < 0 ? r.delta + middle : r.delta);
    for (int64_t j = 0; j < n; j += L) {
      const Vec d = r.sign == 0 ? nothing : V::load(s + j);
      const Vec x = r.sign < 0 ? V::sub(shift, d) : V::add(shift, d);
      const Vec u = V::min32(V::max32(x, nothing), limit);
      V::store_narrow(z + j, V::min32(multiplier(u), V::set(V::kValueQmax)));
    }
  }
};

}  // namespace
}  // namespace inhibitor
