// The C interface under the names that the kernels use.
#pragma once
#include <cstdint>

#include "inhibitor.h"

namespace inhibitor {

using Tensor4 = InhibitorTensor4;
using PerHead = InhibitorPerHead;
using IntegerCall = InhibitorIntegerCall;

constexpr int64_t kNone = INHIBITOR_CENTER_NONE, kMean = INHIBITOR_CENTER_MEAN, kLeast = INHIBITOR_CENTER_MIN;

}  // namespace inhibitor
