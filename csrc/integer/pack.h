// Quantizes q, k and v of one head into the layouts of layout.h.
#pragma once
#include "../float/pack.h"
#include "layout.h"

namespace inhibitor {
namespace {

// Levels of q and k are 0..qmax, those of v -value_qmax..value_qmax, scores 0..value_qmax.
struct Levels {
  explicit Levels(const IntegerCall& c)
      : qmax((int32_t{1} << c.bits) - 1), value_qmax((int32_t{1} << (c.bits - 1)) - 1) {}
  int32_t qmax, value_qmax;
};

template <class V>
struct IntegerPack {
  using F = typename V::Float;
  using FVec = typename F::Vec;
  using Vec = typename V::Vec;
  using Element = typename V::Element;
  using P = Pack<F>;
  using Sizes = IntegerSizes<V>;
  static constexpr int L = V::kLanes;
  static constexpr int G = V::kGroup;

  // How the features of one key/value head are quantized; null and 0 where they are bytes already.
  struct Features {
    Features(const IntegerCall& c, int64_t kv_head, const Sizes& size)
        : dim(c.call.dim),
          count(size.features),
          packed(size.granules * 2 * G - V::kHeadGranules * 2 * G),
          offset(c.offset ? c.offset + kv_head * size.features : nullptr),
          source(c.source ? c.source + kv_head * c.extra : nullptr),
          inverse(c.inverse_step ? c.inverse_step[kv_head] : 0.0f),
          qmax(static_cast<float>(Levels(c).qmax)) {}
    int64_t dim, count, packed;  // given, with the repeated ones, and with what fills the last granule
    const float* offset;    // [count]
    const int32_t* source;  // [count - dim]: which feature each of those past `dim` repeats
    float inverse, qmax;
  };

  // One row: clip(rint((x - offset) * inverse), 0, qmax), zeros past the features. `extended`: room for all of them.
  static void row(const float* x, const Features& f, float* extended, uint8_t* out) {
    if (f.count > f.dim) x = extend(x, f, extended);
    const FVec inverse = F::set(f.inverse), qmax = F::set(f.qmax);
    Element* to = reinterpret_cast<Element*>(out + Sizes::kHeadBytes);
    int64_t d = 0;
    for (; d + G * L <= f.count; d += G * L) {
      Vec levels[G];
      INHIBITOR_UNROLL for (int g = 0; g < G; ++g) {
        const int64_t at = d + g * L;
        levels[g] = V::levels(F::mul(F::sub(F::load(x + at), F::load(f.offset + at)), inverse), qmax);
      }
      V::store(to + d, V::narrow(levels));
    }
    for (; d < f.count; d += G * L) {
      Vec levels[G];
      for (int g = 0; g < G; ++g) {
        const int64_t at = d + g * L, left = f.count - at;
        const FVec from = left > 0 ? P::load_upto(x + at, left) : F::zero();
        const FVec offset = left > 0 ? P::load_upto(f.offset + at, left) : F::zero();
        levels[g] = V::levels(F::mul(F::sub(from, offset), inverse), qmax);
      }
      V::store(to + d, V::narrow(levels));
    }
    V::write_head(out, to, d, f.packed);
  }

  static void queries(const float* q, int64_t stride, int64_t rows, const Features& f, const Sizes& size,
                      float* extended, uint8_t* out) {
    for (int64_t i = 0; i < rows; ++i) {
      if (i + kAhead < rows) prefetch(q + (i + kAhead) * stride, f.dim);
      row(q + i * stride, f, extended, out + i * size.packed_row);
    }
  }

  // The n keys of `index` as panels; `packed`: room for two packed rows.
  static void keys(const float* k, int64_t stride, const int32_t* index, int64_t n, const Features& f,
                   const Sizes& size, float* extended, uint8_t* packed, uint8_t* out) {
    uint8_t* second = packed + size.packed_row;
    for (int64_t j = 0; j < n; j += 2) {
      prefetch_rows(k, stride, index, j, n, 2, f.dim);
      row(P::row(k, stride, index, j), f, extended, packed);
      row(P::row(k, stride, index, j + 1 < n ? j + 1 : j), f, extended, second);
      zip(packed, second, size.granules, out + key_pair(j, size));
    }
  }

  // The same of rows that are levels already.
  static void level_row(const uint8_t* x, const Features& f, uint8_t* out) {
    static_assert(sizeof(Element) == 1 && V::kHeadGranules == 0, "levels are bytes");
    const uint8_t most = static_cast<uint8_t>(f.qmax);
    std::memcpy(out, x, static_cast<size_t>(f.count));
    if (most < UINT8_MAX)
      for (int64_t d = 0; d < f.count; ++d) out[d] = out[d] < most ? out[d] : most;
    std::memset(out + f.count, 0, static_cast<size_t>(f.packed - f.count));
  }

  static void level_queries(const uint8_t* q, int64_t stride, int64_t rows, const Features& f, const Sizes& size,
                            uint8_t* out) {
    for (int64_t i = 0; i < rows; ++i) level_row(q + i * stride, f, out + i * size.packed_row);
  }

