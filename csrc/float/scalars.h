// The four scalars of one head.
#pragma once
#include <cmath>

#include "../abi.h"

namespace inhibitor {
namespace {

struct HeadScalars {
  HeadScalars(const InhibitorCall& c, int64_t h)
      : gamma(c.gamma.data[h * c.gamma.stride]),
        eta(c.eta.data[h * c.eta.stride]),
        delta(c.delta.data[h * c.delta.stride]),
        length_exponent(c.length_exponent.data[h * c.length_exponent.stride]),
        scale(gamma / std::sqrt(static_cast<float>(c.dim))),
        length_reference(c.length_reference) {}

  // log(n0 / n); 0 for a row without keys, whose sums are empty anyway.
  double log_length(int64_t n) const { return n > 0 ? ::log(length_reference / static_cast<double>(n)) : 0.0; }
  // (n0 / n)^rho
  float length(int64_t n) const {
    return static_cast<float>(::exp(static_cast<double>(length_exponent) * log_length(n)));
  }

  float gamma, eta, delta, length_exponent;
  float scale;  // gamma / sqrt(D)
  double length_reference;
};

}  // namespace
}  // namespace inhibitor
