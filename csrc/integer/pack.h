// Quantizes q, k and v of one head into the layouts of layout.h.
#pragma once
#include "../float/pack.h"
#include "layout.h"

namespace inhibitor {
namespace {

template <class V>
struct IntegerPack {
  using F = typename V::Float;
  using FVec = typename F::Vec;
  using Vec = typename V::Vec;
  using P = Pack<F>;
  using Sizes = IntegerSizes<V>;
  static constexpr int L = V::kLanes;
  static constexpr int G = V::kGroup;

  // What one key/value head's features are quantized by, in the order of the packed words.
  struct Features {
    float *offset, *inverse;  // [G][padded_words]
    uint32_t* weight;         // [padded_words], G weights each
  };

  static void features(const IntegerCall& c, int64_t kv_head, const Sizes& size, const Features& out) {
    const int64_t dim = c.call.dim;
    const float* offset = c.offset + kv_head * dim;
    const float* inverse = c.inverse_step + kv_head * dim;
    const int32_t* weight = c.weight + kv_head * dim;
    for (int64_t l = 0; l < size.padded_words; ++l) {
      uint32_t word = 0;
      for (int g = 0; g < G; ++g) {
        const int64_t d = g * size.words + l;
        const bool real = l < size.words && d < dim;
        out.offset[g * size.padded_words + l] = real ? offset[d] : 0.0f;
        out.inverse[g * size.padded_words + l] = real ? inverse[d] : 0.0f;
        word |= (real ? static_cast<uint32_t>(weight[d]) : 0u) << (g * V::kBits);
      }
      out.weight[l] = word;
    }
  }

  // L words of one row, from word l on: clip(rint((x - offset) * inverse), 0, qmax).
  static Vec row_words(const float* x, int64_t dim, int64_t l, const Features& f, const Sizes& size) {
    const FVec qmax = F::set(static_cast<float>(V::kQmax));
    Vec out{};
    INHIBITOR_UNROLL for (int g = 0; g < G; ++g) {
      const int64_t d = g * size.words + l;
      const int64_t left = size.words - l < dim - d ? size.words - l : dim - d;
      const FVec from = left > 0 ? P::load_upto(x + d, left) : F::zero();
      const int64_t at = g * size.padded_words + l;
      const FVec scaled = F::mul(F::sub(from, F::load(f.offset + at)), F::load(f.inverse + at));
      // max first, with x as its first operand: a NaN becomes the smallest quantized value, here as below.
      const Vec whole = V::rint(F::min(F::max(scaled, F::zero()), qmax));
      out = g == 0 ? whole : V::bit_or(out, V::shift_left(whole, g * V::kBits));
    }
    return out;
  }

  // Packs query rows as words, and sums[i] = sum over d of w q.
  static void queries(const float* q, int64_t stride, int64_t rows, int64_t dim, const Features& f, const Sizes& size,
                      uint32_t* out, int32_t* sums) {
    for (int64_t i = 0; i < rows; ++i) {
      Vec sum = V::zero();
      for (int64_t l = 0; l < size.padded_words; l += L) {
        const Vec words = row_words(q + i * stride, dim, l, f, size);
        V::store(out + i * size.padded_words + l, words);
        sum = V::dot(sum, words, V::load(f.weight + l));
      }
      sums[i] = V::sum(sum);
    }
  }

  // Packs the n keys of `index` as panels, and sums[j] = sum over d of w k.
  static void keys(const float* k, int64_t stride, const int32_t* index, int64_t n, int64_t dim, const Features& f,
                   const Sizes& size, uint32_t* out, int32_t* sums) {
    for (int64_t j = 0; j < n; j += L) {
      uint32_t* panel = out + (j / Sizes::kPanel) * Sizes::kPanel * size.words + j % Sizes::kPanel;
      Vec sum = V::zero();
      for (int64_t l = 0; l < size.words; l += L) {
        FVec x[L];
        for (int i = 0; i < L; ++i)
          x[i] = j + i < n ? V::as_float(row_words(P::row(k, stride, index, j + i), dim, l, f, size)) : F::zero();
        P::transpose(x);
        for (int64_t i = 0; i < L && l + i < size.words; ++i) {
          const Vec words = V::as_integer(x[i]);
          V::store(panel + (l + i) * Sizes::kPanel, words);
          sum = V::dot(sum, words, V::broadcast(f.weight + l + i));
        }
      }
      V::store(sums + j, sum);
    }
  }

  // Packs the n values of `index`: magnitudes (unsigned: of the positive ones) and signs, G keys per word; sums[d] is the
  // sum of all quantized values of feature d.
  static void values(const float* v, int64_t stride, const int32_t* index, int64_t n, int64_t dim, float inverse,
                     bool is_signed, const Sizes& size, uint32_t* magnitudes, uint32_t* signs, int32_t* sums) {
    for (int64_t d = 0; d < size.value_dim; d += L) V::store(sums + d, V::zero());
    const FVec qmax = F::set(static_cast<float>(V::kValueQmax)), factor = F::set(inverse);
    const FVec qmin = is_signed ? F::set(-static_cast<float>(V::kValueQmax)) : F::zero();
    const Vec low = V::set((1 << V::kBits) - 1);
    for (int64_t j = 0; j < n; j += G) {
      for (int64_t d = 0; d < size.value_dim; d += L) {
        Vec quantized = V::zero();
        INHIBITOR_UNROLL for (int g = 0; g < G; ++g) {
          if (j + g >= n) break;
          const FVec scaled = F::mul(P::load_upto(P::row(v, stride, index, j + g) + d, dim - d), factor);
          const Vec whole = V::rint(F::min(F::max(scaled, qmin), qmax));
          quantized = V::bit_or(quantized, V::shift_left(V::bit_and(whole, low), g * V::kBits));
        }
        const Vec magnitude = V::magnitudes(quantized), sign = V::signs(quantized);
        V::store(magnitudes + j / G * size.value_dim + d, magnitude);
        V::store(signs + j / G * size.value_dim + d, sign);
        V::store(sums + d, V::dot(V::load(sums + d), magnitude, sign));
      }
    }
  }
};

}  // namespace
}  // namespace inhibitor
