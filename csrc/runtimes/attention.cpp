#include "attention.h"

#include <cmath>

namespace inhibitor {
namespace runtimes {
namespace {

std::string text(const Shape& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + ")";
}

int64_t kv_heads(const Attributes& a) { return a.kv_num_heads > 0 ? a.kv_num_heads : a.num_heads; }

// One number, or one per head.
std::string check_scalar(const char* name, const Array<const float>& x, int64_t heads) {
  const bool one = x.shape.empty() || (x.shape.size() == 1 && x.shape[0] == 1);
  if (x.data && (one || (x.shape.size() == 1 && x.shape[0] == heads))) return "";
  return std::string(name) + " must hold 1 or " + std::to_string(heads) + " numbers, got shape " + text(x.shape);
}

InhibitorPerHead per_head(const Array<const float>& x) {
  return {x.data, !x.shape.empty() && x.shape[0] > 1 ? int64_t{1} : int64_t{0}};
}

// (B, N, heads·size) as (B, heads, N, size).
InhibitorTensor4 heads_of(const void* data, int64_t length, int64_t heads, int64_t size) {
  return {const_cast<void*>(data), {length * heads * size, size, heads * size}};
}

std::string check_others(const AttentionInputs& in, int64_t heads) {
  const int64_t batch = in.query.shape[0], queries = in.query.shape[1], keys = in.key.shape[1];
  if (in.key_padding_mask.data && in.key_padding_mask.shape != Shape{batch, keys})
    return "key_padding_mask must be " + text({batch, keys}) + ", got " + text(in.key_padding_mask.shape);
  const Shape &bias = in.score_bias.shape, own{heads, queries, keys}, shared{1, queries, keys};
  if (in.score_bias.data && bias != own && bias != shared)
    return "score_bias must be " + text(own) + " or " + text(shared) + ", got " + text(bias);
  for (const auto& [name, x] : {std::pair<const char*, const Array<const float>&>{"gamma", in.gamma},
                                {"eta", in.eta},
                                {"delta", in.delta},
                                {"length_exponent", in.length_exponent}})
    if (std::string wrong = check_scalar(name, x, heads); !wrong.empty()) return wrong;
  return "";
}

}  // namespace

std::string check(const Attributes& a) {
  if (a.num_heads < 1) return "num_heads must be at least 1, got " + std::to_string(a.num_heads);
  if (a.kv_num_heads < 0 || a.num_heads % kv_heads(a))
    return "num_heads (" + std::to_string(a.num_heads) + ") must be a multiple of kv_num_heads (" +
           std::to_string(a.kv_num_heads) + ")";
  if (!(a.length_reference > 0.0) || !std::isfinite(a.length_reference))
    return "length_reference must be positive and finite, got " + std::to_string(a.length_reference);
  if (a.center != "mean" && a.center != "none") return "center must be mean or none, got " + a.center;
  return "";
}

Shape output_shape(const Attributes& a, const Shape& query, const Shape& key, const Shape& value, std::string& error) {
  const int64_t kv = kv_heads(a);
  const auto shapes = [&] { return "query " + text(query) + ", key " + text(key) + ", value " + text(value); };
  if (query.size() != 3 || key.size() != 3 || value.size() != 3)
    error = "query, key and value must have 3 dimensions (batch, length, heads * size), got " + shapes();
  else if (query[0] != key[0] || query[0] != value[0] || key[1] != value[1])
    error = "query, key and value must have one batch size, key and value one length, got " + shapes();
  else if (query[2] < a.num_heads || query[2] % a.num_heads || key[2] % kv || value[2] % kv ||
           query[2] / a.num_heads != key[2] / kv)
    error = "query must have " + std::to_string(a.num_heads) + " heads, key and value " + std::to_string(kv) +
            ", and query and key heads of one size, got " + shapes();
  if (!error.empty()) return {};
  return {query[0], query[1], value[2] / kv * a.num_heads};
}

std::string attention(const Attributes& a, const AttentionInputs& in, void* output, const Threads& threads) {
  std::string error = check(a);
  if (error.empty()) output_shape(a, in.query.shape, in.key.shape, in.value.shape, error);
  if (error.empty()) error = check_others(in, a.num_heads);
  if (!error.empty()) return error;

  InhibitorCall call = {};
  call.batch = in.query.shape[0];
  call.heads = a.num_heads;
  call.kv_heads = kv_heads(a);
  call.queries = in.query.shape[1];
  call.keys = in.key.shape[1];
  call.dim = in.query.shape[2] / call.heads;
  call.value_dim = in.value.shape[2] / call.kv_heads;
  call.query = heads_of(in.query.data, call.queries, call.heads, call.dim);
  call.key = heads_of(in.key.data, call.keys, call.kv_heads, call.dim);
  call.value = heads_of(in.value.data, call.keys, call.kv_heads, call.value_dim);
  call.gamma = per_head(in.gamma);
  call.eta = per_head(in.eta);
  call.delta = per_head(in.delta);
  call.length_exponent = per_head(in.length_exponent);
  call.length_reference = a.length_reference;
  if (in.score_bias.data) {
    call.score_bias = in.score_bias.data;
    call.score_bias_stride[0] = in.score_bias.shape[0] > 1 ? call.queries * call.keys : 0;
    call.score_bias_stride[1] = call.keys;
  }
  if (in.key_padding_mask.data) {
    call.key_mask = in.key_padding_mask.data;
    call.key_mask_stride[0] = call.keys;
    call.key_mask_stride[1] = 1;
  }
  call.is_causal = a.is_causal;
  call.is_signed = a.is_signed;
  call.center = a.center == "mean" ? INHIBITOR_CENTER_MEAN : INHIBITOR_CENTER_NONE;
  call.dtype = in.dtype;
  call.threads = threads.count;
  call.parallel = threads.parallel;
  call.pool = threads.pool;
  call.out = heads_of(output, call.queries, call.heads, call.value_dim);
  return inhibitor_forward(&call) == INHIBITOR_OK ? "" : "no memory for the scratch of one thread";
}

}  // namespace runtimes
}  // namespace inhibitor
