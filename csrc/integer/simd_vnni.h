// AVX-512 with VNNI: dot products of 4 bytes or 2 words per lane in one instruction.
#pragma once
#include "../float/simd_avx512.h"

namespace inhibitor {
namespace {

struct VnniLanes {
  using Float = Avx512;
  using Vec = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kTileVecs = 4;  // vectors of a tile's row
  static constexpr int kRows = 4;      // rows of a tile

  static Vec zero() { return _mm512_setzero_si512(); }
  static Vec set(int32_t x) { return _mm512_set1_epi32(x); }
  static Vec load(const void* p) { return _mm512_loadu_si512(p); }
  static void store(void* p, Vec x) { _mm512_storeu_si512(p, x); }
  static Vec broadcast(const void* p) {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
  }
  static Vec add(Vec a, Vec b) { return _mm512_add_epi32(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_epi32(a, b); }
  static Vec min32(Vec a, Vec b) { return _mm512_min_epi32(a, b); }
  static Vec max32(Vec a, Vec b) { return _mm512_max_epi32(a, b); }
  static Vec bit_or(Vec a, Vec b) { return _mm512_or_si512(a, b); }
  static Vec bit_and(Vec a, Vec b) { return _mm512_and_si512(a, b); }
  static Vec shift_left(Vec a, int n) { return _mm512_slli_epi32(a, static_cast<unsigned>(n)); }
  static Vec rint(__m512 x) { return _mm512_cvtps_epi32(x); }  // ties to even
  static __m512 as_float(Vec a) { return _mm512_castsi512_ps(a); }
  static Vec as_integer(__m512 a) { return _mm512_castps_si512(a); }
  static int32_t sum(Vec a) { return _mm512_reduce_add_epi32(a); }
  static uint64_t sum_unsigned(Vec a) {
    const __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(a));
    const __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(a, 1));
    return static_cast<uint64_t>(_mm512_reduce_add_epi64(_mm512_add_epi64(low, high)));
  }
};

struct Int8Vnni : VnniLanes {
  using Element = uint8_t;
  static constexpr int kGroup = 4, kBits = 8;
  static constexpr int32_t kQmax = 255, kValueQmax = 127;

  static Vec magnitudes(Vec a) { return _mm512_abs_epi8(a); }
  static Vec signs(Vec a) {
    return _mm512_max_epi8(_mm512_min_epi8(a, _mm512_set1_epi8(1)), _mm512_set1_epi8(-1));
  }
  static Vec min(Vec a, Vec b) { return _mm512_min_epu8(a, b); }
  static Vec dot(Vec acc, Vec u, Vec s) { return _mm512_dpbusd_epi32(acc, u, s); }
  static void store_narrow(Element* p, Vec x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
  }
  // (u m + half) >> shift; the caller's limit keeps the product below 2^31.
  struct Multiplier {
    Multiplier(int32_t m, int32_t n) : factor(set(m)), half(set(n > 0 ? 1 << (n - 1) : 0)), count(_mm_cvtsi32_si128(n)) {}
    Vec operator()(Vec u) const { return _mm512_srl_epi32(add(_mm512_mullo_epi32(u, factor), half), count); }
    Vec factor, half;
    __m128i count;
  };
};

struct Int16Vnni : VnniLanes {
  using Element = uint16_t;
  static constexpr int kGroup = 2, kBits = 16;
  static constexpr int32_t kQmax = 32767, kValueQmax = 32767;

  static Vec magnitudes(Vec a) { return _mm512_abs_epi16(a); }
  static Vec signs(Vec a) {
    return _mm512_max_epi16(_mm512_min_epi16(a, _mm512_set1_epi16(1)), _mm512_set1_epi16(-1));
  }
  static Vec min(Vec a, Vec b) { return _mm512_min_epu16(a, b); }
  static Vec dot(Vec acc, Vec u, Vec s) { return _mm512_dpwssd_epi32(acc, u, s); }
  static void store_narrow(Element* p, Vec x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
  }
  // The same with a product of 64 bits.
  struct Multiplier {
    Multiplier(int32_t m, int32_t n)
        : factor(set(m)), half(_mm512_set1_epi64(n > 0 ? int64_t{1} << (n - 1) : 0)), count(_mm_cvtsi32_si128(n)) {}
    Vec operator()(Vec u) const {
      const Vec even = _mm512_srl_epi64(_mm512_add_epi64(_mm512_mul_epu32(u, factor), half), count);
      const Vec upper = _mm512_mul_epu32(_mm512_srli_epi64(u, 32), factor);
      const Vec odd = _mm512_srl_epi64(_mm512_add_epi64(upper, half), count);
      return _mm512_or_si512(even, _mm512_slli_epi64(odd, 32));
    }
    Vec factor, half;
    __m128i count;
  };
};

}  // namespace
}  // namespace inhibitor
