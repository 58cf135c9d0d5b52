// What the vector units can do: element operations (one min and one accumulation) on registers alone.

#include <cstdint>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
typedef float Vector __attribute__((vector_size(kBytes)));
constexpr int kLanes = kBytes / sizeof(float);
constexpr int kSums = 12;  // enough to hide the latency, few enough for 16 registers

// Each sum grows by min(sum, step): the compiler cannot move the min out of the loop.
template <class Accumulate>
static float run(int64_t rounds, float step, Accumulate accumulate) {
  Vector sums[kSums], steps = step - Vector{};
  for (int i = 0; i < kSums; ++i) sums[i] = steps + static_cast<float>(i + 1);
  for (int64_t round = 0; round < rounds; ++round)
    for (int i = 0; i < kSums; ++i) sums[i] = accumulate(sums[i], steps < sums[i] ? steps : sums[i]);
  Vector total = sums[0];
  for (int i = 1; i < kSums; ++i) total += sums[i];
  const float result = total[0];
#if defined(__AVX__)
  _mm256_zeroupper();  // GCC 12 leaves it out here, and whoever uses SSE afterwards is four times slower
#endif
  return result;
}

extern "C" {

int64_t elements_per_round() { return int64_t{kSums} * kLanes; }

float min_add(int64_t rounds, float step) {
  return run(rounds, step, [](Vector sum, Vector x) { return sum + x; });
}

// `one` is a variable, so that this is a multiply-add: some processors have other units for it than for min.
float min_multiply_add(int64_t rounds, float step, float one) {
  const Vector ones = one - Vector{};
  return run(rounds, step, [ones](Vector sum, Vector x) { return x * ones + sum; });
}
}
