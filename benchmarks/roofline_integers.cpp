// The same as roofline.cpp for bytes: an absolute difference and its sum, as distances need them, or one min and one
// product with its sum, as phase two does.

#include <immintrin.h>

#include <cstdint>

#if defined(__AVX512VNNI__)
using Vector = __m512i;
static Vector set(int32_t x) { return _mm512_set1_epi32(x); }
static Vector distance(Vector sum, Vector x) { return _mm512_add_epi32(sum, _mm512_sad_epu8(sum, x)); }
static Vector product(Vector sum, Vector x) { return _mm512_dpbusd_epi32(sum, _mm512_min_epu8(sum, x), x); }
static int32_t first(Vector x) { return _mm512_cvtsi512_si32(x); }
#else
using Vector = __m256i;
static Vector set(int32_t x) { return _mm256_set1_epi32(x); }
static Vector distance(Vector sum, Vector x) { return _mm256_add_epi32(sum, _mm256_sad_epu8(sum, x)); }
static Vector product(Vector sum, Vector x) {
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(_mm256_min_epu8(sum, x), x));
}
static int32_t first(Vector x) { return _mm256_cvtsi256_si32(x); }
#endif
// As the kernels: without the first GCC keeps the sums in memory, without the second it starts more than fit registers.
#define UNROLL _Pragma("GCC unroll 16")
#define KEEP(x) asm volatile("" : "+x"(x))
constexpr int kSums = 12;  // enough to hide the latency, few enough for 16 registers

template <Vector (*step)(Vector, Vector)>
static int32_t repeat(int64_t rounds, int32_t bytes) {
  Vector sums[kSums];
  const Vector x = set(bytes);
  UNROLL for (int i = 0; i < kSums; ++i) sums[i] = set(i);
  for (int64_t round = 0; round < rounds; ++round)
    UNROLL for (int i = 0; i < kSums; ++i) {
      sums[i] = step(sums[i], x);
      KEEP(sums[i]);
    }
  int32_t total = 0;
  UNROLL for (int i = 0; i < kSums; ++i) total += first(sums[i]);
  return total;
}

extern "C" {

int64_t elements_per_round() { return int64_t{kSums} * static_cast<int64_t>(sizeof(Vector)); }

int32_t difference_add(int64_t rounds, int32_t bytes) { return repeat<distance>(rounds, bytes); }

int32_t min_dot(int64_t rounds, int32_t bytes) { return repeat<product>(rounds, bytes); }
}
