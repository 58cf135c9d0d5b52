// What both trees of kernels share: tile sizes, the scratch arena, and how a call is split into units of work.
#pragma once
#include <cstdint>

#include "abi.h"

// Loops over register tiles must be unrolled early, or GCC keeps the tile on the stack.
#define INHIBITOR_UNROLL _Pragma("GCC unroll 16")

// Loops over tiles are compiled apart: inlined into one function with everything else, GCC makes them up to 8 % slower.
#define INHIBITOR_APART __attribute__((noinline))

namespace inhibitor {
namespace {

constexpr int kRows = 4;     // query rows of one register tile
constexpr int kWidest = 16;  // lanes of the widest vector
constexpr int kBlock = 32;   // query rows whose scores against all keys are held at once

constexpr int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

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

// One unit of the forward pass: a run of row blocks of one head. How many runs a head is cut into depends on sizes and
// threads; results do not, because blocks start at the same rows.
struct ForwardUnit {
  ForwardUnit(const InhibitorCall& c, int64_t item) {
    const int64_t runs = runs_per_head(c), blocks = (c.queries + kBlock - 1) / kBlock;
    const int64_t head = item / runs, part = item % runs;
    // A bias is the same for the whole batch: what of it lies in the cache serves the next sequence.
    batch = c.score_bias ? head % c.batch : head / c.heads;
    this->head = c.score_bias ? head / c.batch : head % c.heads;
    kv_head = this->head / (c.heads / c.kv_heads);
    first_block = blocks * part / runs;
    last_block = blocks * (part + 1) / runs;
  }

  static int64_t count(const InhibitorCall& c) { return c.batch * c.heads * runs_per_head(c); }

  int64_t batch, head, kv_head;
  int64_t first_block, last_block;  // the last one is excluded

 private:
  static int64_t runs_per_head(const InhibitorCall& c) {
    const int64_t heads = c.batch * c.heads, blocks = (c.queries + kBlock - 1) / kBlock;
    if (c.threads <= 1 || heads <= 0) return 1;
    const int64_t wanted = (4 * c.threads + heads - 1) / heads;
    const int64_t most = blocks / 4 > 0 ? blocks / 4 : 1;  // packing the keys must stay a small part
    return wanted < most ? wanted : most;
  }
};

}  // namespace
}  // namespace inhibitor
