// The bias of the scores of one head, and its gradient.
#pragma once
#include <limits>

#include "pack.h"

namespace inhibitor {
namespace {

template <class V>
class Bias {
 public:
  // Over the n packed keys in `index`.
  Bias(const InhibitorCall& c, int64_t h, const int32_t* index, int64_t n)
      : index_(index),
        row_stride_(c.score_bias_stride[1]),
        keys_(c.keys),
        in_a_run_(n > 0 && index[n - 1] - index[0] == n - 1),
        from_(c.score_bias ? c.score_bias + h * c.score_bias_stride[0] : nullptr),
        to_(c.grad_bias ? c.grad_bias + h * c.queries * c.keys : nullptr) {}

  explicit operator bool() const { return from_ != nullptr; }
  bool wants_gradient() const { return to_ != nullptr; }

  // out[j] = bias_ij (less its mean over the `seen` keys whose `hidden` is 0; null: all are) + delta, for the first
  // n keys, whole vectors.
  void shifts(int64_t i, int64_t n, const float* hidden, int64_t seen, bool centered, float delta, float* out) const {
    gather(from_ + i * row_stride_, n, out);
    float mean = 0.0f;
    if (centered && seen > 0) {
      Vec sum = V::zero();
      for (int64_t j = 0; j < n; j += W) {
        const Vec x = V::load(out + j);
        sum = V::add(sum, hidden ? V::select(V::gt(V::set(kInfinity), V::load(hidden + j)), x, V::zero()) : x);
      }
      mean = V::sum(sum) / static_cast<float>(seen);
    }
    const Vec difference = V::set(delta - mean);
    for (int64_t j = 0; j < n; j += W) V::store(out + j, V::add(V::load(out + j), difference));
  }

  // Adds -eta (b_j - constant) for row i and the keys with z_j < +inf, out of n.
  void add_gradient(int64_t i, int64_t n, const float* b, const float* z, float constant, float eta) const {
    float* to = to_ + i * keys_;
    if (!in_a_run_) {
      for (int64_t j = 0; j < n; ++j)
        if (z[j] < kInfinity) to[index_[j]] -= eta * (b[j] - constant);
      return;
    }
    to += index_[0];
    const Vec mean = V::set(constant), factor = V::set(eta);
    for (int64_t j = 0; j < n; j += W) {
      const Vec change = V::mul(V::sub(V::load(b + j), mean), factor);
      const Vec seen = V::select(V::gt(V::set(kInfinity), V::load(z + j)), change, V::zero());
      const int64_t left = n - j;
      V::store_first(to + j, V::sub(P::load_upto(to + j, left), seen), static_cast<int>(left < W ? left : W));
    }
  }

 private:
  using P = Pack<V>;
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();

  void gather(const float* row, int64_t n, float* out) const {
    if (in_a_run_)
      for (int64_t j = 0; j < n; j += W) V::store(out + j, P::load_upto(row + index_[0] + j, n - j));
    else
      for (int64_t j = 0; j < round_up(n, W); ++j) out[j] = j < n ? row[index_[j]] : 0.0f;
  }

  const int32_t* index_;
  int64_t row_stride_, keys_;
  bool in_a_run_;
  const float* from_;
  float* to_;
};

}  // namespace
}  // namespace inhibitor
