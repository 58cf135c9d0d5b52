// The values of one key/value head and their gradients in the backward pass: dense, or sparse where that pays.
#pragma once
#include "gradients.h"
#include "sparse.h"

namespace inhibitor {
namespace {

template <class V>
class Values {
 public:
  Values(const InhibitorCall& c, Arena& arena) : dim_(c.value_dim), padded_(Sizes<V>(c).value_dim) {
    const int64_t keys = Sizes<V>(c).keys;
    v_ = arena.take(keys * padded_);
    arena.skew();
    dv_ = arena.take(keys * padded_);
    max_abs_value_ = arena.take(keys);
    lists_.active = reinterpret_cast<int32_t*>(arena.take(keys + W));
    lists_.bits = reinterpret_cast<uint32_t*>(arena.take(keys / W + 1));
    lists_.part = arena.take(kRows * W * W);
    lists_.sums = arena.take(kRows * (keys + W));
  }

  // Packs the n values in `index`, for dense gradients.
  void pack(const InhibitorCall& c, const float* from, const int32_t* index, int64_t n) {
    n_ = n;
    P::template transposed_panels<kPanel>(from, c.value.stride[2], index, n, dim_, nullptr, v_);
    P::template panel_max_abs_values<kPanel>(v_, n, dim_, c.is_signed, max_abs_value_);
  }

  // Before the first gradients: packs again for sparse ones where these pay. The scores `z` of some rows and the keys
  // in `range` speak for the head; row i sees seen[i] keys.
  void choose(const InhibitorCall& c, const float* from, const int32_t* index, const float* z, int64_t z_stride,
              int64_t rows, RowMask::Range range, const int64_t* seen) {
    int64_t listed = 0, of = 0;
    for (int64_t i = 0; i + kRows <= rows; i += kRows) {
      listed += Scores<V>::template list_active<kRows>(z + i * z_stride, z_stride, max_abs_value_ + range.begin,
                                                       range.end - range.begin, lists_.active, nullptr);
      of += kRows * seen[i + kRows - 1];
    }
    sparse_ = static_cast<float>(kRows * listed) < V::kSparse * static_cast<float>(of);
    if (sparse_) P::rows(from, c.value.stride[2], index, n_, dim_, padded_, nullptr, 1.0f, v_);
  }

  void clear_gradients() {
    for (int64_t i = 0; i < floats(); ++i) dv_[i] = 0.0f;
  }

  // The sums of ValueGradients for a block of rows and the keys in `range`, which begins at a whole panel.
  template <bool Signed>
  void add_gradients(const float* z, float* b, int64_t stride, int64_t rows, const float* g,
                     RowMask::Range range) const {
    const int64_t n = range.end - range.begin, at = range.begin * (sparse_ ? padded_ : dim_);
    if (sparse_)
      SparseValueGradients<V, Signed>::run(z, b, stride, rows, g, v_ + at, dv_ + at, padded_, n,
                                           max_abs_value_ + range.begin, lists_);
    else
      ValueGradients<V, Signed>::run(z, b, stride, rows, g, padded_, v_ + at, dv_ + at, dim_, n);
  }

  // Sum of v times its gradient; a value that never passed (gradient 0) adds nothing, whatever it holds.
  double dot() const {
    double total = 0.0;
    for (int64_t i = 0; i < floats();) {
      Vec sum = V::zero();
      for (const int64_t end = i + kChunk < floats() ? i + kChunk : floats(); i < end; i += W) {
        const Vec grad = V::load(dv_ + i), product = V::mul(V::load(v_ + i), grad);
        sum = V::add(sum, V::select(V::gt(V::abs(grad), V::zero()), product, V::zero()));
      }
      total += static_cast<double>(V::sum(sum));
    }
    return total;
  }

  // out[index[j]] (+)= factor * gradient of value j.
  void write_gradients(const int32_t* index, float factor, bool add, float* out, int64_t stride) const {
    for (int64_t j = 0; j < n_; j += W)
      for (int64_t d = 0; d < dim_; d += W) {
        Vec x[W];
        square(j, d, x);
        const int64_t wide = dim_ - d < W ? dim_ - d : W;
        for (int i = 0; i < W && j + i < n_; ++i) {
          float* to = out + index[j + i] * stride + d;
          const Vec grad = V::mul(V::set(factor), x[i]);
          V::store_first(to, add ? V::add(grad, P::load_upto(to, wide)) : grad, static_cast<int>(wide));
        }
      }
  }

 private:
  using P = Pack<V>;
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;
  static constexpr int kPanel = Sizes<V>::kGradPanel;
  static constexpr int64_t kChunk = 64 * W;  // floats summed in float32

  int64_t floats() const { return sparse_ ? n_ * padded_ : round_up(n_, kPanel) * dim_; }

  // Row i of x: W features from d on of the gradient of value j + i.
  void square(int64_t j, int64_t d, Vec (&x)[W]) const {
    if (sparse_) {
      for (int64_t i = 0; i < W; ++i) x[i] = j + i < n_ ? V::load(dv_ + (j + i) * padded_ + d) : V::zero();
      return;
    }
    const float* panel = dv_ + (j / kPanel) * kPanel * dim_ + j % kPanel;
    for (int64_t i = 0; i < W; ++i) x[i] = d + i < dim_ ? V::load(panel + (d + i) * kPanel) : V::zero();
    P::transpose(x);
  }

  int64_t dim_, padded_, n_ = 0;
  bool sparse_ = false;
  float *v_, *dv_, *max_abs_value_;
  PairLists lists_;
};

}  // namespace
}  // namespace inhibitor
