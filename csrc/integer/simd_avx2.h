// AVX2: dot products by multiply-add of pairs.
#pragma once
#include "../float/simd_avx2.h"

namespace inhibitor {
namespace {

struct Avx2Lanes {
  using Float = Avx2;
  using Vec = __m256i;
  static constexpr int kLanes = 8;
  static constexpr int kTileVecs = 2;
  static constexpr int kRows = 4;

  static Vec zero() { return _mm256_setzero_si256(); }
  static Vec set(int32_t x) { return _mm256_set1_epi32(x); }
  static Vec load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static void store(void* p, Vec x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
  static Vec broadcast(const void* p) {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
  }
  static Vec add(Vec a, Vec b) { return _mm256_add_epi32(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm256_sub_epi32(a, b); }
  static Vec min32(Vec a, Vec b) { return _mm256_min_epi32(a, b); }
  static Vec max32(Vec a, Vec b) { return _mm256_max_epi32(a, b); }
  static Vec bit_or(Vec a, Vec b) { return _mm256_or_si256(a, b); }
  static Vec bit_and(Vec a, Vec b) { return _mm256_and_si256(a, b); }
  static Vec shift_left(Vec a, int n) { return _mm256_slli_epi32(a, n); }
  static Vec rint(__m256 x) { return _mm256_cvtps_epi32(x); }  // ties to even
  static __m256 as_float(Vec a) { return _mm256_castsi256_ps(a); }
  static Vec as_integer(__m256 a) { return _mm256_castps_si256(a); }
  static int32_t sum(Vec a) {
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
  }
  static uint64_t sum_unsigned(Vec a) {
    const __m256i even = _mm256_and_si256(a, _mm256_set1_epi64x(0xFFFFFFFF)), odd = _mm256_srli_epi64(a, 32);
    const __m256i pairs = _mm256_add_epi64(even, odd);
    const __m128i x = _mm_add_epi64(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    return static_cast<uint64_t>(_mm_cvtsi128_si64(x)) + static_cast<uint64_t>(_mm_extract_epi64(x, 1));
  }
  // The low 16 bits of each lane, in order.
  static __m128i words(Vec x) {
    const Vec packed = _mm256_packus_epi32(x, x);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
  }
};

struct Int8Avx2 : Avx2Lanes {
  using Element = uint8_t;
  static constexpr int kGroup = 4, kBits = 8;
  static constexpr int32_t kQmax = 255, kValueQmax = 127;

  static Vec magnitudes(Vec a) { return _mm256_abs_epi8(a); }
  static Vec signs(Vec a) { return _mm256_sign_epi8(_mm256_set1_epi8(1), a); }
  static Vec min(Vec a, Vec b) { return _mm256_min_epu8(a, b); }
  // The sums of two products must fit 16 bits: 2 x 255 x 64 does, which is why weights end at 64.
  static Vec dot(Vec acc, Vec u, Vec s) {
    return add(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
  }
  static void store_narrow(Element* p, Vec x) {
    const __m128i narrow = words(x);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(narrow, narrow));
  }
  // (u m + half) >> shift; the caller's limit keeps the product below 2^31.
  struct Multiplier {
    Multiplier(int32_t m, int32_t n) : factor(set(m)), half(set(n > 0 ? 1 << (n - 1) : 0)), count(_mm_cvtsi32_si128(n)) {}
    Vec operator()(Vec u) const { return _mm256_srl_epi32(add(_mm256_mullo_epi32(u, factor), half), count); }
    Vec factor, half;
    __m128i count;
  };
};

struct Int16Avx2 : Avx2Lanes {
  using Element = uint16_t;
  static constexpr int kGroup = 2, kBits = 16;
  static constexpr int32_t kQmax = 32767, kValueQmax = 32767;

  static Vec magnitudes(Vec a) { return _mm256_abs_epi16(a); }
  static Vec signs(Vec a) { return _mm256_sign_epi16(_mm256_set1_epi16(1), a); }
  static Vec min(Vec a, Vec b) { return _mm256_min_epu16(a, b); }
  static Vec dot(Vec acc, Vec u, Vec s) { return add(acc, _mm256_madd_epi16(u, s)); }
  static void store_narrow(Element* p, Vec x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), words(x)); }
  // The same with a product of 64 bits.
  struct Multiplier {
    Multiplier(int32_t m, int32_t n)
        : factor(set(m)), half(_mm256_set1_epi64x(n > 0 ? int64_t{1} << (n - 1) : 0)), count(_mm_cvtsi32_si128(n)) {}
    Vec operator()(Vec u) const {
      const Vec even = _mm256_srl_epi64(_mm256_add_epi64(_mm256_mul_epu32(u, factor), half), count);
      const Vec upper = _mm256_mul_epu32(_mm256_srli_epi64(u, 32), factor);
      const Vec odd = _mm256_srl_epi64(_mm256_add_epi64(upper, half), count);
      return _mm256_or_si256(even, _mm256_slli_epi64(odd, 32));
    }
    Vec factor, half;
    __m128i count;
  };
};

}  // namespace
}  // namespace inhibitor
