# Zig's linker makes no bundles, which CMake's modules are on macOS; a dynamic library is opened just as well.
set(CMAKE_SHARED_MODULE_CREATE_CXX_FLAGS -dynamiclib)
