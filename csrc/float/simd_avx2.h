// AVX2 + FMA: 8 lanes, 16 registers; a mask is a vector of all-ones or all-zeros lanes.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "lanes.h"

namespace inhibitor {
namespace {

struct Avx2 {
  using Vec = __m256;
  using Mask = __m256;
  static constexpr int kWidth = 8;
  static constexpr int kTileVecs = 2;
  static constexpr int kGradVecs = 1;
  static constexpr bool kDirect = false;
  static constexpr float kSparse = 0.25f;
  static constexpr const char* kName = "avx2";

  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec set(float x) { return _mm256_set1_ps(x); }
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
  static Vec load_first(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
  static void store_first(float* p, Vec x, int n) { _mm256_maskstore_ps(p, first(n), x); }

  static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  // a + b on the multiply-add units: on Zen, min, max, range and add share the other two units. Assembler, because Clang
  // makes an addition of a product by one.
  static Vec add_by_fma(Vec a, Vec b) {
    asm("vfmadd231ps %1, %2, %0" : "+x"(a) : "x"(b), "x"(_mm256_set1_ps(1.0f)));
    return a;
  }
  static Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }
  static Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
  static Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  static Vec abs(Vec a) { return _mm256_andnot_ps(sign_bit(), a); }
  static Vec abs_difference(Vec a, Vec b) { return abs(sub(a, b)); }
  static float sum(Vec a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
  }
  static float largest(Vec a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
  }

  // z is one value for many v: its negative is taken once.
  static Vec clamp(Vec v, Vec z) { return max(min(v, z), _mm256_xor_ps(z, sign_bit())); }
  static Vec sign_one(Vec v) { return _mm256_or_ps(_mm256_and_ps(v, sign_bit()), set(1.0f)); }

  static Mask gt(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
  static Mask is_nan(Vec a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
  static Vec select(Mask m, Vec a, Vec b) { return _mm256_blendv_ps(b, a, m); }
  static Vec add_where(Mask m, Vec acc, Vec x) { return add(acc, _mm256_and_ps(m, x)); }
  static Vec sign_of(Vec v) { return _mm256_and_ps(v, sign_bit()); }
  static Vec flip_where(Mask m, Vec x, Vec sign) { return _mm256_and_ps(m, _mm256_xor_ps(x, sign)); }  // elsewhere 0
  static unsigned bits(Mask m) { return static_cast<unsigned>(_mm256_movemask_ps(m)); }

  static Vec zip_low(Vec a, Vec b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
  }
  static Vec zip_high(Vec a, Vec b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
  }

  // With a scalar operand in memory.
  static Vec min_at(Vec a, const float* x) { return min(a, set(*x)); }
  static Mask gt_at(Vec a, const float* x) { return gt(a, set(*x)); }
  static Vec add_where_at(Mask m, Vec acc, const float* x) { return add_where(m, acc, set(*x)); }
  static Vec fma_where_at(Mask m, const float* a, Vec b, Vec acc) { return fma(_mm256_and_ps(m, set(*a)), b, acc); }

  // Adds clamp(v, -z, z) = sign(v) min(|v|, z), z a scalar in memory.
  struct Clamp {
    Clamp() = default;
    explicit Clamp(Vec v) : size(abs(v)), sign(_mm256_or_ps(_mm256_xor_ps(v, size), set(1.0f))) {}
    Vec add_to(Vec acc, const float* z) const { return fma(min_at(size, z), sign, acc); }
    Vec size, sign;
  };

  // up += w sign(x - y), down -= w sign(x - y), w a scalar in memory; x not -0. The integer sign instruction
  // does it for 2.0f, whose bits negated as an integer are those of -2.0f.
  static constexpr float kSign = 2.0f;  // the factor by which a sign comes out too large
  static void add_signed(const float* w, Vec x, Vec y, Vec& up, Vec& down) {
    const __m256i two = _mm256_castps_si256(set(kSign)), difference = _mm256_castps_si256(sub(x, y));
    const Vec sign = _mm256_castsi256_ps(_mm256_sign_epi32(two, difference));
    up = fma(set(*w), sign, up);
    down = fnma(set(*w), sign, down);
  }

  // Lane m of x[0] becomes the sum across the lanes of x[m].
  static void sum_each(Vec (&x)[kWidth]) {
    for (int m = 0; m < 4; ++m)
      x[m] = add(_mm256_permute2f128_ps(x[m], x[m + 4], 0x20), _mm256_permute2f128_ps(x[m], x[m + 4], 0x31));
    for (int m = 0; m < 4; m += 2)
      x[m] = add(_mm256_shuffle_ps(x[m], x[m + 1], 0x44), _mm256_shuffle_ps(x[m], x[m + 1], 0xEE));
    x[0] = add(_mm256_shuffle_ps(x[0], x[2], 0x88), _mm256_shuffle_ps(x[0], x[2], 0xDD));
  }

  static int append(int32_t* out, Mask m, int32_t first) { return append_lanes<kWidth>(out, bits(m), first); }
  static Vec expand(const float* p, uint32_t bits) {
    float x[kWidth];
    expand_lanes(p, bits, x);
    return load(x);
  }

 private:
  static Vec sign_bit() { return _mm256_set1_ps(-0.0f); }
  static __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

}  // namespace
}  // namespace inhibitor
