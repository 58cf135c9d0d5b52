// What a head takes off the distances to each key for its size, lambda * sum |k|, and the gradient of that.
#pragma once
#include "scores.h"

namespace inhibitor {
namespace {

template <class V>
class KeyNorms {
 public:
  KeyNorms(const InhibitorCall& c, Arena& arena, bool backward = false) : on_(c.key_norm.data != nullptr) {
    const int64_t keys = on_ ? Sizes<V>(c).keys : 0;
    norms_ = arena.take(keys);
    taken_ = arena.take(keys);
    sums_ = arena.take(keys);
    columns_ = backward ? arena.take(keys) : nullptr;
  }

  explicit operator bool() const { return on_; }

  // Of the n keys in `index` (null: the first n).
  template <class T>
  void pack(const T* keys, int64_t stride, const int32_t* index, int64_t n, int64_t dim) {
    if (!on_) return;
    P::abs_sums(keys, stride, index, n, dim, norms_);
    for (int64_t j = n; j < round_up(n, Sizes<V>::kPanel); ++j) norms_[j] = 0.0f;
    n_ = n;
  }

  // For one head, whose keys have these sums over the features (null: distances are taken directly).
  void set_head(float key_norm, const float* sums) {
    const Vec factor = V::set(key_norm);
    for (int64_t j = 0; on_ && j < n_; j += W) {
      const Vec taken = V::mul(V::load(norms_ + j), factor);
      V::store(taken_ + j, taken);
      if (sums) V::store(sums_ + j, V::sub(V::load(sums + j), taken));
      if (columns_) V::store(columns_ + j, V::zero());
    }
  }

  // Keys `begin` to `begin` + n of that head.
  typename Scores<V>::Keys keys(const float* panels, const float* sums, int64_t begin, int64_t n, int64_t dim) const {
    const float* less = sums ? (on_ ? sums_ : sums) + begin : nullptr;
    return {panels + begin * dim, less, on_ && !sums ? taken_ + begin : nullptr, n, dim};
  }

  // A row of gradients of distances to those keys.
  void add_row(const float* ds, int64_t begin, int64_t n) const {
    float* to = columns_ + begin;
    for (int64_t j = 0; j < n; j += W) V::store(to + j, V::add(V::load(to + j), V::load(ds + j)));
  }

  // After all rows of the head: adds to the gradients of the keys, whose signs `rows` have; returns that of key_norm.
  // Rows of `dim` features, whole vectors.
  double add_gradients(float key_norm, const float* rows, float* dk, int64_t dim) const {
    double along = 0.0;
    for (int64_t j = 0; j < n_; ++j) {
      const float column = V::kSign * columns_[j];
      if (column == 0.0f) continue;  // a key that no row sees may hold NaN
      along += static_cast<double>(column) * static_cast<double>(norms_[j]);
      const Vec factor = V::set(key_norm * column);
      for (int64_t d = j * dim; d < (j + 1) * dim; d += W) {
        const Vec k = V::load(rows + d);
        const Vec change = V::select(V::gt(V::abs(k), V::zero()), V::mul(V::sign_one(k), factor), V::zero());
        V::store(dk + d, V::sub(V::load(dk + d), change));
      }
    }
    return -along;
  }

 private:
  using P = Pack<V>;
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;

  bool on_;
  int64_t n_ = 0;
  float *norms_, *taken_, *sums_, *columns_;
};

}  // namespace
}  // namespace inhibitor
