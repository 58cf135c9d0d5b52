// Phase one in integers: distances, centering, and the rescaling to the steps of v.
#pragma once
#include "pack.h"

namespace inhibitor {
namespace {

// D -> Z of one head: z = min(floor(max(sign (D - M) + delta, 0) / 2^shift + 1/2), value_qmax).
struct Rescale {
  Rescale(const IntegerCall& c, int64_t h)
      : sign(c.sign[h]), delta(c.delta[h]), value_qmax(Levels(c).value_qmax) {
    const int32_t shift = c.shift[h];
    left = shift < 0 ? -shift : 0;
    right = shift > 0 ? shift : 0;
    half = right > 0 ? int32_t{1} << (right - 1) : 0;
    const int64_t top = value_qmax;
    const int64_t limit = ((top << right) - half + (int64_t{1} << left) - 1) >> left;
    this->limit = static_cast<int32_t>(limit < INT32_MAX ? limit : INT32_MAX);
    fits_words = shift >= 0 && (kMostWord >> right) >= value_qmax;
    const int64_t most = (c.call.dim + c.extra) * Levels(c).qmax;
    flush = most > 0 ? static_cast<uint32_t>(UINT32_MAX / most) : UINT32_MAX;
  }

  static constexpr int32_t kMostWord = INT16_MAX;

  int32_t sign, delta, value_qmax;
  int32_t left, right, half;  // the shift in both directions, and what rounds it
  int32_t limit;     // the least score (before the shift) with z = value_qmax: a larger one would only overflow
  bool fits_words;   // saturation at 2^15 - 1 before the shift changes no z
  uint32_t flush;    // distances whose sum fits 32 bits; at least 7, as a distance stays within 2^29
};

template <class V>
struct IntegerScores {
  using Vec = typename V::Vec;
  using Element = typename V::Element;
  using Sizes = IntegerSizes<V>;
  static constexpr int L = V::kLanes;
  static constexpr int kPanel = Sizes::kPanel;
  static constexpr int kPanelVecs = Sizes::kPanelVecs;
  static constexpr int64_t kVecBytes = 4 * L;

  // Distances of R rows to the keys of one panel.
  template <int R, class Distance>
  static void tile(const uint8_t* q, int64_t q_stride, const uint8_t* panel, int64_t granules, Distance* s,
                   int64_t s_stride) {
    Vec acc[R][kPanelVecs];
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r)
      INHIBITOR_UNROLL for (int p = 0; p < kPanelVecs; ++p)
        acc[r][p] = V::kHeadGranules
                        ? V::add(V::load(panel + p * kVecBytes), V::broadcast64(q + r * q_stride))
                        : V::zero();
    for (int64_t g = V::kHeadGranules; g < granules; ++g) {
      Vec k[kPanelVecs];
      INHIBITOR_UNROLL for (int p = 0; p < kPanelVecs; ++p) {
        k[p] = V::load(panel + (g * kPanelVecs + p) * kVecBytes);
        V::keep(k[p]);
      }
      INHIBITOR_UNROLL for (int r = 0; r < R; ++r) {
        const Vec x = V::broadcast64(q + r * q_stride + g * 8);
        INHIBITOR_UNROLL for (int p = 0; p < kPanelVecs; ++p) acc[r][p] = V::template distance<Distance>(acc[r][p], k[p], x);
        INHIBITOR_UNROLL for (int p = 0; p < kPanelVecs; ++p) V::keep(acc[r][p]);
      }
    }
    INHIBITOR_UNROLL for (int r = 0; r < R; ++r) V::merge(acc[r], s + r * s_stride);
  }

  // Tiles of R rows from row i on; returns the first row that is left.
  template <int R, class Distance>
  static int64_t tiles(const uint8_t* q, int64_t i, int64_t rows, const uint8_t* panel, const Sizes& size,
                       Distance* s) {
    for (; i + R <= rows; i += R)
      tile<R>(q + i * size.packed_row, size.packed_row, panel, size.granules, s + i * size.row, size.row);
    return i;
  }

  // s[i][j] for `rows` packed queries and n packed keys.
  template <class Distance>
  INHIBITOR_APART static void distances(const uint8_t* q, int64_t rows, const uint8_t* panels, int64_t n,
                                        const Sizes& size, Distance* s) {
    for (int64_t j = 0; j < n; j += kPanel) {
      const uint8_t* panel = panels + j * size.granules * 8;
      int64_t i = tiles<V::kDistanceRows>(q, 0, rows, panel, size, s + j);
      i = tiles<2>(q, i, rows, panel, size, s + j);
      tiles<1>(q, i, rows, panel, size, s + j);
    }
  }

  // z of one row of n keys, of which it may see the first `seen`; elements past n up to whole vectors are written too.
  template <class Distance>
  static void row(const Distance* s, int64_t seen, int64_t n, bool centered, const Rescale& r, Element* z) {
    map(s, seen, centered && seen > 0 ? mean(sum(s, seen, r.flush), seen) : 0, r, z);
    for (int64_t j = seen; j < n; ++j) z[j] = static_cast<Element>(r.value_qmax);
  }

