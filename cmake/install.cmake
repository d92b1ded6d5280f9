# The program, its manual page, completion, and a service: `cmake --install build --prefix /usr/local`.
include(GNUInstallDirs)
if(NOT TARGET kvasir)
    return()
endif()
set(written ${CMAKE_BINARY_DIR}/written)
add_custom_command(OUTPUT ${written}/kvasir.1 ${written}/kvasir.bash
    COMMAND ${CMAKE_COMMAND} -E make_directory ${written}
    COMMAND kvasir help --man > ${written}/kvasir.1
    COMMAND kvasir help --bash > ${written}/kvasir.bash
    DEPENDS kvasir VERBATIM)
add_custom_target(manual ALL DEPENDS ${written}/kvasir.1 ${written}/kvasir.bash)
install(TARGETS kvasir RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES ${written}/kvasir.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${written}/kvasir.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME kvasir)
# The prefix is known when it is installed, not before.
install(CODE "
    set(BINDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
    configure_file(\"${CMAKE_SOURCE_DIR}/packaging/kvasir.service\"
                   \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/kvasir.service\" @ONLY)")
install(FILES packaging/kvasir.sysusers DESTINATION lib/sysusers.d RENAME kvasir.conf)
