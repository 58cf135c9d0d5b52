// AVX2: sums of absolute differences of bytes, multiply-add of pairs.
#pragma once
#include "../float/simd_avx2.h"

namespace inhibitor {
namespace {

struct Avx2Lanes {
  using Float = Avx2;
  using Vec = __m256i;
  static constexpr int kLanes = 8;
  static constexpr int kTileVecs = 1;      // vectors of features of a tile of phase two
  static constexpr int kRows = 8;          // its rows
  static constexpr int kDistanceRows = 3;  // rows of a tile of phase one

  static Vec zero() { return _mm256_setzero_si256(); }
  static Vec set(int32_t x) { return _mm256_set1_epi32(x); }
  static Vec load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static void store(void* p, Vec x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
  static Vec broadcast(const void* p) {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
  }
  static Vec broadcast64(const void* p) {
    int64_t granule;
    __builtin_memcpy(&granule, p, sizeof granule);
    return _mm256_set1_epi64x(granule);
  }
  // In a register, and after what stands before: GCC likes to start all products of a tile first, and to load operands
  // for every use.
  static void keep(Vec& x) { asm volatile("" : "+x"(x)); }
  static Vec add(Vec a, Vec b) { return _mm256_add_epi32(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm256_sub_epi32(a, b); }
  static Vec min32(Vec a, Vec b) { return _mm256_min_epi32(a, b); }
  static Vec max32(Vec a, Vec b) { return _mm256_max_epi32(a, b); }
  static Vec shift_left(Vec a, int n) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n)); }
  static Vec shift_right(Vec a, int n) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n)); }
  static Vec rint(__m256 x) { return _mm256_cvtps_epi32(x); }  // ties to even
  static __m256 to_float(Vec a) { return _mm256_cvtepi32_ps(a); }
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
  static Vec load_bytes(const uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec load_distances(const int32_t* p) { return load(p); }
  // The distances of a panel from the sums in its lanes of 64 bits, of which the lower halves hold all.
  static void merge(const Vec (&acc)[4], int32_t* out) {
    const Vec x = lower_halves(acc[0], acc[1]), y = lower_halves(acc[2], acc[3]);
    store(out, _mm256_permute2x128_si256(x, y, 0x20));
    store(out + kLanes, _mm256_permute2x128_si256(x, y, 0x31));
  }
  static void store_bytes(uint8_t* p, Vec x) {
    const __m128i narrow = words(x);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(narrow, narrow));
  }
  // clip(((a * multiplier + half) >> shift) + zero, 0, qmax), the products in 64 bits: lifted above 0, which shifts and
  // comparisons of 64 bits need here, and clipped on both sides before they are narrowed.
  static Vec requantize(Vec a, int32_t multiplier, int64_t half, int shift, int64_t zero, int64_t qmax) {
    const int64_t lift = int64_t{1} << 62;
    const Vec factor = set(multiplier), start = _mm256_set1_epi64x(half + lift);
    const Vec moved = _mm256_set1_epi64x(zero - (lift >> shift)), most = _mm256_set1_epi64x(qmax);
    const auto scaled = [&](Vec product) {
      const Vec shifted = _mm256_srl_epi64(_mm256_add_epi64(product, start), _mm_cvtsi32_si128(shift));
      const Vec y = _mm256_add_epi64(shifted, moved);
      const Vec low = _mm256_andnot_si256(_mm256_cmpgt_epi64(Vec{}, y), y);
      return _mm256_blendv_epi8(low, most, _mm256_cmpgt_epi64(low, most));
    };
    const Vec even = scaled(_mm256_mul_epi32(a, factor)), odd = scaled(_mm256_mul_epi32(_mm256_srli_epi64(a, 32), factor));
    return _mm256_or_si256(even, _mm256_slli_epi64(odd, 32));
  }
  // The low 16 bits of each lane, in order.
  static __m128i words(Vec x) {
    const Vec packed = _mm256_packus_epi32(x, x);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
  }

 private:
  static Vec lower_halves(Vec a, Vec b) {
    return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88));
  }
};

struct BytesAvx2 : Avx2Lanes {
  using Element = uint8_t;
  using Distance = int16_t;
  static constexpr int kGroup = 4, kHeadGranules = 0;
  static constexpr bool kNarrow = true;
  static constexpr int64_t kMostGroups = 128;  // 2 x 127 x 128 < 2^15

