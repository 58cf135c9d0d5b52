// What is used of torch's stable C interface (torch 2.13 and newer), declared here so that building needs no torch.
// The tests compile these declarations together with torch's own (torch/csrc/stable/c/shim.h), where a conflict is an
// error.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {

struct AtenTensorOpaque;
class TorchLibraryOpaque;
struct StringOpaque;
using AtenTensorHandle = AtenTensorOpaque*;
using TorchLibraryHandle = TorchLibraryOpaque*;
using StringHandle = StringOpaque*;
using AOTITorchError = int32_t;  // 0: done
// An argument of an operator: a number in its first bytes, or a pointer that the operator owns. Optional: null, or a
// pointer to one, for `torch_delete_stable_ivalue`.
using StableIValue = uint64_t;
typedef void (*ParallelFunc)(int64_t begin, int64_t end, void* context);

// F(type, name, parameters) of every function.
#define INHIBITOR_TORCH_FUNCTIONS(F)                                                                                   \
  F(AOTITorchError, aoti_torch_library_init_fragment,                                                                  \
    (const char* name_space, const char* file, uint32_t line, TorchLibraryHandle* library))                            \
  F(AOTITorchError, aoti_torch_library_def, (TorchLibraryHandle library, const char* schema))                          \
  F(AOTITorchError, aoti_torch_library_init_impl,                                                                      \
    (const char* name_space, const char* key, const char* file, uint32_t line, TorchLibraryHandle* library))           \
  F(AOTITorchError, torch_library_impl,                                                                                \
    (TorchLibraryHandle library, const char* name, void (*kernel)(StableIValue*, uint64_t, uint64_t),                  \
     uint64_t version))                                                                                                \
  F(AOTITorchError, aoti_torch_delete_library_object, (TorchLibraryHandle library))                                    \
  F(void, aoti_torch_check,                                                                                            \
    (bool condition, const char* function, const char* file, uint32_t line, const char* message))                      \
  F(const char*, torch_exception_get_what_without_backtrace, ())                                                       \
  F(int32_t, aoti_torch_dtype_float32, ())                                                                             \
  F(int32_t, aoti_torch_dtype_float16, ())                                                                             \
  F(int32_t, aoti_torch_dtype_bfloat16, ())                                                                            \
  F(int32_t, aoti_torch_dtype_bool, ())                                                                                \
  F(int32_t, aoti_torch_device_type_cpu, ())                                                                           \
  F(AOTITorchError, aoti_torch_get_dtype, (AtenTensorHandle tensor, int32_t* dtype))                                   \
  F(AOTITorchError, aoti_torch_get_dim, (AtenTensorHandle tensor, int64_t* dimensions))                                \
  F(AOTITorchError, aoti_torch_get_sizes, (AtenTensorHandle tensor, int64_t** borrowed))                               \
  F(AOTITorchError, aoti_torch_is_contiguous, (AtenTensorHandle tensor, bool* is_contiguous))                          \
  F(AOTITorchError, torch_get_const_data_ptr, (AtenTensorHandle tensor, const void** borrowed))                        \
  F(AOTITorchError, torch_get_mutable_data_ptr, (AtenTensorHandle tensor, void** borrowed))                            \
  F(AOTITorchError, aoti_torch_empty_strided,                                                                          \
    (int64_t dimensions, const int64_t* sizes, const int64_t* strides, int32_t dtype, int32_t device_type,             \
     int32_t device_index, AtenTensorHandle* owned))                                                                   \
  F(AOTITorchError, aoti_torch_copy_, (AtenTensorHandle self, AtenTensorHandle source, int32_t non_blocking))          \
  F(AOTITorchError, aoti_torch_delete_tensor_object, (AtenTensorHandle tensor))                                        \
  F(AOTITorchError, torch_delete_stable_ivalue, (StableIValue * value))                                                \
  F(AOTITorchError, torch_string_length, (StringHandle string, size_t* length))                                        \
  F(AOTITorchError, torch_string_c_str, (StringHandle string, const char** borrowed))                                  \
  F(AOTITorchError, torch_delete_string, (StringHandle string))                                                        \
  F(AOTITorchError, torch_get_num_threads, (uint32_t * threads))                                                       \
  F(AOTITorchError, torch_parallel_for,                                                                                \
    (int64_t begin, int64_t end, int64_t grain_size, ParallelFunc work, void* context))

#define INHIBITOR_TORCH_DECLARE(type, name, parameters) type name parameters;
INHIBITOR_TORCH_FUNCTIONS(INHIBITOR_TORCH_DECLARE)
#undef INHIBITOR_TORCH_DECLARE
}
