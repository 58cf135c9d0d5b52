// AVX-512 with VNNI: sums of absolute differences of bytes; dot products of 4 bytes or 2 words per lane.
#pragma once
#include "../float/simd_avx512.h"

namespace inhibitor {
namespace {

struct VnniLanes {
  using Float = Avx512;
  using Vec = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kTileVecs = 4;      // vectors of features of a tile of phase two
  static constexpr int kRows = 4;          // its rows
  static constexpr int kDistanceRows = 6;  // rows of a tile of phase one

  static Vec zero() { return _mm512_setzero_si512(); }
  static Vec set(int32_t x) { return _mm512_set1_epi32(x); }
  static Vec load(const void* p) { return _mm512_loadu_si512(p); }
  static void store(void* p, Vec x) { _mm512_storeu_si512(p, x); }
  static Vec broadcast(const void* p) {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
  }
  static Vec broadcast64(const void* p) {
    int64_t granule;
    __builtin_memcpy(&granule, p, sizeof granule);
    return _mm512_set1_epi64(granule);
  }
  // In a register, and after what stands before: GCC likes to start all products of a tile first, and to load operands
  // for every use.
  static void keep(Vec& x) { asm volatile("" : "+v"(x)); }
  static Vec add(Vec a, Vec b) { return _mm512_add_epi32(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_epi32(a, b); }
  static Vec min32(Vec a, Vec b) { return _mm512_min_epi32(a, b); }
  static Vec max32(Vec a, Vec b) { return _mm512_max_epi32(a, b); }
  static Vec shift_left(Vec a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
  static Vec shift_right(Vec a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
  static Vec rint(__m512 x) { return _mm512_cvtps_epi32(x); }  // ties to even
  static __m512 to_float(Vec a) { return _mm512_cvtepi32_ps(a); }
  static int32_t sum(Vec a) { return _mm512_reduce_add_epi32(a); }
  static uint64_t sum_unsigned(Vec a) {
    const __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(a));
    const __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(a, 1));
    return static_cast<uint64_t>(_mm512_reduce_add_epi64(_mm512_add_epi64(low, high)));
  }
  static Vec load_bytes(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec load_distances(const int32_t* p) { return load(p); }
  // The distances of a panel from the sums in its lanes of 64 bits, of which the lower halves hold all.
  static void merge(const Vec (&acc)[4], int32_t* out) {
    const Vec x = lower_halves(acc[0], acc[1]), y = lower_halves(acc[2], acc[3]);
    store(out, _mm512_permutex2var_epi64(x, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), y));
    store(out + kLanes, _mm512_permutex2var_epi64(x, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), y));
  }
  static void store_bytes(uint8_t* p, Vec x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
  }
  // clip(((a * multiplier + half) >> shift) + zero, 0, qmax), the products in 64 bits.
  static Vec requantize(Vec a, int32_t multiplier, int64_t half, int shift, int64_t zero, int64_t qmax) {
    const Vec factor = set(multiplier);
    const auto scaled = [&](Vec product) {
      const Vec shifted = _mm512_sra_epi64(_mm512_add_epi64(product, _mm512_set1_epi64(half)), _mm_cvtsi32_si128(shift));
      const Vec moved = _mm512_add_epi64(shifted, _mm512_set1_epi64(zero));
      return _mm512_min_epi64(_mm512_max_epi64(moved, Vec{}), _mm512_set1_epi64(qmax));
    };
    const Vec even = scaled(_mm512_mul_epi32(a, factor)), odd = scaled(_mm512_mul_epi32(_mm512_srli_epi64(a, 32), factor));
    return _mm512_or_si512(even, _mm512_slli_epi64(odd, 32));
  }
  // Pieces of 64 bits, in order after two vectors were narrowed within 128 bits.
  static Vec in_order(Vec x) { return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), x); }

 private:
  static Vec lower_halves(Vec a, Vec b) {
    return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88));
  }
};

struct BytesVnni : VnniLanes {
  using Element = uint8_t;
  using Distance = int16_t;
  static constexpr int kGroup = 4, kHeadGranules = 0;
  static constexpr bool kNarrow = true;
  static constexpr int64_t kMostGroups = INT64_MAX;

  // Only the upper end is clipped: what is below and NaN (the second operand of a minimum stays) become negative
  // integers, which `narrow` takes to 0.
  static Vec levels(__m512 x, __m512 qmax) { return rint(_mm512_min_ps(qmax, x)); }
  static Vec narrow(const Vec (&x)[4]) {
    const Vec bytes = _mm512_packus_epi16(_mm512_packs_epi32(x[0], x[1]), _mm512_packs_epi32(x[2], x[3]));
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
  }
  static void write_head(uint8_t*, const Element*, int64_t, int64_t) {}
  template <class>
  static Vec distance(Vec acc, Vec k, Vec q) { return add(acc, _mm512_sad_epu8(k, q)); }
  using VnniLanes::merge;
  static void merge(const Vec (&acc)[4], int16_t* out) {
    store(out, _mm512_packus_epi32(_mm512_packus_epi32(acc[0], acc[1]), _mm512_packus_epi32(acc[2], acc[3])));
  }

