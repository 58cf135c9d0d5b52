// An exported encoder in a C++ program without Python: token ids in, the mean of the last hidden states out.
//
//     inhibit export quickstart compiled --runtime aotinductor
//     TORCH=$(python -c "import torch; print(torch.__path__[0])")
//     LIBRARY=$(python -c "from inhibitor_transformers.deploy.runtimes import torch_operator as t; print(t.shared_library())")
//     g++ -std=c++20 -O2 -I$TORCH/include -I$TORCH/include/torch/csrc/api/include examples/aotinductor.cpp -o encode \
//         -L$TORCH/lib -ltorch -ltorch_cpu -lc10 -Wl,-rpath,$TORCH/lib
//     ./encode compiled/model.aoti.pt2 $LIBRARY 101 7592 2088 102
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/torch.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

int main(int count, char** arguments) try {
  if (count < 4) {
    std::fprintf(stderr, "encode MODEL.aoti.pt2 LIBRARY ID...\n");
    return 1;
  }
  // Compiled code checks dtypes and shapes of its inputs only where this is set, before its first call.
  setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", 1);
  if (!dlopen(arguments[2], RTLD_NOW)) {  // registers inhibitor::InhibitorAttention
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  const torch::InferenceMode inference;
  torch::inductor::AOTIModelPackageLoader model(arguments[1]);
  std::vector<int64_t> ids;
  for (int i = 3; i < count; ++i) ids.push_back(std::atoll(arguments[i]));
  const torch::Tensor tokens = torch::tensor(ids, torch::kInt64).unsqueeze(0);
  // In the order of the model's arguments; a model with segments takes token_type_ids as well.
  const torch::Tensor hidden = model.run({tokens, torch::ones_like(tokens)})[0];
  const torch::Tensor mean = hidden.mean(1).contiguous();
  for (int64_t i = 0; i < mean.numel(); ++i) std::printf("%.7g\n", mean.data_ptr<float>()[i]);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
