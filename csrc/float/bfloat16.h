// bfloat16 as vectors of float32, by compiler vector extensions: GCC makes of them the few instructions that there are
// for it.
#pragma once
#include <cstdint>
#include <cstring>

namespace inhibitor {
namespace {

struct Bfloat16 {
  uint16_t bits;
};

template <int W>
struct Lanes {
  typedef uint16_t Half __attribute__((vector_size(2 * W)));
  typedef uint32_t Word __attribute__((vector_size(4 * W)));
};

template <class V>
struct Bfloat16Vec {
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;
  using Half = typename Lanes<W>::Half;
  using Word = typename Lanes<W>::Word;

  static Vec load(const Bfloat16* p) { return load_first(p, W); }
  static Vec load_first(const Bfloat16* p, int64_t n) {
    Half half{};
    std::memcpy(&half, p, sizeof(Bfloat16) * static_cast<size_t>(n));
    const Word word = __builtin_convertvector(half, Word) << 16;
    Vec x;
    std::memcpy(&x, &word, sizeof x);
    return x;
  }

  // The first n lanes, or all.
  static void store_upto(Bfloat16* p, Vec x, int64_t n) {
    const Half half = rounded(x);
    if (n >= W)
      std::memcpy(p, &half, sizeof half);
    else
      std::memcpy(p, &half, sizeof(Bfloat16) * static_cast<size_t>(n));
  }

 private:
  // To nearest, ties to even; a NaN stays one.
  static Half rounded(Vec x) {
    Word word;
    std::memcpy(&word, &x, sizeof x);
    const Word nearest = word + 0x7fff + (word >> 16 & 1);
    const Word is_nan = (word & 0x7fffffff) > 0x7f800000;
    const Word high = ((is_nan & (word | 0x400000)) | (~is_nan & nearest)) >> 16;
    return __builtin_convertvector(high, Half);
  }
};

}  // namespace
}  // namespace inhibitor
