// The integer operation of one unit of work: a head, or a run of row blocks of one.
#pragma once
#include "../masks.h"
#include "inhibit.h"

namespace inhibitor {
namespace {

template <class V>
struct IntegerForward {
  using Element = typename V::Element;
  using P = IntegerPack<V>;
  using S = IntegerScores<V>;
  using Sizes = IntegerSizes<V>;
  static constexpr int L = V::kLanes;
  static constexpr int G = V::kGroup;

  static int64_t items(const IntegerCall& c) { return ForwardUnit::count(c.call); }

  struct Scratch {
    Scratch(const InhibitorCall& c, float* base) {
      const Sizes size(c);
      Arena arena(base);
      index = take<int32_t>(arena, c.keys + kWidest);
      hidden = arena.take(round_up(c.keys, kWidest));
      features.offset = arena.take(G * size.padded_words);
      features.inverse = arena.take(G * size.padded_words);
      features.weight = take<uint32_t>(arena, size.padded_words);
      panels = take<uint32_t>(arena, size.keys * size.words);
      k_sums = take<int32_t>(arena, size.keys);
      magnitudes = take<uint32_t>(arena, size.groups * size.value_dim);
      signs = take<uint32_t>(arena, size.groups * size.value_dim);
      v_sums = take<int32_t>(arena, size.value_dim);
      q = take<uint32_t>(arena, kBlock * size.padded_words);
      q_sums = take<int32_t>(arena, kBlock);
      s = take<int32_t>(arena, kBlock * size.row);
      z = reinterpret_cast<Element*>(arena.take(kBlock * size.narrow_row / G));
      factor = arena.take(kBlock);
      sums = take<int32_t>(arena, kBlock * size.value_dim);
      used = arena.used();
    }
    template <class T>
    static T* take(Arena& arena, int64_t count) {
      return reinterpret_cast<T*>(arena.take(count));
    }
    int32_t *index, *k_sums, *v_sums, *q_sums, *s, *sums;
    float *hidden, *factor;
    typename P::Features features;
    uint32_t *panels, *magnitudes, *signs, *q;
    Element* z;
    int64_t used;
  };
  static int64_t scratch(const IntegerCall& c) { return Scratch(c.call, nullptr).used; }

  static void run(const IntegerCall& c, int64_t item, float* base) {
    const InhibitorCall& call = c.call;
    const ForwardUnit unit(call, item);
    const Scratch s(call, base);
    const int64_t n = pack_head(c, s, unit.batch, unit.kv_head);
    const Rescale rescale = S::rescale(c, unit.head, unit.kv_head);
    for (int64_t block = unit.first_block; block < unit.last_block; ++block)
      run_block(c, s, unit.batch, unit.head, n, rescale, block * kBlock);
  }

 private:
  // Returns the number of valid keys.
  static int64_t pack_head(const IntegerCall& c, const Scratch& s, int64_t b, int64_t kv_head) {
    const InhibitorCall& call = c.call;
    const Sizes size(call);
    const int64_t n = P::P::valid_keys(call, b, s.index);
    P::features(c, kv_head, size, s.features);
    P::keys(P::P::head(call.key, b, kv_head), call.key.stride[2], s.index, n, call.dim, s.features, size, s.panels,
            s.k_sums);
    P::values(P::P::head(call.value, b, kv_head), call.value.stride[2], s.index, n, call.value_dim,
              c.value_inverse_step[kv_head], call.is_signed, size, s.magnitudes, s.signs, s.v_sums);
    return n;
  }

  static void run_block(const IntegerCall& c, const Scratch& s, int64_t b, int64_t h, int64_t n, const Rescale& rescale,
                        int64_t first) {
    const InhibitorCall& call = c.call;
    const Sizes size(call);
    const int64_t rows = call.queries - first < kBlock ? call.queries - first : kBlock;
    const float* q = P::P::head(call.query, b, h) + first * call.query.stride[2];
    P::queries(q, call.query.stride[2], rows, call.dim, s.features, size, s.q, s.q_sums);
    S::distances(s.q, s.q_sums, rows, s.panels, s.k_sums, s.features.weight, n, size, s.s);

    const RowMask mask(call, b, h, s.index, n);
    const float* factors = c.factors + h * c.factor_stride;
    for (int64_t i = 0; i < rows; ++i) {
      Element* z = s.z + i * size.narrow_row;
      int64_t count = n;
      if (RowMask::any(call)) {
        count = mask.fill(first + i, s.hidden);
        S::row_masked(s.s + i * size.row, s.hidden, count, n, call.center == kMean, rescale, z);
      } else {
        S::row(s.s + i * size.row, n, call.center == kMean, rescale, z);
      }
      s.factor[i] = factors[count];
    }
    IntegerInhibit<V>::block(s.z, size.narrow_row, rows, s.magnitudes, s.signs, size.value_dim, (n + G - 1) / G, s.sums);
    for (int64_t i = 0; i < rows; ++i) write_row(c, s.v_sums, s.sums + i * size.value_dim, s.factor[i], b, h, first + i);
  }

  // What is left of the values: all of them without what the scores take away.
  static void write_row(const IntegerCall& c, const int32_t* all, const int32_t* taken, float factor, int64_t b,
                        int64_t h, int64_t i) {
    const InhibitorCall& call = c.call;
    if (c.sums) {
      int32_t* out = c.sums + ((b * call.heads + h) * call.queries + i) * call.value_dim;
      for (int64_t d = 0; d < call.value_dim; ++d) out[d] = all[d] - taken[d];
      return;
    }
    float* out = const_cast<float*>(P::P::head(call.out, b, h)) + i * call.out.stride[2];
    for (int64_t d = 0; d < call.value_dim; ++d) out[d] = static_cast<float>(all[d] - taken[d]) * factor;
  }
};

}  // namespace
}  // namespace inhibitor
