// Sizes and packed layouts that the kernels share.
#pragma once
#include <cstdint>

#include "abi.h"

// Loops over register tiles must be unrolled early, or GCC keeps the tile on the stack.
#define INHIBITOR_UNROLL _Pragma("GCC unroll 16")

// Loops over tiles are compiled apart: inlined into one function with everything else, GCC makes them up to 8 % slower.
#define INHIBITOR_APART __attribute__((noinline))

namespace inhibitor {
namespace {

constexpr int kRows = 4;    // query rows of one register tile
constexpr int kWidest = 16;  // lanes of the widest vector
constexpr int kBlock = 32;  // query rows whose scores against all keys are held at once

constexpr int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

// Sizes of one call for vectors of type V.
template <class V>
struct Sizes {
  static constexpr int kPanel = V::kWidth * V::kTileVecs;     // keys of one panel
  static constexpr int kGradPanel = V::kWidth * V::kGradVecs;  // keys of a panel of the backward pass

  explicit Sizes(const InhibitorCall& c)
      : dim(round_up(c.dim, V::kWidth)),
        value_dim(round_up(c.value_dim, V::kWidth)),
        keys(round_up(c.keys, kPanel)),
        row(keys + 16) {}

  int64_t dim;        // D, padded to whole vectors
  int64_t value_dim;  // Dv, padded to whole vectors
  int64_t keys;       // Nk, padded to whole panels
  int64_t row;        // floats between two rows of a score block; skewed, or all rows share cache sets
};

// Hands out 64-byte aligned pieces of one scratch buffer; with a null base it only adds up sizes.
class Arena {
 public:
  explicit Arena(float* base) : base_(base) {}
  float* take(int64_t floats) {
    float* piece = base_ ? base_ + used_ : nullptr;
    used_ += round_up(floats, 16);
    return piece;
  }
  // Moves what follows off what came before: a loop that reads one array and writes another, both at the same
  // place of their pages or a little ahead, is a quarter slower.
  void skew() { used_ += 512; }
  int64_t used() const { return used_; }

 private:
  float* base_;
  int64_t used_ = 0;
};

}  // namespace
}  // namespace inhibitor