  // The same where it may see the `count` keys with hidden[j] == 0 (RowMask); the others get `value_qmax`.
  template <class Distance>
  static void row_masked(const Distance* s, const float* hidden, int64_t count, int64_t n, bool centered,
                         const Rescale& r, Element* z) {
    int32_t middle = 0;
    if (centered && count > 0) {
      uint64_t sum = 0;
      for (int64_t j = 0; j < n; ++j) sum += hidden[j] == 0.0f ? static_cast<uint32_t>(s[j]) : 0u;
      middle = mean(sum, count);
    }
    map(s, n, middle, r, z);
    for (int64_t j = 0; j < n; ++j)
      if (hidden[j] != 0.0f) z[j] = static_cast<Element>(r.value_qmax);
  }

 private:
  // floor((2 sum + n) / 2n), the mean rounded half up.
  static int32_t mean(uint64_t sum, int64_t n) {
    const uint64_t count = static_cast<uint64_t>(n);
    return static_cast<int32_t>((2 * sum + count) / (2 * count));
  }

  static uint64_t sum(const int32_t* s, int64_t n, uint32_t flush) {
    uint64_t sum = 0;
    int64_t j = 0;
    while (j + L <= n) {
      Vec part = V::zero();
      for (uint32_t i = 0; i < flush && j + L <= n; ++i, j += L) part = V::add(part, V::load(s + j));
      sum += V::sum_unsigned(part);
    }
    for (; j < n; ++j) sum += static_cast<uint32_t>(s[j]);
    return sum;
  }

  static uint64_t sum(const int16_t* s, int64_t n, uint32_t) {
    constexpr int64_t kFlush = 1 << 16;  // vectors: each adds at most 2 (2^15 - 1) to a lane of 32 bits
    uint64_t sum = 0;
    int64_t j = 0;
    while (j + kPanel <= n) {
      const int64_t end = n - j < kFlush * kPanel ? n : j + kFlush * kPanel;
      Vec even = V::zero(), odd = V::zero();  // two sums in turn hide the latency
      for (; j + 2 * kPanel <= end; j += 2 * kPanel) {
        even = V::add_words(even, V::load(s + j));
        odd = V::add_words(odd, V::load(s + j + kPanel));
      }
      for (; j + kPanel <= end; j += kPanel) even = V::add_words(even, V::load(s + j));
      sum += V::sum_unsigned(V::add(even, odd));
    }
    for (; j < n; ++j) sum += static_cast<uint16_t>(s[j]);
    return sum;
  }

  static void map(const int32_t* s, int64_t n, int32_t middle, const Rescale& r, Element* z) {
    map_wide(s, n, middle, r, z);
  }
  static void map(const int16_t* s, int64_t n, int32_t middle, const Rescale& r, Element* z) {
    const int64_t c = int64_t{r.delta} - int64_t{r.sign} * middle + r.half;
    if (!r.fits_words || r.sign == 0 || (r.sign < 0 && c > Rescale::kMostWord))
      map_wide(s, n, middle, r, z);
    else if (r.sign > 0)
      map_words<false>(s, n, c, r, z);
    else
      map_words<true>(s, n, c, r, z);
  }

  // No score overflows 32 bits: D and M stay within 2^29, delta within 2^30. `limit` bounds what is shifted to the left.
  template <class Distance>
  static void map_wide(const Distance* s, int64_t n, int32_t middle, const Rescale& r, Element* z) {
    const Vec limit = V::set(r.limit), nothing = V::zero(), half = V::set(r.half), qmax = V::set(r.value_qmax);
    const Vec shift = V::set(r.delta - r.sign * middle);
    for (int64_t j = 0; j < n; j += L) {
      const Vec d = r.sign == 0 ? nothing : V::load_distances(s + j);
      const Vec x = r.sign < 0 ? V::sub(shift, d) : V::add(shift, d);
      const Vec u = V::shift_left(V::min32(V::max32(x, nothing), limit), r.left);
      V::store_narrow(z + j, V::min32(V::shift_right(V::add(u, half), r.right), qmax));
    }
  }

  // The same in 16 bits that saturate, as z = max(min((sign D + c) >> right, value_qmax), 0) with c = delta - sign M +
  // half: adding `half` before the maximum lifts no score from below 0 to the first level. What exceeds 2^15 - 1 has z =
  // value_qmax, and what falls below -2^15 has z = 0; so may c, but for c - D, where D takes back what c exceeds.
  template <bool Negative>
  static void map_words(const int16_t* s, int64_t n, int64_t c, const Rescale& r, Element* z) {
    constexpr int64_t kLeast = INT16_MIN, kMost = Rescale::kMostWord;
    const Vec constant = V::set16(c < kLeast ? kLeast : c > kMost ? kMost : c), qmax = V::set8(r.value_qmax);
    const auto score = [&](const int16_t* p) {
      const Vec d = V::load(p);
      return V::shift_right16(Negative ? V::subs16(constant, d) : V::adds16(d, constant), r.right);
    };
    for (int64_t j = 0; j < n; j += 2 * kPanel)
      V::store(z + j, V::min(V::narrow_words(score(s + j), score(s + j + kPanel)), qmax));
  }
};

}  // namespace
}  // namespace inhibitor
