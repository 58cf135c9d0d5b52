// AVX-512 (F, DQ, BW, VL): 16 lanes, 32 registers, comparison masks.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace inhibitor {
namespace {

struct Avx512 {
  using Vec = __m512;
  using Mask = __mmask16;
  static constexpr int kWidth = 16;
  static constexpr int kTileVecs = 4;   // vectors per row of a forward tile: 4 rows x 4 = 16 accumulators
  static constexpr int kGradVecs = 2;   // the same for gradient tiles, which hold three values per element
  static constexpr bool kDirect = false;  // whether an absolute difference costs no more than a minimum
  static constexpr float kSparse = 0.5f;  // share of keys in the lists below which sparse gradients pay
  static constexpr const char* kName = "avx512";

  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec set(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
  static Vec load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store_first(float* p, Vec x, int n) { _mm512_mask_storeu_ps(p, first(n), x); }

  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  // a + b on the multiply-add units: on Zen, min, max, range and add share the other two units. Assembler, because Clang
  // makes an addition of a product by one.
  static Vec add_by_fma(Vec a, Vec b) {
    asm("vfmadd231ps %1, %2, %0" : "+v"(a) : "v"(b), "v"(_mm512_set1_ps(1.0f)));
    return a;
  }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }
  static Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
  static Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  static Vec abs(Vec a) { return _mm512_abs_ps(a); }
  static Vec abs_difference(Vec a, Vec b) { return abs(sub(a, b)); }
  static float sum(Vec a) { return _mm512_reduce_add_ps(a); }
  static float largest(Vec a) { return _mm512_reduce_max_ps(a); }

  // The smaller magnitude with the sign of v: clamp(v, -z, z) for z >= 0, in one instruction.
  static Vec clamp(Vec v, Vec z) { return _mm512_range_ps(v, z, 2); }
  static Vec sign_one(Vec v) {
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(INT32_MIN),
                                                         _mm512_castps_si512(_mm512_set1_ps(1.0f)), 0xEA));
  }

  static Mask gt(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  static Mask is_nan(Vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
  static Vec select(Mask m, Vec a, Vec b) { return _mm512_mask_blend_ps(m, b, a); }
  static Vec add_where(Mask m, Vec acc, Vec x) { return _mm512_mask_add_ps(acc, m, acc, x); }
  static Vec sign_of(Vec v) { return _mm512_and_ps(v, _mm512_set1_ps(-0.0f)); }
  static Vec flip_where(Mask m, Vec x, Vec sign) { return _mm512_maskz_xor_ps(m, x, sign); }  // elsewhere 0
  static unsigned bits(Mask m) { return m; }

  // With a scalar operand in memory that the instruction broadcasts itself, for nothing: on Zen 4 a broadcast
  // of its own costs as much as arithmetic. Assembler, because GCC would hoist it.
  static Vec min_at(Vec a, const float* x) {
    Vec out;
    asm("vminps %2%{1to16%}, %1, %0" : "=v"(out) : "v"(a), "m"(*x));
    return out;
  }
  static Mask gt_at(Vec a, const float* x) {
    Mask m;
    asm("vcmpps $30, %2%{1to16%}, %1, %0" : "=Yk"(m) : "v"(a), "m"(*x));
    return m;
  }
  static Vec add_where_at(Mask m, Vec acc, const float* x) {
    asm("vaddps %1%{1to16%}, %0, %0%{%2%}" : "+v"(acc) : "m"(*x), "Yk"(m));
    return acc;
  }
  static Vec fma_where_at(Mask m, const float* a, Vec b, Vec acc) {
    asm("vfmadd231ps %1%{1to16%}, %2, %0%{%3%}" : "+v"(acc) : "m"(*a), "v"(b), "Yk"(m));
    return acc;
  }

  // Adds clamp(v, -z, z), z a scalar in memory.
  struct Clamp {
    Clamp() = default;
    explicit Clamp(Vec x) : v(x) {}
    Vec add_to(Vec acc, const float* z) const {
      Vec out;
      asm("vrangeps $2, %2%{1to16%}, %1, %0" : "=v"(out) : "v"(v), "m"(*z));
      return add_by_fma(acc, out);
    }
    Vec v;
  };

  // up += w sign(x - y), down -= w sign(x - y), w a scalar in memory, for |x - y| >= 1 or 0.
  static constexpr float kSign = 1.0f;  // the factor by which a sign comes out too large
  static void add_signed(const float* w, Vec x, Vec y, Vec& up, Vec& down) {
    const Vec sign = clamp(sub(x, y), _mm512_set1_ps(1.0f));
    asm("vfmadd231ps %1%{1to16%}, %2, %0" : "+v"(up) : "m"(*w), "v"(sign));
    asm("vfnmadd231ps %1%{1to16%}, %2, %0" : "+v"(down) : "m"(*w), "v"(sign));
  }

  // The low (high) halves of a and b, interleaved.
  static Vec zip_low(Vec a, Vec b) {
    const __m512i index = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, index, b);
  }
  static Vec zip_high(Vec a, Vec b) {
    const __m512i index = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, index, b);
  }

  // Lane m of x[0] becomes the sum across the lanes of x[m]. Each step takes the sums of two vectors' halves,
  // with one shuffle: zip_low and zip_high would be two, which only two of the four units do.
  static void sum_each(Vec (&x)[kWidth]) {
    const __m512i quarters = _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
    const __m512i odd_even = _mm512_setr_epi32(1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30);
    for (int m = 0; m < 8; ++m)
      x[m] = add(_mm512_mask_blend_ps(0xFF00, x[m], x[m + 8]), _mm512_shuffle_f32x4(x[m], x[m + 8], 0x4E));
    for (int m = 0; m < 4; ++m)
      x[m] = add(_mm512_mask_blend_ps(0xF0F0, x[m], x[m + 4]), _mm512_permutex2var_ps(x[m], quarters, x[m + 4]));
    for (int m = 0; m < 2; ++m) {
      const __m512d a = _mm512_castps_pd(x[m]), b = _mm512_castps_pd(x[m + 2]);
      x[m] = add(_mm512_mask_blend_ps(0xCCCC, x[m], x[m + 2]), _mm512_castpd_ps(_mm512_shuffle_pd(a, b, 0x55)));
    }
    x[0] = add(_mm512_mask_blend_ps(0xAAAA, x[0], x[1]), _mm512_permutex2var_ps(x[0], odd_even, x[1]));
  }

  // Writes first + lane for every set lane, returns how many; may write a whole vector at `out`.
  static int append(int32_t* out, Mask m, int32_t first) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    // Compressed in a register: the form that stores is microcoded on Zen 4.
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(m, _mm512_add_epi32(lanes, _mm512_set1_epi32(first))));
    return __builtin_popcount(m);
  }
  // Lanes whose bit is set take the next float from `p`, the others 0; may read a whole vector.
  static Vec expand(const float* p, uint32_t bits) {
    return _mm512_maskz_expand_ps(static_cast<Mask>(bits), load(p));
  }

 private:
  static Mask first(int n) { return static_cast<Mask>((1u << n) - 1u); }
};

}  // namespace
}  // namespace inhibitor
