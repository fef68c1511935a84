# Fails if an object that was compiled for one instruction set defines anything but its table: a shared inline
# function in it could replace everyone's copy at link time, and then crash machines without those instructions.
#   cmake -DNM=nm -DOBJECTS=a.o;b.o -P check_isa_symbols.cmake
foreach(object ${OBJECTS})
  execute_process(COMMAND ${NM} --extern-only --defined-only -C ${object} OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${NM} cannot read ${object}")
  endif()
  if(NOT symbols MATCHES "kTable")
    message(FATAL_ERROR "${object} defines no table:\n${symbols}")
  endif()
  string(REGEX REPLACE "[^\n]*::kTable\n" "" others "${symbols}")
  string(STRIP "${others}" others)
  if(others)
    message(FATAL_ERROR "${object} also defines\n${others}")
  endif()
  message(STATUS "${object}: its table alone")
endforeach()
