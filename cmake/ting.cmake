# How every target of the project is made: one static library a folder of src/, one test program a folder of tests/.

add_library(ting_flags INTERFACE)
target_compile_options(ting_flags INTERFACE -Wall -Wextra -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(ting_flags INTERFACE -Wno-restrict)  # false alarms on std::string in GCC 12 (its bug 105651)
endif()
if(TING_WERROR)
  target_compile_options(ting_flags INTERFACE -Werror)
endif()
if(TING_SANITIZE)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(ting_flags INTERFACE -Wno-maybe-uninitialized)  # false alarms in instrumented <regex>
  endif()
  target_compile_options(ting_flags INTERFACE -fsanitize=${TING_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(ting_flags INTERFACE -fsanitize=${TING_SANITIZE})
endif()

# ting_library(NAME SOURCES a.cc … DEPS other libraries): the link list is the dependency rule of the folder.
function(ting_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${name} PUBLIC ${arg_DEPS} PRIVATE ting_flags)
  if(TING_UNITY)  # most of a small file's time goes into the headers; several batches, so that all cores have work
    set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 12)
  endif()
endfunction()

# ting_test(NAME SOURCES a_test.cc … DEPS libraries): a GoogleTest program, each case its own ctest test.
function(ting_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_DEPS} ting_test_support ting_flags)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 120 PROPERTIES TIMEOUT 1200)
endfunction()
