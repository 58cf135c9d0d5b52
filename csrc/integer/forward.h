// The integer operation of one unit of work: a head, or a run of row blocks of one.
#pragma once
#include "inhibit.h"
#include "output.h"

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
  static constexpr bool kBytes = sizeof(Element) == 1;

  static int64_t items(const IntegerCall& c) { return ForwardUnit::count(c.call); }

  struct Scratch {
    Scratch(const IntegerCall& c, float* base) {
      const Sizes size(c);
      Arena arena(base);
      index = take<int32_t>(arena, c.call.keys + kWidest);
      hidden = arena.take(round_up(c.call.keys, kWidest));
      extended = arena.take(size.features);
      packed = take<uint8_t>(arena, 2 * size.packed_row + 16);
      panels = take<uint8_t>(arena, size.keys * size.granules * 8);
      magnitudes = take<uint32_t>(arena, size.groups * size.value_dim);
      signs = take<uint32_t>(arena, size.groups * size.value_dim);
      value_sums = take<int32_t>(arena, size.value_dim);
      q = take<uint8_t>(arena, kBlock * size.packed_row);
      s = take<int32_t>(arena, kBlock * size.row);
      z = take<Element>(arena, kBlock * size.narrow_row);
      sums = take<int32_t>(arena, kBlock * size.value_dim);
      used = arena.used();
    }
    template <class T>
    static T* take(Arena& arena, int64_t count) {
      return reinterpret_cast<T*>(arena.take((count * static_cast<int64_t>(sizeof(T)) + 3) / 4));
    }
    int32_t *index, *value_sums, *s, *sums;
    float *hidden, *extended;
    uint8_t *packed, *panels, *q;
    uint32_t *magnitudes, *signs;
    Element* z;
    int64_t used;
  };
  static int64_t scratch(const IntegerCall& c) { return Scratch(c, nullptr).used; }

  static void run(const IntegerCall& c, int64_t item, float* base) {
    const Sizes size(c);
    // What fits 16 bits takes half of the time from distances to scores.
    if (V::kNarrow && size.features * Levels(c).qmax <= Rescale::kMostWord)
      run_unit<typename V::Distance>(c, size, item, base);
    else
      run_unit<int32_t>(c, size, item, base);
  }

 private:
  // One head, as a unit of work sees it.
  struct Head {
    const IntegerCall& c;
    const Sizes& size;
    const Scratch& scratch;
    ForwardUnit unit;
    typename P::Features features;
    Rescale rescale;
    int64_t keys;  // valid ones
  };

  template <class Distance>
  static void run_unit(const IntegerCall& c, const Sizes& size, int64_t item, float* base) {
    const Scratch scratch(c, base);
    const ForwardUnit unit(c.call, item);
    const Head head{c,    size, scratch, unit, typename P::Features(c, unit.kv_head, size), Rescale(c, unit.head),
                    P::P::valid_keys(c.call, unit.batch, scratch.index)};
    pack(head);
    for (int64_t block = unit.first_block; block < unit.last_block; ++block) run_block<Distance>(head, block * kBlock);
  }

  // Rows of one head of levels.
  static const uint8_t* levels(const uint8_t* data, const int64_t (&stride)[3], int64_t b, int64_t h) {
    return data + b * stride[0] + h * stride[1];
  }

  static void pack(const Head& head) {
    const IntegerCall& c = head.c;
    const InhibitorCall& call = c.call;
    const Scratch& s = head.scratch;
    const ForwardUnit& unit = head.unit;
    const int32_t* index = head.keys == call.keys ? nullptr : s.index;
    const typename P::Values how(c, unit.head);
    if constexpr (kBytes) {
      if (c.key_levels) {
        P::level_keys(levels(c.key_levels, c.key_levels_stride, unit.batch, unit.kv_head), c.key_levels_stride[2],
                      index, head.keys, head.features, head.size, s.packed, s.panels);
        P::values(levels(c.value_levels, c.value_levels_stride, unit.batch, unit.kv_head), c.value_levels_stride[2],
                  index, head.keys, call.value_dim, how, head.size, s.magnitudes, s.signs, s.value_sums);
        return;
      }
    }
    P::keys(P::P::head(call.key, unit.batch, unit.kv_head), call.key.stride[2], index, head.keys, head.features,
            head.size, s.extended, s.packed, s.panels);
    P::values(P::P::head(call.value, unit.batch, unit.kv_head), call.value.stride[2], index, head.keys, call.value_dim,
              how, head.size, s.magnitudes, s.signs, s.value_sums);
  }

  static void pack_queries(const Head& head, int64_t first, int64_t rows) {
    const IntegerCall& c = head.c;
    const Scratch& s = head.scratch;
    const int64_t b = head.unit.batch, h = head.unit.head;
    if constexpr (kBytes) {
      if (c.query_levels) {
        const int64_t stride = c.query_levels_stride[2];
        P::level_queries(levels(c.query_levels, c.query_levels_stride, b, h) + first * stride, stride, rows,
                         head.features, head.size, s.q);
        return;
      }
    }
    const int64_t stride = c.call.query.stride[2];
    P::queries(P::P::head(c.call.query, b, h) + first * stride, stride, rows, head.features, head.size, s.extended, s.q);
  }

  template <class Distance>
  static void run_block(const Head& head, int64_t first) {
    const InhibitorCall& call = head.c.call;
    const Scratch& s = head.scratch;
    const Sizes& size = head.size;
    const ForwardUnit& unit = head.unit;
    const int64_t rows = call.queries - first < kBlock ? call.queries - first : kBlock, n = head.keys;
    Distance* distances = reinterpret_cast<Distance*>(s.s);
    pack_queries(head, first, rows);
    S::distances(s.q, rows, s.panels, n, size, distances);

    const RowMask mask(call, unit.batch, unit.head, s.index, n);
    int64_t seen[kBlock];
    for (int64_t i = 0; i < rows; ++i) {
      IntegerOutput<V>::prefetch(head.c, unit.batch, unit.head, first + i);
      seen[i] = scores(head, mask, first + i, distances + i * size.row, s.z + i * size.narrow_row);
    }
    IntegerInhibit<V>::block(s.z, size.narrow_row, rows, s.magnitudes, s.signs, s.value_sums, size.value_dim,
                             (n + G - 1) / G, s.sums);
    for (int64_t i = 0; i < rows; ++i)
      IntegerOutput<V>::row(head.c, s.sums + i * size.value_dim, unit.batch, unit.head, first + i, seen[i]);
  }

  // Z of query row i; returns how many keys it sees.
  template <class Distance>
  static int64_t scores(const Head& head, const RowMask& mask, int64_t i, const Distance* distances, Element* z) {
    const InhibitorCall& call = head.c.call;
    const bool centered = call.center == kMean;
    if (!call.attn_mask) {
      const int64_t seen = mask.prefix(i);
      S::row(distances, seen, head.keys, centered, head.rescale, z);
      return seen;
    }
    const int64_t seen = mask.fill(i, head.scratch.hidden);
    S::row_masked(distances, head.scratch.hidden, seen, head.keys, centered, head.rescale, z);
    return seen;
  }
};

}  // namespace
}  // namespace inhibitor
