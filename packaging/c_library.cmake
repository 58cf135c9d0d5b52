# libinhibitor from the objects of _cpu_kernels, inhibitor.h and inhibitor.pc: the install component `c`.
include(GNUInstallDirs)
file(STRINGS csrc/inhibitor.h ABI REGEX "define INHIBITOR_ABI_VERSION")
string(REGEX MATCH "[0-9]+$" ABI "${ABI}")
file(STRINGS pyproject.toml VERSION REGEX "^version = " LIMIT_COUNT 1)
string(REGEX REPLACE "^version = \"(.*)\"$" "\\1" VERSION "${VERSION}")

add_library(inhibitor SHARED $<TARGET_OBJECTS:_cpu_kernels>)
set_target_properties(inhibitor PROPERTIES LINKER_LANGUAGE CXX VERSION ${ABI} SOVERSION ${ABI})
install(TARGETS inhibitor COMPONENT c)
install(FILES csrc/inhibitor.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT c)

# Relative to itself, by pkg-config's variable: whoever packs or moves the folder needs to change nothing.
file(RELATIVE_PATH PREFIX_FROM_PC "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(packaging/inhibitor.pc.in inhibitor.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/inhibitor.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT c)
