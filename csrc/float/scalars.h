// The scalars of one head.
#pragma once
#include <cmath>

#include "../abi.h"

namespace inhibitor {
namespace {

constexpr float kLeastPassed = 0.1f;  // LEAST_PASSED of Python: what is divided by at the least

struct HeadScalars {
  HeadScalars(const InhibitorCall& c, int64_t h)
      : gamma(c.gamma.data[h * c.gamma.stride]),
        eta(c.eta.data[h * c.eta.stride]),
        delta(c.delta.data[h * c.delta.stride]),
        length_exponent(c.length_exponent.data ? c.length_exponent.data[h * c.length_exponent.stride] : 0.0f),
        key_norm(c.key_norm.data ? c.key_norm.data[h * c.key_norm.stride] : 0.0f),
        is_normalized(c.unit.data != nullptr),
        signed_unit(is_normalized ? c.unit.data[h * c.unit.stride] : 1.0f),
        unit(std::fabs(signed_unit)),
        scale(gamma / std::sqrt(static_cast<float>(c.dim))),
        length_reference(c.length_reference) {}

  // log(n0 / n); 0 for a row without keys, whose sums are empty anyway.
  double log_length(int64_t n) const { return n > 0 ? ::log(length_reference / static_cast<double>(n)) : 0.0; }
  // (n0 / n)^rho
  float length(int64_t n) const {
    return static_cast<float>(::exp(static_cast<double>(length_exponent) * log_length(n)));
  }

  float gamma, eta, delta, length_exponent, key_norm;
  bool is_normalized;  // outputs are divided by how many keys pass, which scores count for less, from `unit` on for nothing
  float signed_unit, unit;
  float scale;  // gamma / sqrt(D)
  double length_reference;
};

}  // namespace
}  // namespace inhibitor