  // Only the upper end is clipped: what is below and NaN (the second operand of a minimum stays) become negative
  // integers, which `narrow` takes to 0.
  static Vec levels(__m256 x, __m256 qmax) { return rint(_mm256_min_ps(qmax, x)); }
  static Vec narrow(const Vec (&x)[4]) {
    const Vec bytes = _mm256_packus_epi16(_mm256_packs_epi32(x[0], x[1]), _mm256_packs_epi32(x[2], x[3]));
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  static void write_head(uint8_t*, const Element*, int64_t, int64_t) {}
  template <class>
  static Vec distance(Vec acc, Vec k, Vec q) { return add(acc, _mm256_sad_epu8(k, q)); }
  using Avx2Lanes::merge;
  static void merge(const Vec (&acc)[4], int16_t* out) {
    store(out, _mm256_packus_epi32(_mm256_packus_epi32(acc[0], acc[1]), _mm256_packus_epi32(acc[2], acc[3])));
  }

  static Vec set8(int32_t x) { return _mm256_set1_epi8(static_cast<int8_t>(x)); }
  static Vec set16(int64_t x) { return _mm256_set1_epi16(static_cast<int16_t>(x)); }
  static Vec adds16(Vec a, Vec b) { return _mm256_adds_epi16(a, b); }
  static Vec subs16(Vec a, Vec b) { return _mm256_subs_epi16(a, b); }
  static Vec shift_right16(Vec a, int n) { return _mm256_sra_epi16(a, _mm_cvtsi32_si128(n)); }
  static Vec add_words(Vec acc, Vec x) { return add(acc, _mm256_madd_epi16(x, set16(1))); }
  // Clipped to bytes, in order.
  static Vec narrow_words(Vec a, Vec b) { return _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xD8); }
  using Avx2Lanes::load_distances;
  static Vec load_distances(const int16_t* p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store_narrow(Element* p, Vec x) { store_bytes(p, x); }

  // Byte k of lane f is that of key k and feature f.
  static Vec group(const Vec (&x)[4]) {
    const Vec bytes = _mm256_packs_epi16(_mm256_packs_epi32(x[0], x[1]), _mm256_packs_epi32(x[2], x[3]));
    const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(turn));
  }
  static Vec magnitudes(Vec a) { return _mm256_abs_epi8(a); }
  static Vec negative_signs(Vec a) { return _mm256_sign_epi8(_mm256_set1_epi8(-1), a); }
  static Vec min(Vec a, Vec b) { return _mm256_min_epu8(a, b); }
  // Sums of 16 bits, of two products each; `total` widens them.
  static Vec dot(Vec acc, Vec u, Vec s) { return _mm256_add_epi16(acc, _mm256_maddubs_epi16(u, s)); }
  static Vec total(Vec acc) { return _mm256_madd_epi16(acc, _mm256_set1_epi16(1)); }
};

// Levels 0..65535 are held less 32768, as signed words: distances stay what they are.
struct WordsAvx2 : Avx2Lanes {
  using Element = uint16_t;
  using Distance = int32_t;
  static constexpr int kGroup = 2, kHeadGranules = 1;
  static constexpr bool kNarrow = false;
  static constexpr int64_t kMostGroups = INT64_MAX;

  static Vec levels(__m256 x, __m256 qmax) {
    return sub(rint(_mm256_min_ps(_mm256_max_ps(x, _mm256_setzero_ps()), qmax)), set(32768));
  }
  static Vec narrow(const Vec (&x)[2]) { return _mm256_permute4x64_epi64(_mm256_packs_epi32(x[0], x[1]), 0xD8); }
  // |q - k| = q + k - 2 min(q, k): the head of a row holds the sum of its first `used` words. Those past them are -32768.
  static void write_head(uint8_t* out, const Element* row, int64_t padded, int64_t used) {
    Vec total = zero();
    for (int64_t d = 0; d < padded; d += 2 * kLanes) total = add(total, _mm256_madd_epi16(load(row + d), ones()));
    const int64_t head = static_cast<uint32_t>(sum(total) + 32768 * static_cast<int32_t>(padded - used));
    __builtin_memcpy(out, &head, sizeof head);
  }
  template <class>
  static Vec distance(Vec acc, Vec k, Vec q) {
    return add(acc, _mm256_madd_epi16(_mm256_min_epi16(k, q), _mm256_set1_epi16(-2)));
  }
  static void merge(const Vec (&acc)[4], int32_t* out) {
    const Vec whole[4] = {both_halves(acc[0]), both_halves(acc[1]), both_halves(acc[2]), both_halves(acc[3])};
    Avx2Lanes::merge(whole, out);
  }
  static void store_narrow(Element* p, Vec x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), words(x)); }

  static Vec group(const Vec (&x)[2]) { return _mm256_blend_epi16(x[0], _mm256_slli_epi32(x[1], 16), 0xAA); }
  static Vec magnitudes(Vec a) { return _mm256_abs_epi16(a); }
  static Vec negative_signs(Vec a) { return _mm256_sign_epi16(_mm256_set1_epi16(-1), a); }
  static Vec min(Vec a, Vec b) { return _mm256_min_epu16(a, b); }
  static Vec dot(Vec acc, Vec u, Vec s) { return add(acc, _mm256_madd_epi16(u, s)); }
  static Vec total(Vec acc) { return acc; }

 private:
  static Vec ones() { return _mm256_set1_epi16(1); }
  static Vec both_halves(Vec a) { return add(a, _mm256_srli_epi64(a, 32)); }
};

}  // namespace
}  // namespace inhibitor
