# Whether the CUDA backend is built (variable TING_WITH_CUDA), and how. It needs the toolkit's compiler and headers; no
# GPU, no driver, and at run time no library of the toolkit that is not loaded on demand.
set(TING_WITH_CUDA OFF)
if(TING_CUDA STREQUAL "AUTO" AND TING_SANITIZE)
  message(STATUS "CUDA: left out of a build with sanitizers (-DTING_CUDA=ON builds it)")
elseif(TING_CUDA)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(TING_NVCC nvcc PATHS /usr/local/cuda/bin)
    if(TING_NVCC)
      set(CMAKE_CUDA_COMPILER ${TING_NVCC})
    endif()
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(TING_WITH_CUDA ON)
  elseif(TING_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA: no nvcc found, the CUDA backend is left out")
  else()
    message(FATAL_ERROR "TING_CUDA is ON, but there is no nvcc; install the CUDA toolkit (12.4 or later) or set CMAKE_CUDA_COMPILER")
  endif()
endif()

if(TING_WITH_CUDA)
  # Hopper's own instructions need the architecture-specific target; 8.0 runs on every GPU since, as PTX on later ones.
  set(CMAKE_CUDA_ARCHITECTURES "80;90a-real" CACHE STRING "GPU architectures")
  if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
  endif()
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that new toolkits have C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  find_package(CUDAToolkit REQUIRED)
  message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
endif()

# Traces (ting bench --trace) want CUPTI's headers; its library is loaded on demand.
set(TING_WITH_CUPTI OFF)
if(TING_WITH_CUDA)
  find_path(TING_CUPTI_INCLUDE cupti.h
            HINTS ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_LIBRARY_ROOT}/extras/CUPTI/include
                  ${CUDAToolkit_TARGET_DIR}/../../extras/CUPTI/include /usr/local/cuda/extras/CUPTI/include)
  if(TING_CUPTI_INCLUDE)
    set(TING_WITH_CUPTI ON)
  else()
    message(STATUS "CUDA: no cupti.h found, ting bench --trace is left out")
  endif()
endif()

option(TING_RACECHECK "For compute-sanitizer's racecheck: see src/kernels/cuda/cluster_barrier.cuh" OFF)
if(TING_RACECHECK)
  add_compile_definitions(TING_RACECHECK)
endif()

# ting_cuda_library(NAME SOURCES a.cu b.cc DEPS libraries): as ting_library, with the CUDA runtime linked in.
function(ting_cuda_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${name} PUBLIC ${arg_DEPS} CUDA::cudart_static)
  target_compile_options(${name} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra,-Wno-unused-parameter>
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-missing-field-initializers -Wno-psabi>)
endfunction()
