# Zig's linker makes no bundles, which CMake's modules are on macOS; a dynamic library is opened just as well.
set(CMAKE_SHARED_MODULE_CREATE_CXX_FLAGS -dynamiclib)
# CMake asks the machine that builds for its version of macOS, and knows no @rpath where there is none.
set(CMAKE_SHARED_LIBRARY_RUNTIME_C_FLAG -Wl,-rpath,)
set(CMAKE_SHARED_LIBRARY_RUNTIME_CXX_FLAG -Wl,-rpath,)
