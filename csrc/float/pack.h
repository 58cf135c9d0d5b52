// Copies the valid keys and values of one head into the layouts that the kernels read.
#pragma once
#include "../masks.h"
#include "bfloat16.h"
#include "layout.h"

namespace inhibitor {
namespace {

template <class V>
struct Pack {
  using Vec = typename V::Vec;
  static constexpr int W = V::kWidth;
  static constexpr int kPanel = Sizes<V>::kPanel;
  using B = Bfloat16Vec<V>;

  // Positions of the valid keys of batch row b, in order; returns their count.
  static int64_t valid_keys(const InhibitorCall& c, int64_t b, int32_t* index) {
    int64_t n = 0;
    for (int64_t j = 0; j < c.keys; ++j) {
      const bool valid = !c.key_mask || c.key_mask[b * c.key_mask_stride[0] + j * c.key_mask_stride[1]];
      index[n] = static_cast<int32_t>(j);
      n += valid;
    }
    return n;
  }

  // Of a tensor of elements T.
  template <class T = float>
  static T* head(const Tensor4& t, int64_t b, int64_t h) {
    return static_cast<T*>(t.data) + b * t.stride[0] + h * t.stride[1];
  }

  static int64_t count_valid(const InhibitorCall& c, int64_t b) {
    if (!c.key_mask) return c.keys;
    int64_t n = 0;
    for (int64_t j = 0; j < c.keys; ++j) n += c.key_mask[b * c.key_mask_stride[0] + j * c.key_mask_stride[1]] != 0;
    return n;
  }

  static Vec load_upto(const float* p, int64_t n) { return n >= W ? V::load(p) : V::load_first(p, static_cast<int>(n)); }
  static Vec load_upto(const Bfloat16* p, int64_t n) { return n >= W ? B::load(p) : B::load_first(p, n); }
  static void store_upto(float* p, Vec x, int64_t n) {
    if (n >= W)
      V::store(p, x);
    else
      V::store_first(p, x, static_cast<int>(n));
  }
  static void store_upto(Bfloat16* p, Vec x, int64_t n) { B::store_upto(p, x, n); }

  // In what follows row j of `rows` is number index[j], with a null index number j.
  template <class T>
  static const T* row(const T* rows, int64_t stride, const int32_t* index, int64_t j) {
    return rows + (index ? index[j] : j) * stride;
  }

  // out[d] = mean over n rows of rows[.][d]; padded with zeros to whole vectors.
  template <class T>
  static void column_mean(const T* rows, int64_t stride, const int32_t* index, int64_t n, int64_t dim, float* out) {
    const Vec scale = V::set(1.0f / static_cast<float>(n > 0 ? n : 1));
    for (int64_t d = 0; d < dim; d += W) {
      Vec even = V::zero(), odd = V::zero();
      int64_t j = 0;
      for (; j + 1 < n; j += 2) {
        even = V::add(even, load_upto(row(rows, stride, index, j) + d, dim - d));
        odd = V::add(odd, load_upto(row(rows, stride, index, j + 1) + d, dim - d));
      }
      if (j < n) even = V::add(even, load_upto(row(rows, stride, index, j) + d, dim - d));
      V::store(out + d, V::mul(V::add(even, odd), scale));
    }
  }

  // What is taken off keys and queries for the digits that a common offset would cost: the mean of all keys or, where
  // rows see a prefix of them, the first key. A row must not be touched by a key that it does not see.
  template <class T>
  static void common_shift(Sight sight, const T* k, int64_t stride, const int32_t* index, int64_t n, int64_t dim,
                           float* out) {
    column_mean(k, stride, index, sight == Sight::kPrefix && n > 1 ? 1 : n, dim, out);
  }

  // Transposes a square of W vectors in place: log2(W) perfect shuffles.
  static void transpose(Vec (&x)[W]) {
    for (int step = 1; step < W; step *= 2) {
      Vec y[W];
      for (int i = 0; i < W / 2; ++i) {
        y[2 * i] = V::zip_low(x[i], x[i + W / 2]);
        y[2 * i + 1] = V::zip_high(x[i], x[i + W / 2]);
      }
      for (int i = 0; i < W; ++i) x[i] = y[i];
    }
  }

  // Row j of `rows` goes to lane j % Panel of panel j / Panel: out[panel][d][lane] = rows[j][d] - shift[d].
  // Lanes past n hold -shift or 0; `shift` may be null.
  template <int Panel = kPanel, class T>
  static void transposed_panels(const T* rows, int64_t stride, const int32_t* index, int64_t n, int64_t dim,
                                const float* shift, float* out) {
    for (int64_t j = 0; j < n; j += W) {
      float* panel = out + (j / Panel) * Panel * dim + j % Panel;
      for (int64_t d = 0; d < dim; d += W) {
        const Vec offset = shift ? V::load(shift + d) : V::zero();
        Vec x[W];
        for (int i = 0; i < W; ++i) {
          const Vec from = j + i < n ? load_upto(row(rows, stride, index, j + i) + d, dim - d) : V::zero();
          x[i] = V::sub(from, offset);
        }
        transpose(x);
        for (int64_t i = 0; i < W && d + i < dim; ++i) V::store(panel + (d + i) * Panel, x[i]);
      }
    }
  }

