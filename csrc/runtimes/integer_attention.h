// The integer operators of every runtime (attention/integer/reference.py): their attributes, checks and calls.
//
// IntegerInhibitorAttention: query (B, Nq, H·D), key (B, Nk, Hkv·D), value (B, Nk, Hkv·Dv) in float32, quantized inside;
// output (B, Nq, H·Dv) in float32.
//
// QLinearInhibitorAttention: the same in bytes, with 8 bits at most. Query and key have F >= D features a head, as they
// were split; without key and value, query holds all three side by side, (B, N, H·F + Hkv·F + Hkv·Dv) with F =
// `head_size`. Output (B, Nq, H·Dv) in bytes.
#pragma once
#include "attention.h"

namespace inhibitor {
namespace runtimes {

struct IntegerAttributes : Attributes {
  int64_t bits = 8;
  int64_t head_size = 0;  // of packed queries, keys and values
  int64_t value_zero_point = 128, output_zero_point = 128;
};

// The numbers of QuantParams (attention/integer/qparams.py) that both operators take.
struct ScoreParams {
  Array<const int32_t> sign, delta, shift;  // (H,)
};

struct IntegerInputs {
  Array<const float> query, key, value;
  Array<const uint8_t> key_padding_mask;  // (B, Nk)
  Array<const float> offset;              // (Hkv, F)
  Array<const int32_t> source;            // (Hkv, F - D)
  Array<const float> inverse_step;        // (Hkv,)
  Array<const float> value_inverse_step;  // (H,)
  ScoreParams scores;
  Array<const float> factors;  // (H, > Nk): what a row with n visible keys is multiplied by
};

struct QLinearInputs {
  Array<const uint8_t> query, key, value;
  Array<const uint8_t> key_padding_mask;
  ScoreParams scores;
  Array<const int32_t> multiplier;    // (H, > Nk), as `factors`
  Array<const int32_t> output_shift;  // (H,)
};

// What is wrong with the attributes of either operator; empty: nothing.
std::string check_integer(const IntegerAttributes& attributes);

// The shape of the output of bytes; what is wrong with the shapes goes to `error`, empty: nothing. Without key and value
// their shapes are empty.
Shape qlinear_output_shape(const IntegerAttributes& attributes, const Shape& query, const Shape& key,
                           const Shape& value, std::string& error);

// Write `output`. Return what is wrong with the inputs; empty: nothing.
std::string integer_attention(const IntegerAttributes& attributes, const IntegerInputs& inputs, float* output,
                              const Threads& threads);
std::string qlinear_attention(const IntegerAttributes& attributes, const QLinearInputs& inputs, uint8_t* output,
                              const Threads& threads);

}  // namespace runtimes
}  // namespace inhibitor
