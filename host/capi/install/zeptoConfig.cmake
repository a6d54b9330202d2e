# find_package(zepto): the targets zepto::zepto, shared, and zepto::static.
get_filename_component(_zepto_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_package(Threads REQUIRED)

if(NOT TARGET zepto::zepto)
  add_library(zepto::zepto SHARED IMPORTED)
  set_target_properties(zepto::zepto PROPERTIES
    IMPORTED_LOCATION "${_zepto_prefix}/lib/libzepto.so"
    IMPORTED_SONAME "libzepto.so.1"
    INTERFACE_INCLUDE_DIRECTORIES "${_zepto_prefix}/include")
  add_library(zepto::static STATIC IMPORTED)
  set_target_properties(zepto::static PROPERTIES
    IMPORTED_LOCATION "${_zepto_prefix}/lib/libzepto.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_zepto_prefix}/include"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;gcc_s;rt;m;${CMAKE_DL_LIBS}")
endif()
unset(_zepto_prefix)