  // out[j] = sum over d of panels[.][d][j].
  static void panel_sums(const float* panels, int64_t n, int64_t dim, float* out) {
    for (int64_t j = 0; j < n; j += W) {
      const float* panel = panels + (j / kPanel) * kPanel * dim + j % kPanel;
      Vec even = V::zero(), odd = V::zero();
      int64_t d = 0;
      for (; d + 1 < dim; d += 2) {
        even = V::add(even, V::load(panel + d * kPanel));
        odd = V::add(odd, V::load(panel + (d + 1) * kPanel));
      }
      if (d < dim) even = V::add(even, V::load(panel + d * kPanel));
      V::store(out + j, V::add(even, odd));
    }
  }

  // out[j] = sum over d of |rows[j][d]|.
  template <class T>
  static void abs_sums(const T* rows, int64_t stride, const int32_t* index, int64_t n, int64_t dim, float* out) {
    for (int64_t j = 0; j < n; ++j) {
      Vec sum = V::zero();
      for (int64_t d = 0; d < dim; d += W) sum = V::add(sum, V::abs(load_upto(row(rows, stride, index, j) + d, dim - d)));
      out[j] = V::sum(sum);
    }
  }

  // out[j][0..padded) = scale * (rows[j] - shift), zeros past `dim`; never -0.
  template <class T>
  static void rows(const T* rows, int64_t stride, const int32_t* index, int64_t n, int64_t dim, int64_t padded,
                   const float* shift, float scale, float* out) {
    const Vec factor = V::set(scale);
    for (int64_t j = 0; j < n; ++j) {
      const T* from = row(rows, stride, index, j);
      for (int64_t d = 0; d < padded; d += W) {
        const Vec offset = shift ? V::load(shift + d) : V::zero();
        V::store(out + j * padded + d, V::fma(V::sub(load_upto(from + d, dim - d), offset), factor, V::zero()));
      }
    }
  }

  // A row of results; of NaN altogether where one of its scores was NaN.
  template <class T>
  static void write_row(const float* row, int64_t dim, bool is_nan, T* out) {
    const Vec nan = V::set(__builtin_nanf(""));
    for (int64_t d = 0; d < dim; d += W) store_upto(out + d, is_nan ? nan : V::load(row + d), dim - d);
  }

  static float row_sum(const float* x, int64_t padded) {
    Vec sum = V::zero();
    for (int64_t d = 0; d < padded; d += W) sum = V::add(sum, V::load(x + d));
    return V::sum(sum);
  }

  static float dot(const float* a, const float* b, int64_t n) {
    Vec sum = V::zero();
    for (int64_t d = 0; d < n; d += W) sum = V::fma(load_upto(a + d, n - d), load_upto(b + d, n - d), sum);
    return V::sum(sum);
  }

  // out[d] = sum over j of rows[j][d].
  static void column_sum(const float* rows, int64_t n, int64_t padded, float* out) {
    for (int64_t d = 0; d < padded; d += W) {
      Vec sum = V::zero();
      for (int64_t j = 0; j < n; ++j) sum = V::add(sum, V::load(rows + j * padded + d));
      V::store(out + d, sum);
    }
  }

  // out[j] = the score from which on value j contributes nothing: max |v| (signed) or max v; never NaN.
  static void max_abs_values(const float* rows, int64_t n, int64_t padded, bool is_signed, float* out) {
    for (int64_t j = 0; j < n; ++j) {
      Vec most = V::zero();
      bool nan = false;
      for (int64_t d = 0; d < padded; d += W) {
        const Vec v = V::load(rows + j * padded + d);
        most = V::max(most, is_signed ? V::abs(v) : v);
        nan |= V::bits(V::is_nan(v)) != 0;
      }
      out[j] = nan ? __builtin_inff() : V::largest(most);
    }
    for (int64_t j = n; j < round_up(n, W); ++j) out[j] = 0.0f;
  }

  // The same of transposed panels.
  template <int Panel>
  static void panel_max_abs_values(const float* panels, int64_t n, int64_t dim, bool is_signed, float* out) {
    const Vec infinity = V::set(__builtin_inff());
    for (int64_t j = 0; j < n; j += W) {
      Vec most = V::zero();
      for (int64_t d = 0; d < dim; ++d) {
        const Vec v = V::load(panels + (j / Panel) * Panel * dim + j % Panel + d * Panel);
        most = V::max(most, V::select(V::is_nan(v), infinity, is_signed ? V::abs(v) : v));
      }
      V::store(out + j, most);
    }
  }

  // The largest finite magnitude among n floats, whole vectors.
  static float largest(const float* x, int64_t n) {
    const Vec limit = V::set(3.0e38f);
    Vec most = V::zero();
    for (int64_t i = 0; i < n; i += W) {
      const Vec size = V::abs(V::load(x + i));
      most = V::max(most, V::select(V::gt(limit, size), size, V::zero()));
    }
    return V::largest(most);
  }

  static void scale(float* x, int64_t n, float factor) {
    for (int64_t i = 0; i < n; i += W) V::store(x + i, V::mul(V::load(x + i), V::set(factor)));
  }
};

}  // namespace
}  // namespace inhibitor
