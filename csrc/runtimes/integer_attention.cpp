#include "integer_attention.h"

#include "shapes.h"

namespace inhibitor {
namespace runtimes {
namespace {

// The bounds that keep every intermediate result exact (attention/integer/qparams.py).
constexpr int64_t kMostDistance = int64_t{1} << 29, kMostDelta = int64_t{1} << 30;
constexpr int64_t kLeastShift = -15, kMostShift = 22, kMostOutputShift = 46;

// Sizes of one call of either operator; `features` are those of a head of queries and keys as they were split.
struct Sizes {
  int64_t batch, heads, kv_heads, queries, keys, features, value_dim;
  bool packed;
};

std::string check_range(const char* name, const Array<const int32_t>& x, int64_t least, int64_t most) {
  for (int64_t h = 0; h < x.shape[0]; ++h)
    if (x.data[h] < least || x.data[h] > most)
      return std::string(name) + " must lie in [" + std::to_string(least) + ", " + std::to_string(most) + "], got " +
             std::to_string(x.data[h]) + " for head " + std::to_string(h);
  return "";
}

std::string check_scores(const ScoreParams& p, int64_t heads) {
  std::string wrong = check_shape("sign", p.sign, {heads});
  if (wrong.empty()) wrong = check_shape("delta", p.delta, {heads});
  if (wrong.empty()) wrong = check_shape("shift", p.shift, {heads});
  if (wrong.empty()) wrong = check_range("sign", p.sign, -1, 1);
  if (wrong.empty()) wrong = check_range("delta", p.delta, -kMostDelta, kMostDelta);
  if (wrong.empty()) wrong = check_range("shift", p.shift, kLeastShift, kMostShift);
  return wrong;
}

// A table (H, > Nk), which has a column for each number of visible keys.
template <class T>
std::string check_table(const char* name, const Array<T>& x, int64_t heads, int64_t keys) {
  if (x.shape.size() != 2 || x.shape[0] != heads)
    return std::string(name) + " must be (" + std::to_string(heads) + ", keys + 1), got " + text(x.shape);
  if (x.shape[1] > keys) return "";
  return std::string(name) + " was made for at most " + std::to_string(x.shape[1] - 1) + " keys, got " +
         std::to_string(keys);
}

// Distances and sums stay within the bounds.
std::string check_sums(const IntegerAttributes& a, const Sizes& s) {
  const std::string of_bits = " of " + std::to_string(a.bits) + " bits";
  const int64_t qmax = (int64_t{1} << a.bits) - 1, value_qmax = (int64_t{1} << (a.bits - 1)) - 1;
  if (s.features * qmax > kMostDistance) return "too many features: " + std::to_string(s.features) + of_bits;
  if (s.keys > INT32_MAX / value_qmax) return "too many keys: " + std::to_string(s.keys) + of_bits;
  return "";
}

Sizes packed_sizes(const IntegerAttributes& a, const Shape& packed, std::string& error) {
  const int64_t kv = kv_heads(a), width = packed.size() == 3 ? packed[2] : 0;
  const bool fits = a.head_size > 0 && a.num_heads + kv <= width / a.head_size;
  const int64_t rest = fits ? width - (a.num_heads + kv) * a.head_size : 0;
  if (a.head_size < 1)
    error = "head_size must be given where query holds queries, keys and values";
  else if (rest < kv || rest % kv)
    error = "query must be (batch, length, " + std::to_string(a.num_heads + kv) + " heads of " +
            std::to_string(a.head_size) + " and " + std::to_string(kv) + " heads of values), got " + text(packed);
  if (!error.empty()) return {};
  return {packed[0], a.num_heads, kv, packed[1], packed[1], a.head_size, rest / kv, true};
}

Sizes qlinear_sizes(const IntegerAttributes& a, const Shape& query, const Shape& key, const Shape& value,
                    std::string& error) {
  if (key.empty() && value.empty()) return packed_sizes(a, query, error);
  const Shape out = output_shape(a, query, key, value, error);
  if (!error.empty()) return {};
  return {query[0], a.num_heads, kv_heads(a), query[1], key[1], query[2] / a.num_heads, out[2] / a.num_heads, false};
}

// The members of a call that both operators have in common.
InhibitorIntegerCall common_call(const IntegerAttributes& a, const Sizes& s, int64_t dim, const ScoreParams& scores,
                                 const Array<const uint8_t>& mask, const Threads& threads) {
  InhibitorIntegerCall c = {};
  c.call.batch = s.batch;
  c.call.heads = s.heads;
  c.call.kv_heads = s.kv_heads;
  c.call.queries = s.queries;
  c.call.keys = s.keys;
  c.call.dim = dim;
  c.call.value_dim = s.value_dim;
  set_options(a, mask, threads, c.call);
  c.bits = a.bits;
  c.sign = scores.sign.data;
  c.delta = scores.delta.data;
  c.shift = scores.shift.data;
  c.extra = s.features - dim;
  return c;
}

// Heads of `size` bytes, in rows of `row`.
template <class Byte>
void set_heads(Byte* data, int64_t length, int64_t size, int64_t row, Byte*& levels, int64_t (&stride)[3]) {
  levels = data;
  stride[0] = length * row;
  stride[1] = size;
  stride[2] = row;
}

void set_levels(const Sizes& s, const QLinearInputs& in, InhibitorIntegerCall& c) {
  const int64_t of_queries = s.heads * s.features, of_keys = s.kv_heads * s.features;
  const int64_t of_values = s.kv_heads * s.value_dim, all = of_queries + of_keys + of_values;
  const uint8_t* key = s.packed ? in.query.data + of_queries : in.key.data;
  const uint8_t* value = s.packed ? in.query.data + of_queries + of_keys : in.value.data;
  set_heads(in.query.data, s.queries, s.features, s.packed ? all : of_queries, c.query_levels, c.query_levels_stride);
  set_heads(key, s.keys, s.features, s.packed ? all : of_keys, c.key_levels, c.key_levels_stride);
  set_heads(value, s.keys, s.value_dim, s.packed ? all : of_values, c.value_levels, c.value_levels_stride);
}

std::string status(int64_t code) { return code == INHIBITOR_OK ? "" : kNoMemory; }

}  // namespace

std::string check_integer(const IntegerAttributes& a) {
  if (std::string wrong = check(a); !wrong.empty()) return wrong;
  if ((a.bits < 3 || a.bits > 8 || a.bits == 7) && a.bits != 16)
    return "bits must be 3, 4, 5, 6, 8 or 16, got " + std::to_string(a.bits);
  for (const int64_t zero : {a.value_zero_point, a.output_zero_point})
    if (zero < 0 || zero > 255) return "zero points must lie in [0, 255], got " + std::to_string(zero);
  return "";
}

Shape qlinear_output_shape(const IntegerAttributes& a, const Shape& query, const Shape& key, const Shape& value,
                           std::string& error) {
  const Sizes s = qlinear_sizes(a, query, key, value, error);
  return error.empty() ? Shape{s.batch, s.queries, s.heads * s.value_dim} : Shape{};
}

std::string integer_attention(const IntegerAttributes& a, const IntegerInputs& in, float* output,
                              const Threads& threads) {
  std::string wrong = check_integer(a);
  if (wrong.empty()) output_shape(a, in.query.shape, in.key.shape, in.value.shape, wrong);
  if (!wrong.empty()) return wrong;
  const int64_t kv = kv_heads(a), dim = in.query.shape[2] / a.num_heads;
  const int64_t extra = in.source.shape.size() == 2 ? in.source.shape[1] : 0;
  const Sizes s{in.query.shape[0], a.num_heads, kv, in.query.shape[1], in.key.shape[1], dim + extra,
                in.value.shape[2] / kv, false};
  wrong = check_mask(in.key_padding_mask, s.batch, s.keys);
  if (wrong.empty()) wrong = check_shape("source", in.source, {kv, extra});
  if (wrong.empty()) wrong = check_shape("offset", in.offset, {kv, s.features});
  if (wrong.empty()) wrong = check_shape("inverse_step", in.inverse_step, {kv});
  if (wrong.empty()) wrong = check_shape("value_inverse_step", in.value_inverse_step, {s.heads});
  if (wrong.empty()) wrong = check_scores(in.scores, s.heads);
  if (wrong.empty()) wrong = check_table("factors", in.factors, s.heads, s.keys);
  if (wrong.empty()) wrong = check_sums(a, s);
  for (int64_t i = 0; wrong.empty() && i < kv * extra; ++i)
    if (in.source.data[i] < 0 || in.source.data[i] >= dim) wrong = "source must name features below " + std::to_string(dim);
  if (!wrong.empty()) return wrong;

  InhibitorIntegerCall c = common_call(a, s, dim, in.scores, in.key_padding_mask, threads);
  c.call.query = heads_of(in.query.data, s.queries, s.heads, dim);
  c.call.key = heads_of(in.key.data, s.keys, kv, dim);
  c.call.value = heads_of(in.value.data, s.keys, kv, s.value_dim);
  c.call.out = heads_of(output, s.queries, s.heads, s.value_dim);
  c.offset = in.offset.data;
  c.source = in.source.data;
  c.inverse_step = in.inverse_step.data;
  c.value_inverse_step = in.value_inverse_step.data;
  c.factors = in.factors.data;
  c.factor_stride = in.factors.shape[1];
  return status(inhibitor_integer_forward(&c));
}

std::string qlinear_attention(const IntegerAttributes& a, const QLinearInputs& in, uint8_t* output,
                              const Threads& threads) {
  std::string wrong = check_integer(a);
  if (wrong.empty() && a.bits > 8) wrong = "bytes hold at most 8 bits, got " + std::to_string(a.bits);
  if (!wrong.empty()) return wrong;
  const Sizes s = qlinear_sizes(a, in.query.shape, in.key.shape, in.value.shape, wrong);
  if (wrong.empty()) wrong = check_mask(in.key_padding_mask, s.batch, s.keys);
  if (wrong.empty()) wrong = check_scores(in.scores, s.heads);
  if (wrong.empty()) wrong = check_table("multiplier", in.multiplier, s.heads, s.keys);
  if (wrong.empty()) wrong = check_shape("output_shift", in.output_shift, {s.heads});
  if (wrong.empty()) wrong = check_range("output_shift", in.output_shift, 0, kMostOutputShift);
  if (wrong.empty()) wrong = check_sums(a, s);
  if (!wrong.empty()) return wrong;

  InhibitorIntegerCall c = common_call(a, s, s.features, in.scores, in.key_padding_mask, threads);
  set_levels(s, in, c);
  c.value_zero = a.value_zero_point;
  c.output_multiplier = in.multiplier.data;
  c.output_multiplier_stride = in.multiplier.shape[1];
  c.output_shift = in.output_shift.data;
  c.output_zero = a.output_zero_point;
  c.output_qmax = 255;
  set_heads(output, s.queries, s.value_dim, s.heads * s.value_dim, c.levels, c.levels_stride);
  return status(inhibitor_integer_forward(&c));
}

}  // namespace runtimes
}  // namespace inhibitor