  static void level_keys(const uint8_t* k, int64_t stride, const int32_t* index, int64_t n, const Features& f,
                         const Sizes& size, uint8_t* packed, uint8_t* out) {
    uint8_t* second = packed + size.packed_row;
    for (int64_t j = 0; j < n; j += 2) {
      level_row(P::row(k, stride, index, j), f, packed);
      level_row(P::row(k, stride, index, j + 1 < n ? j + 1 : j), f, second);
      zip(packed, second, size.granules, out + key_pair(j, size));
    }
  }

  // How the values of one head are quantized.
  struct Values {
    Values(const IntegerCall& c, int64_t head)
        : inverse(c.value_inverse_step ? c.value_inverse_step[head] : 0.0f),
          qmax(Levels(c).value_qmax),
          qmin(c.call.is_signed ? -qmax : 0),
          zero(static_cast<int32_t>(c.value_zero)) {}
    float inverse;
    int32_t qmax, qmin, zero;

    // max first, with x as its first operand: a NaN becomes the smallest level.
    Vec levels(const float* x, int64_t n) const {
      const FVec scaled = F::mul(P::load_upto(x, n), F::set(inverse));
      const FVec low = F::set(static_cast<float>(qmin)), high = F::set(static_cast<float>(qmax));
      return V::rint(F::min(F::max(scaled, low), high));
    }
    Vec levels(const uint8_t* x, int64_t n) const {
      const Vec bytes = n >= L ? V::load_bytes(x) : first_bytes(x, n);
      return V::min32(V::max32(V::sub(bytes, V::set(zero)), V::set(qmin)), V::set(qmax));
    }
  };

  // The n values of `index`, floats or bytes: magnitudes (unsigned: of the positive ones) and negative signs, G keys per
  // lane; sums[d] is the sum of all quantized values of feature d.
  template <class T>
  static void values(const T* v, int64_t stride, const int32_t* index, int64_t n, int64_t dim, const Values& how,
                     const Sizes& size, uint32_t* magnitudes, uint32_t* signs, int32_t* sums) {
    for (int64_t d = 0; d < size.value_dim; d += L) V::store(sums + d, V::zero());
    for (int64_t j = 0; j < n; j += G) {
      prefetch_rows(v, stride, index, j, n, G, dim);
      const T* from[G];
      for (int g = 0; g < G; ++g) from[g] = P::row(v, stride, index, j + g < n ? j + g : j);
      const int real = static_cast<int>(n - j < G ? n - j : G);
      for (int64_t d = 0; d < size.value_dim; d += L) {
        Vec levels[G];
        INHIBITOR_UNROLL for (int g = 0; g < G; ++g)
          levels[g] = g < real ? how.levels(from[g] + d, dim - d) : V::zero();
        const Vec group = V::group(levels), magnitude = V::magnitudes(group), sign = V::negative_signs(group);
        const int64_t at = j / G * size.value_dim + d;
        V::store(magnitudes + at, magnitude);
        V::store(signs + at, sign);
        V::store(sums + d, V::sub(V::load(sums + d), V::total(V::dot(V::zero(), magnitude, sign))));
      }
    }
  }

 private:
  // Rows of one head lie apart, where processors foresee them badly: what comes `kAhead` rows later is asked for early.
  static constexpr int64_t kAhead = 16;
  template <class T>
  static void prefetch(const T* row, int64_t n) {
    for (int64_t d = 0; d < n; d += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row + d);
  }
  template <class T>
  static void prefetch_rows(const T* rows, int64_t stride, const int32_t* index, int64_t j, int64_t n, int count,
                            int64_t dim) {
    for (int64_t i = j + kAhead; i < j + kAhead + count && i < n; ++i) prefetch(P::row(rows, stride, index, i), dim);
  }

  // Where the granules of keys j and j + 1 begin among the panels, in bytes.
  static int64_t key_pair(int64_t j, const Sizes& size) {
    const int64_t lane = j % Sizes::kPanel / 8 * 2, vector = j % 8 / 2;
    return (j / Sizes::kPanel * Sizes::kPanel * size.granules + vector * (L / 2) + lane) * 8;
  }

  static Vec first_bytes(const uint8_t* x, int64_t n) {
    uint8_t bytes[L] = {};
    if (n > 0) std::memcpy(bytes, x, static_cast<size_t>(n));
    return V::load_bytes(bytes);
  }

  // Granule g of both rows to granule g of a panel.
  static void zip(const uint8_t* a, const uint8_t* b, int64_t granules, uint8_t* out) {
    typedef int64_t Pair __attribute__((vector_size(16)));
    for (int64_t g = 0; g < granules; g += 2) {
      Pair x, y;
      std::memcpy(&x, a + g * 8, sizeof x);
      std::memcpy(&y, b + g * 8, sizeof y);
      const Pair first{x[0], y[0]}, second{x[1], y[1]};
      std::memcpy(out + g * Sizes::kPanel * 8, &first, sizeof first);
      if (g + 1 < granules) std::memcpy(out + (g + 1) * Sizes::kPanel * 8, &second, sizeof second);
    }
  }

  static const float* extend(const float* x, const Features& f, float* out) {
    std::memcpy(out, x, static_cast<size_t>(f.dim) * sizeof(float));
    for (int64_t e = f.dim; e < f.count; ++e) out[e] = x[f.source[e - f.dim]];
    return out;
  }
};

}  // namespace
}  // namespace inhibitor
