// The same as roofline.cpp for bytes: one min, and one product of four bytes with its sum.

#include <immintrin.h>

#include <cstdint>

#if defined(__AVX512VNNI__)
using Vector = __m512i;
static Vector set(int32_t x) { return _mm512_set1_epi32(x); }
static Vector step(Vector sum, Vector x) { return _mm512_dpbusd_epi32(sum, _mm512_min_epu8(sum, x), x); }
static int32_t first(Vector x) { return _mm512_cvtsi512_si32(x); }
#else
using Vector = __m256i;
static Vector set(int32_t x) { return _mm256_set1_epi32(x); }
static Vector step(Vector sum, Vector x) {
  const Vector pairs = _mm256_maddubs_epi16(_mm256_min_epu8(sum, x), x);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
static int32_t first(Vector x) { return _mm256_cvtsi256_si32(x); }
#endif
constexpr int kSums = 12;  // enough to hide the latency, few enough for 16 registers

extern "C" {

int64_t elements_per_round() { return int64_t{kSums} * static_cast<int64_t>(sizeof(Vector)); }

int32_t min_dot(int64_t rounds, int32_t bytes) {
  Vector sums[kSums];
  const Vector x = set(bytes);
  for (int i = 0; i < kSums; ++i) sums[i] = set(i);
  for (int64_t round = 0; round < rounds; ++round)
    for (int i = 0; i < kSums; ++i) sums[i] = step(sums[i], x);
  int32_t total = 0;
  for (int i = 0; i < kSums; ++i) total += first(sums[i]);
  return total;
}
}
