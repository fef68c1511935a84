# What a build without third-party libraries (TING_MINIMAL) has in their place. Left out: checkpoints, engine files, audio
# files, writers, and all of the program but `ting bench --random-weights ARCHITECTURE --stages`.
if(TING_BUILD_BENCH OR TING_BUILD_FUZZERS)
  message(FATAL_ERROR "TING_MINIMAL has no micro-benchmarks and no fuzzers")
endif()

include(CheckCXXSourceCompiles)
check_cxx_source_compiles("#include <format>\nint main() { return std::format(\"{}\", 1).size() == 1 ? 0 : 1; }"
                          TING_HAS_STD_FORMAT)
if(TING_HAS_STD_FORMAT)
  add_library(fmt::fmt INTERFACE IMPORTED GLOBAL)  # by the name that the libraries link; src/base/format.h
  target_compile_definitions(fmt::fmt INTERFACE TING_STD_FORMAT)
else()
  find_package(fmt QUIET)
  if(NOT fmt_FOUND)
    message(FATAL_ERROR "TING_MINIMAL needs a compiler that has <format> (g++ 13 or later), or fmt")
  endif()
endif()
message(STATUS "Minimal build: no files are read; format is ${CMAKE_CXX_COMPILER_ID}'s own: ${TING_HAS_STD_FORMAT}")