  static Vec set8(int32_t x) { return _mm512_set1_epi8(static_cast<int8_t>(x)); }
  static Vec set16(int64_t x) { return _mm512_set1_epi16(static_cast<int16_t>(x)); }
  static Vec adds16(Vec a, Vec b) { return _mm512_adds_epi16(a, b); }
  static Vec subs16(Vec a, Vec b) { return _mm512_subs_epi16(a, b); }
  static Vec shift_right16(Vec a, int n) { return _mm512_sra_epi16(a, _mm_cvtsi32_si128(n)); }
  static Vec add_words(Vec acc, Vec x) { return _mm512_dpwssd_epi32(acc, x, set16(1)); }
  // Clipped to bytes, in order.
  static Vec narrow_words(Vec a, Vec b) { return in_order(_mm512_packus_epi16(a, b)); }
  using VnniLanes::load_distances;
  static Vec load_distances(const int16_t* p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void store_narrow(Element* p, Vec x) { store_bytes(p, x); }

  // Byte k of lane f is that of key k and feature f.
  static Vec group(const Vec (&x)[4]) {
    const Vec bytes = _mm512_packs_epi16(_mm512_packs_epi32(x[0], x[1]), _mm512_packs_epi32(x[2], x[3]));
    const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(turn));
  }
  static Vec magnitudes(Vec a) { return _mm512_abs_epi8(a); }
  static Vec negative_signs(Vec a) {
    const Vec negative = _mm512_sub_epi8(zero(), a);
    return _mm512_max_epi8(_mm512_min_epi8(negative, _mm512_set1_epi8(1)), _mm512_set1_epi8(-1));
  }
  static Vec min(Vec a, Vec b) { return _mm512_min_epu8(a, b); }
  static Vec dot(Vec acc, Vec u, Vec s) { return _mm512_dpbusd_epi32(acc, u, s); }
  static Vec total(Vec acc) { return acc; }
};

// Levels 0..65535 are held less 32768, as signed words: distances stay what they are.
struct WordsVnni : VnniLanes {
  using Element = uint16_t;
  using Distance = int32_t;
  static constexpr int kGroup = 2, kHeadGranules = 1;
  static constexpr bool kNarrow = false;
  static constexpr int64_t kMostGroups = INT64_MAX;

  static Vec levels(__m512 x, __m512 qmax) {
    return sub(rint(_mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), qmax)), set(32768));
  }
  static Vec narrow(const Vec (&x)[2]) { return in_order(_mm512_packs_epi32(x[0], x[1])); }
  // |q - k| = q + k - 2 min(q, k): the head of a row holds the sum of its first `used` words. Those past them are -32768.
  static void write_head(uint8_t* out, const Element* row, int64_t padded, int64_t used) {
    Vec total = zero();
    for (int64_t d = 0; d < padded; d += 2 * kLanes)
      total = _mm512_dpwssd_epi32(total, load(row + d), _mm512_set1_epi16(1));
    const int64_t head = static_cast<uint32_t>(sum(total) + 32768 * static_cast<int32_t>(padded - used));
    __builtin_memcpy(out, &head, sizeof head);
  }
  template <class>
  static Vec distance(Vec acc, Vec k, Vec q) {
    return _mm512_dpwssd_epi32(acc, _mm512_min_epi16(k, q), _mm512_set1_epi16(-2));
  }
  static void merge(const Vec (&acc)[4], int32_t* out) {
    const Vec whole[4] = {both_halves(acc[0]), both_halves(acc[1]), both_halves(acc[2]), both_halves(acc[3])};
    VnniLanes::merge(whole, out);
  }
  static void store_narrow(Element* p, Vec x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
  }

  static Vec group(const Vec (&x)[2]) { return _mm512_mask_blend_epi16(0xAAAAAAAA, x[0], _mm512_slli_epi32(x[1], 16)); }
  static Vec magnitudes(Vec a) { return _mm512_abs_epi16(a); }
  static Vec negative_signs(Vec a) {
    const Vec negative = _mm512_sub_epi16(zero(), a);
    return _mm512_max_epi16(_mm512_min_epi16(negative, _mm512_set1_epi16(1)), _mm512_set1_epi16(-1));
  }
  static Vec min(Vec a, Vec b) { return _mm512_min_epu16(a, b); }
  static Vec dot(Vec acc, Vec u, Vec s) { return _mm512_dpwssd_epi32(acc, u, s); }
  static Vec total(Vec acc) { return acc; }

 private:
  static Vec both_halves(Vec a) { return add(a, _mm512_srli_epi64(a, 32)); }
};

}  // namespace
}  // namespace inhibitor
