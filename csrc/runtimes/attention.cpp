#include "attention.h"

#include <cmath>

#include "shapes.h"

namespace inhibitor {
namespace runtimes {
namespace {

// One number, or one per head.
std::string check_scalar(const char* name, const Array<const float>& x, int64_t heads) {
  const bool one = x.shape.empty() || (x.shape.size() == 1 && x.shape[0] == 1);
  if (x.data && (one || (x.shape.size() == 1 && x.shape[0] == heads))) return "";
  return std::string(name) + " must hold 1 or " + std::to_string(heads) + " numbers, got shape " + text(x.shape);
}

InhibitorPerHead per_head(const Array<const float>& x) {
  return {x.data, !x.shape.empty() && x.shape[0] > 1 ? int64_t{1} : int64_t{0}};
}

std::string check_others(const AttentionInputs& in, int64_t heads) {
  const int64_t batch = in.query.shape[0], queries = in.query.shape[1], keys = in.key.shape[1];
  if (std::string wrong = check_mask(in.key_padding_mask, batch, keys); !wrong.empty()) return wrong;
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
  set_options(a, in.key_padding_mask, threads, call);
  call.dtype = in.dtype;
  call.out = heads_of(output, call.queries, call.heads, call.value_dim);
  return inhibitor_forward(&call) == INHIBITOR_OK ? "" : kNoMemory;
}

}  // namespace runtimes
}  // namespace inhibitor
